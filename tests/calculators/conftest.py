"""A potential with a known formula, so that the calculator can be checked apart from any network."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from ase import Atoms
from torch import Tensor, nn

from mlip import MLIPCalculator
from mlip.data.graphs import AtomicGraph
from mlip.models import Prediction


class LennardJones(nn.Module):
    """Lennard-Jones with a smooth cutoff, ε a parameter in eV, σ in Å; the interface of `mlip.models.Potential`.

    Below the onset it is ASE's `LennardJones(smooth=True, ro=onset, rc=cutoff)`: same formula, written independently.
    """

    def __init__(self, sigma: float = 2.2, epsilon: float = 0.05, cutoff: float = 5.0, onset: float = 3.0) -> None:
        super().__init__()
        self.epsilon = nn.Parameter(torch.tensor(epsilon, dtype=torch.float64))
        self.sigma, self.cutoff, self.onset = sigma, cutoff, onset
        self.elements = ["H", "C", "O", "Ar"]
        self.long_range = None
        self.largest_batch = 0  # edges

    @property
    def device(self) -> torch.device:
        return self.epsilon.device

    def forward(self, graph: AtomicGraph, forces: bool = True, stress: bool = False) -> Prediction:
        self.largest_batch = max(self.largest_batch, graph.edge_index.shape[1])
        batch = graph.batch if graph.batch is not None else torch.zeros_like(graph.atomic_numbers)
        keep = graph.positions.requires_grad
        count = len(graph.cell)
        with torch.enable_grad():
            positions = graph.positions if keep else graph.positions.detach().requires_grad_()
            strain = torch.zeros(count, 3, 3, dtype=torch.float64, requires_grad=True)
            deformation = torch.eye(3, dtype=torch.float64) + 0.5 * (strain + strain.transpose(1, 2))
            senders, receivers = graph.edge_index
            vectors = positions[senders] - positions[receivers] + graph.edge_offsets
            vectors = torch.einsum("ex,exy->ey", vectors, deformation[batch[receivers]])
            energies = positions.new_zeros(len(positions)).index_add(0, receivers, 0.5 * self._pair(vectors))
            total = energies.new_zeros(count).index_add(0, batch, energies)
            gradient, virial = torch.autograd.grad(
                total.sum(), (positions, strain), create_graph=keep, allow_unused=True, materialize_grads=True
            )
        volume = torch.linalg.det(graph.cell).abs()
        scale = torch.where(volume > 0, 1 / volume.clamp(min=1e-12), 0.0)
        stresses = virial * scale[:, None, None] if stress else None
        return Prediction(total.detach(), energies.detach(), -gradient if keep else -gradient.detach(), stresses)

    def _pair(self, vectors: Tensor) -> Tensor:
        squared = vectors.square().sum(1)
        sixth = (self.sigma**2 / squared) ** 3
        x = ((squared - self.onset**2) / (self.cutoff**2 - self.onset**2)).clamp(0, 1)
        return 4 * self.epsilon * (sixth**2 - sixth) * (1 - x**2 * (3 - 2 * x))


@pytest.fixture(params=[True, False], ids=["compiled", "as_it_is"])
def calculator_of(request: pytest.FixtureRequest) -> Callable[..., MLIPCalculator]:
    """Makes calculators that compile their model, and such that do not."""
    return partial(MLIPCalculator, compile=request.param)


@pytest.fixture
def potential() -> LennardJones:
    """The potential in float64."""
    return LennardJones()


def _fluid(atoms: Atoms, amplitude: float, seed: int) -> Atoms:
    atoms.positions += amplitude * np.random.default_rng(seed).uniform(-1, 1, (len(atoms), 3))
    return atoms


def _grid(counts: tuple[int, int, int], spacing: float = 2.6) -> np.ndarray:
    axes = np.meshgrid(*(np.arange(n) for n in counts), indexing="ij")
    return spacing * np.stack(axes, axis=-1).reshape(-1, 3)


@pytest.fixture(params=["molecule", "slab", "wire", "skewed", "outside", "tiny"])
def system(request: pytest.FixtureRequest) -> Atoms:
    """Structures of every kind of periodicity, none of them symmetric."""
    rng = np.random.default_rng(3)
    match request.param:
        case "molecule":
            atoms = Atoms("CO2H4", positions=_grid((7, 1, 1)))
        case "slab":  # no cell vector in the open direction
            atoms = Atoms("C18", positions=_grid((3, 3, 2)), cell=[8.0, 8.2, 0], pbc=[True, True, False])
        case "wire":
            atoms = Atoms("Ar8", positions=_grid((2, 2, 2)), cell=[0, 5.4, 0], pbc=[False, True, False])
        case "skewed":
            cell = [[8.1, 0, 0], [3.5, 7.4, 0], [-2.2, 3.1, 7.9]]
            atoms = Atoms("Ar27", scaled_positions=_grid((3, 3, 3), 1 / 3), cell=cell, pbc=True)
        case "outside":
            atoms = Atoms("Ar27", positions=_grid((3, 3, 3)), cell=[8.0, 8.1, 8.2], pbc=True)
            atoms.positions += rng.integers(-3, 4, (27, 3)) @ atoms.cell.array
        case "tiny":  # far smaller than the cutoff
            atoms = Atoms("Ar2", positions=[[0, 0, 0], [1.4, 1.3, 1.5]], cell=[2.9, 2.8, 3.0], pbc=True)
    return _fluid(atoms, 0.15, seed=5)
