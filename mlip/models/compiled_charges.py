"""Charges of a compiled potential: their energy, forces and virial, and what the network's program has to pass back."""

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from mlip.models.long_range import ChargedSites, LongRange, charged_system
from mlip_kernels.edges import EdgeTopology
from mlip_kernels.inference.pairs import Pairs


@dataclass(frozen=True, eq=False)
class Surroundings:
    """What the energy of charges depends on beside the atoms; by default nothing is periodic and all is neutral.

    Attributes:
        cell: Å, float64 [3, 3].
        pbc: bool [3].
        total_charge: e.
        charges: Those that the structure brings, e, float64 [atoms], or None.
    """

    cell: NDArray[np.float64] = field(default_factory=lambda: np.zeros((3, 3)))
    pbc: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(3, dtype=bool))
    total_charge: float = 0.0
    charges: NDArray[np.float64] | None = None


class ChargeResponse:
    """The electrostatics of one structure, by autograd from the network's further outputs on; a `Response`.

    Args:
        long_range: The model of the charges.
        positions: Å, float64 [atoms, 3].
        elements: Number of each atom's element, int64 [atoms].
        pairs: Those nearer than the model's cutoff, and maybe others.
        surroundings: Cell and total charge.

    Attributes:
        energies: Share of each atom, eV, float64 [atoms]; like all results, known after the call.
        charges: e, float64 [atoms].
        forces: At fixed outputs, eV/Å, float64 [atoms, 3].
        virial: The same, eV, float64 [3, 3].
    """

    energies: NDArray[np.float64]
    charges: NDArray[np.float64]
    forces: NDArray[np.float64]
    virial: NDArray[np.float64]

    def __init__(
        self,
        long_range: LongRange,
        positions: NDArray[np.float64],
        elements: NDArray[np.int64],
        pairs: Pairs,
        surroundings: Surroundings,
    ) -> None:
        self._long_range = long_range
        self._positions = torch.from_numpy(positions)
        self._elements = torch.from_numpy(elements)
        self._pairs = pairs
        self._surroundings = surroundings

    def __call__(self, outputs: NDArray[np.float64]) -> NDArray[np.float64]:
        """Compute all results; returns the derivatives of the energy for the outputs, float64 [atoms, outputs].

        Raises:
            DataError, StructureError: those of `LongRange`.
        """
        given = torch.from_numpy(outputs).requires_grad_()
        edges = self._edges()
        vectors = self._positions[edges.senders] - self._positions[edges.receivers]
        vectors = (vectors + torch.from_numpy(self._pairs.offsets)).requires_grad_()
        with torch.enable_grad():
            structures = torch.zeros_like(self._elements)
            system, variables = charged_system(self._sites(), structures, vectors, edges, self._elements, stress=True)
            found = self._long_range(given, system)
            of_outputs, of_vectors, of_positions, of_strain = torch.autograd.grad(
                found.energies.sum(), [given, vectors, *variables], materialize_grads=True
            )
        pulls = torch.zeros_like(of_positions).index_add_(0, edges.receivers, of_vectors)
        pulls.index_add_(0, edges.senders, of_vectors, alpha=-1.0)
        self.energies = found.energies.detach().numpy()
        self.charges = found.charges.detach().numpy()
        self.forces = (pulls - of_positions).numpy()
        self.virial = (vectors.detach().T @ of_vectors + of_strain[0]).numpy()
        derivatives: NDArray[np.float64] = of_outputs.numpy()
        return derivatives

    def _edges(self) -> EdgeTopology:
        starts = torch.from_numpy(self._pairs.starts)
        receivers = torch.repeat_interleave(torch.arange(len(starts) - 1), starts.diff())
        return EdgeTopology(torch.from_numpy(self._pairs.senders), receivers, len(self._positions))

    def _sites(self) -> ChargedSites:
        around = self._surroundings
        charges = np.full(len(self._positions), np.nan) if around.charges is None else around.charges
        return ChargedSites(
            self._positions,
            torch.from_numpy(around.cell)[None],
            torch.from_numpy(around.pbc)[None],
            torch.tensor([around.total_charge], dtype=torch.float64),
            torch.from_numpy(charges),
        )
