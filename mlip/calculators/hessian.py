"""Second derivatives of the energy, exact by automatic differentiation of the forces."""

import numpy as np
import torch
from numpy.typing import NDArray

from mlip.data.graphs import build_graph, collate_graphs
from mlip.data.structures import Structure
from mlip.models import Potential


def hessian(model: Potential, structure: Structure, max_edges: int) -> NDArray[np.float64]:
    """Second derivatives of the energy by the positions, [3N, 3N] eV/Å², ordered x0, y0, z0, x1, …

    The graph is repeated in a batch, and one backward pass differentiates another force component in each copy: many
    rows at a time with the operations that a model has anyway. `max_edges` bounds the edges of all copies.
    """
    graph = build_graph(structure, model.cutoff)
    count = 3 * len(structure)
    copies = min(count, max(1, max_edges // max(1, graph.edge_index.shape[1])))
    batch = collate_graphs([graph] * copies).to(model.device)
    batch.positions.requires_grad_()
    forces = model(batch, forces=True, stress=False).forces.reshape(copies, count)
    rows = []
    for start in range(0, count, copies):
        components = torch.arange(start, min(start + copies, count), device=forces.device)
        selected = forces[torch.arange(len(components), device=forces.device), components].sum()
        (derivative,) = torch.autograd.grad(selected, batch.positions, retain_graph=True)
        rows.append(-derivative.reshape(copies, count)[: len(components)].detach())
    matrix = torch.cat(rows).cpu().numpy()
    return 0.5 * (matrix + matrix.T)  # Symmetric by theory; this takes out the rounding.
