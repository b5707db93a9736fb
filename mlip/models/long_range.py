"""Charges of the atoms from a network's outputs, and their electrostatic energy (the key `long_range`).

Charges are Gaussians, whose energy is that of point charges by `CoulombSolver` and a correction of short range over the
model's own edges. All of it is computed in float64: energies of charges cancel to a thousandth of themselves.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import ase.data
import torch
from torch import Tensor, nn

from mlip.electrostatics import CoulombSolver
from mlip.electrostatics.equilibration import (
    EquilibrationProblem,
    equilibrate,
    relaxation_charges,
    relaxation_energy,
)
from mlip.electrostatics.gaussian_charges import GaussianDamping, self_potential
from mlip.errors import DataError
from mlip.models.config import LARGEST_WIDTH, LongRangeConfig
from mlip.models.element_values import ElementValues
from mlip.nn.radial import xplor_cutoff
from mlip_kernels.edges import EdgeTopology
from mlip_kernels.segment_sum import segment_sum

_ENVELOPE_ONSET = 0.8
# Trainable widths approach the largest but do not reach it, and start below, where they still can be moved.
_LARGEST_INITIAL_SHARE = 0.9
# What an output of one means: e for charges, V for electronegativities, V/e for hardnesses.
_CHARGE_UNIT = 0.1


@dataclass(frozen=True)
class ChargedSystem:
    """Where the atoms of some structures are.

    Attributes:
        positions: Å, float64 [atoms, 3].
        cell: Å, float64 [structures, 3, 3].
        pbc: bool [structures, 3].
        structures: Structure of each atom, int64 [atoms], ascending.
        vectors: Of the edges, from receiver to sender, Å, float64 [edges, 3].
        edges: Their senders and receivers.
        elements: Number of each atom's element in the model's list, int64 [atoms].
        total_charge: e, float64 [structures].
        given_charges: Those that the structures bring, e, float64 [atoms], NaN where they bring none.
    """

    positions: Tensor
    cell: Tensor
    pbc: Tensor
    structures: Tensor
    vectors: Tensor
    edges: EdgeTopology
    elements: Tensor
    total_charge: Tensor
    given_charges: Tensor

    def detached(self) -> "ChargedSystem":
        """The same without gradients."""
        return replace(self, positions=self.positions.detach(), cell=self.cell.detach(), vectors=self.vectors.detach())


class Electrostatics(NamedTuple):
    """What charges come to.

    Attributes:
        energies: Share of each atom in the electrostatic energy, eV, float64 [atoms].
        charges: e, float64 [atoms].
        total_charge: What predicted charges add up to before they are corrected, e, float64 [structures]; else None.
    """

    energies: Tensor
    charges: Tensor
    total_charge: Tensor | None


class LongRange(nn.Module):
    """Charges by one of the kinds of `LongRangeConfig.charges`, and their energy.

    Predicted charges are `0.1 x_i + b[element]` for the network's output x, plus the same for every atom such that they
    add up to the total charge. Equilibrated charges minimise

        Σ χ_i q_i + ½ η_i q_i² + E_Coulomb(q),   χ_i = x_i + b[element],   η_i = softplus(y_i + c[element]).

    Args:
        config: Hyper-parameters.
        elements: Chemical symbols.
        cutoff: Of the edges, Å.
    """

    def __init__(self, config: LongRangeConfig, elements: list[str], cutoff: float) -> None:
        super().__init__()
        self.config = config
        self.cutoff = cutoff
        self.solver = CoulombSolver(tolerance=config.tolerance, cutoff=None, method=config.method)
        radii = [ase.data.covalent_radii[ase.data.atomic_numbers[symbol]] for symbol in elements]
        given = [config.widths.get(symbol, radius) for symbol, radius in zip(elements, radii, strict=True)]
        self.largest_width = LARGEST_WIDTH * cutoff
        widths = torch.tensor(given, dtype=torch.float64)
        self.widths = self.width_logits = None
        if config.trainable_widths:
            share = (widths / self.largest_width).clamp(max=_LARGEST_INITIAL_SHARE)
            self.width_logits = nn.Parameter(torch.logit(share))
        else:
            self.widths = ElementValues(widths.clamp(max=self.largest_width).tolist())
        if config.charges != "fixed":
            outputs = 1 if config.charges == "predicted" else 2
            self.biases = nn.Parameter(torch.zeros(len(elements), outputs))
        elif config.element_charges:
            self.element_charges = ElementValues([config.element_charges[symbol] for symbol in elements])

    def forward(self, outputs: Tensor, system: ChargedSystem) -> Electrostatics:
        """Compute charges and energies.

        Args:
            outputs: Of the network, beyond the energy's, [atoms, 0, 1 or 2 by the kind of charges].
            system: The atoms.

        Raises:
            DataError: charges that the structures have to bring are missing.
            StructureError: charges do not come to equilibrium, or the solver refuses the structure.
        """
        kind = self.config.charges
        if kind == "equilibrated":
            return self._equilibrated(outputs, system)
        total_charge = None
        if kind == "predicted":
            charges, total_charge = self._predicted(outputs, system)
        else:
            charges = self._fixed(system)
        potential = self._potential(charges, system, self._damping(system))
        return Electrostatics(0.5 * charges * potential, charges, total_charge)

    def _predicted(self, outputs: Tensor, system: ChargedSystem) -> tuple[Tensor, Tensor]:
        """Charges, and what they add up to before they are corrected."""
        raw = (_CHARGE_UNIT * outputs[:, 0] + self.biases[system.elements, 0]).to(torch.float64)
        count = torch.bincount(system.structures, minlength=len(system.total_charge))
        total = segment_sum(raw, system.structures, len(count))
        return raw + ((system.total_charge - total) / count)[system.structures], total

    def _fixed(self, system: ChargedSystem) -> Tensor:
        if self.config.element_charges:
            return self.element_charges(system.elements)
        if bool(system.given_charges.isnan().any()):
            raise DataError(
                "the model takes the charges of atoms from the structure, which has none: give an array 'charges', in "
                "e, or train a model with 'long_range.element_charges'."
            )
        return system.given_charges

    def _equilibrated(self, outputs: Tensor, system: ChargedSystem) -> Electrostatics:
        levels = (outputs + self.biases[system.elements]).to(torch.float64)
        electronegativity, hardness = levels[:, 0], nn.functional.softplus(levels[:, 1])
        problem = self._problem(hardness.detach(), system.detached())
        charges = equilibrate(problem, electronegativity.detach(), system.total_charge)
        potential = self._potential(charges, system, self._damping(system))
        gradient = electronegativity + hardness * charges + potential
        relaxation = relaxation_energy(problem, gradient) / problem.total(torch.ones_like(charges))
        energies = charges * (electronegativity + 0.5 * hardness * charges + 0.5 * potential)
        return Electrostatics(
            energies + problem.spread(relaxation), charges + relaxation_charges(problem, gradient), None
        )

    def _problem(self, hardness: Tensor, system: ChargedSystem) -> EquilibrationProblem:
        with torch.no_grad():
            damping = self._damping(system)
            diagonal = hardness + self_potential(torch.ones_like(hardness), damping.widths)
            potentials = self.solver.operator(system.positions, system.cell, system.pbc, system.structures)

        def operator(charges: Tensor) -> Tensor:
            with torch.no_grad():
                return hardness * charges + potentials(charges) + damping.potential(charges)

        return EquilibrationProblem(operator, diagonal, system.structures, len(system.total_charge))

    def _potential(self, charges: Tensor, system: ChargedSystem, damping: GaussianDamping) -> Tensor:
        """Potential of Gaussian charges at each of them, their own included, V [atoms]."""
        result = self.solver(system.positions, charges, system.cell, system.pbc, system.structures)
        return result.potential + damping.potential(charges)

    def _damping(self, system: ChargedSystem) -> GaussianDamping:
        distances = torch.linalg.vector_norm(system.vectors, dim=1)
        envelope = xplor_cutoff(distances, self.cutoff, _ENVELOPE_ONSET * self.cutoff)
        widths = self._widths(system.elements)
        return GaussianDamping(widths, distances, envelope, system.edges.senders, system.edges.receivers)

    def _widths(self, elements: Tensor) -> Tensor:
        """Standard deviations of the atoms' charges, Å, float64 [atoms]."""
        if self.widths is not None:
            fixed: Tensor = self.widths(elements)
            return fixed
        assert self.width_logits is not None
        return self.largest_width * self.width_logits.to(torch.float64).sigmoid()[elements]


