"""Born effective charges: how the dipole changes as atoms move, periodic structures included."""

import numpy as np
import torch
from ase.geometry import find_mic
from numpy.typing import NDArray

from mlip.data.graphs import build_graph, collate_graphs
from mlip.data.structures import Structure
from mlip.errors import ConfigError
from mlip.models import Potential


def born_charges(model: Potential, structure: Structure, max_edges: int) -> NDArray[np.float64]:
    """Derivatives of the dipole by the positions, `Z[i, a, b] = d p_a / d r_ib`, [N, 3, 3] e.

    With charges q_j that depend on the positions it is `Z_i = q_i 1 + Σ_j (r_j − r_i) ⊗ dq_j/dr_i`, of the images of j
    that are nearest to i where the structure is periodic: charges that flow beyond half the cell have no definite
    dipole. Since the charges keep their total, the sum over atoms is the total charge times the unit matrix.

    The graph is repeated in a batch, and one backward pass differentiates another charge in each copy. `max_edges`
    bounds the edges of all copies.

    Raises:
        ConfigError: the model has no charges.
    """
    if model.long_range is None:
        raise ConfigError("the model has no charges, so that there are no Born charges: train one with 'long_range'.")
    graph = build_graph(structure, model.cutoff)
    count = len(structure)
    copies = min(count, max(1, max_edges // max(1, graph.edge_index.shape[1])))
    batch = collate_graphs([graph] * copies).to(model.device)
    batch.positions.requires_grad_()
    charges = model(batch, forces=False, stress=False).charges.reshape(copies, count)
    born = charges[0].detach()[:, None, None] * torch.eye(3, dtype=charges.dtype, device=charges.device)
    for start in range(0, count, copies):
        chosen = torch.arange(start, min(start + copies, count), device=charges.device)
        selected = charges[torch.arange(len(chosen), device=charges.device), chosen].sum()
        flow = torch.zeros_like(batch.positions)
        if selected.requires_grad:  # Given charges do not depend on the positions.
            (flow,) = torch.autograd.grad(
                selected, batch.positions, retain_graph=True, allow_unused=True, materialize_grads=True
            )
        flow = flow.reshape(copies, count, 3)[: len(chosen)]
        separations = torch.from_numpy(_separations(structure, chosen.tolist())).to(flow)
        born = born + torch.einsum("jia,jib->iab", separations, flow)
    return born.cpu().numpy()


def _separations(structure: Structure, chosen: list[int]) -> NDArray[np.float64]:
    """Vectors to the chosen atoms, [chosen, N, 3] Å, from all atoms, to the nearest image."""
    vectors = structure.positions[chosen][:, None, :] - structure.positions[None, :, :]
    if not structure.pbc.any():
        return vectors
    nearest, _ = find_mic(vectors.reshape(-1, 3), structure.cell, structure.pbc)
    return np.asarray(nearest.reshape(vectors.shape))