class ChargedSites(NamedTuple):
    """Structures as they are given: fields of the same names of `ChargedSystem`."""

    positions: Tensor
    cell: Tensor
    pbc: Tensor
    total_charge: Tensor
    given_charges: Tensor


def charged_system(
    sites: ChargedSites, structures: Tensor, vectors: Tensor, edges: EdgeTopology, elements: Tensor, stress: bool
) -> tuple[ChargedSystem, list[Tensor]]:
    """The atoms of structures, and what their energy depends on beside edge vectors: positions, a strain of zero.

    Args:
        sites: The structures.
        structures: Structure of each atom, int64 [atoms].
        vectors: Of the edges, Å, float64 [edges, 3].
        edges: Senders and receivers.
        elements: Number of each atom's element in the model's list, int64 [atoms].
        stress: Whether there is to be a strain, [structures, 3, 3].
    """
    # A copy, since edge vectors depend on the positions themselves.
    positions, cell = sites.positions.clone(), sites.cell
    if torch.is_grad_enabled() and not positions.requires_grad:
        positions.requires_grad_()
    places, variables = positions, [positions]
    if stress:
        strain = torch.zeros_like(cell).requires_grad_(torch.is_grad_enabled())
        symmetric = 0.5 * (strain + strain.transpose(1, 2))
        places = positions + (positions[:, None, :] @ symmetric[structures])[:, 0]
        cell = cell + cell @ symmetric
        variables.append(strain)
    system = ChargedSystem(
        places, cell, sites.pbc, structures, vectors, edges, elements, sites.total_charge, sites.given_charges
    )
    return system, variables
