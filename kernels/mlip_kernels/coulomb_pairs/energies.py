"""Energies of charges in each other's potential, with the forces from the pass that gives the potential.

The energy `sum of q . phi / 2` is the form L of half the charges and the charges, so that one pass gives the potential
and the gradient of the positions. Torch, which can use a potential in any way, would go over the pairs once more.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mlip_kernels.coulomb_pairs import op
from mlip_kernels.coulomb_pairs.screening import Screening
from mlip_kernels.operand_types import check_types
from mlip_kernels.segment_sum import segment_sum


def screened_energies(
    positions: Tensor,
    offsets: Tensor,
    charges: Tensor,
    screening: Screening,
    senders: Tensor,
    starts: Tensor,
    structure_starts: Tensor,
) -> tuple[Tensor, Tensor]:
    """Energies of structures by screened interactions over a list of pairs, and the potential.

    Args:
        positions: Å, float32 or float64 [atoms, 3]; the atoms of a structure stand together.
        offsets: As for `screened_potential`, like all arguments up to `starts`.
        charges: In any unit, [atoms, channels].
        screening: The function of the distance.
        senders: Of each pair, int64 [pairs].
        starts: First pair of each receiver, and the number of pairs, int64 [atoms + 1].
        structure_starts: First atom of each structure, and the number of atoms, int64 [structures + 1].

    Returns:
        `sum of q . phi / 2`, [structures, channels], and phi, [atoms, channels]; differentiable any number of times.

    Raises:
        ValueError: the operands are not all float32 or all float64.
    """
    check_types(positions, offsets, charges)
    return _energies(positions, offsets, charges, senders, starts, structure_starts, screening)


def direct_energies(positions: Tensor, charges: Tensor, structure_starts: Tensor) -> tuple[Tensor, Tensor]:
    """Energies of structures of bare charges, and the potential; arguments are those of `direct_potential`.

    Returns:
        `sum of q . phi / 2`, [structures, channels], and phi, [atoms, channels]; differentiable any number of times.

    Raises:
        ValueError: the operands are not all float32 or all float64.
    """
    check_types(positions, charges)
    return _energies(positions, None, charges, None, structure_starts, structure_starts, ())


def _energies(
    positions: Tensor,
    offsets: Tensor | None,
    charges: Tensor,
    senders: Tensor | None,
    starts: Tensor,
    structure_starts: Tensor,
    screening: Sequence[float],
) -> tuple[Tensor, Tensor]:
    forces = torch.is_grad_enabled() and positions.requires_grad
    # Gradients of several channels may be asked for in any proportion, and those of offsets have a row for each pair.
    if forces and charges.shape[1] == 1 and not (offsets is not None and offsets.requires_grad):
        energies, values, _ = energies_with_slopes(
            positions, offsets, charges, senders, starts, structure_starts, screening
        )
        return energies, values
    values = op.potential(positions, offsets, charges, senders, starts, screening)
    return _summed(charges, values, structure_starts), values


def _summed(charges: Tensor, values: Tensor, structure_starts: Tensor) -> Tensor:
    structures = structure_starts.shape[0] - 1
    energies = charges * values / 2
    if structures == 1:
        return energies.sum(0, keepdim=True)
    return segment_sum(energies, torch.repeat_interleave(structure_starts.diff()), structures)


@torch.library.custom_op("mlip_kernels::coulomb_energies", mutates_args=())
def energies_with_slopes(
    positions: Tensor,
    offsets: Tensor | None,
    charges: Tensor,
    senders: Tensor | None,
    starts: Tensor,
    structure_starts: Tensor,
    screening: Sequence[float],
) -> tuple[Tensor, Tensor, Tensor]:
    """Energies [structures, 1], potential [atoms, 1], and the gradient of the sum of energies for positions."""
    slopes, _, halves = op.implementation(positions).gradients(
        charges / 2, positions, offsets, charges, senders, starts, screening, False
    )
    values = 2 * halves
    return _summed(charges, values, structure_starts), values, slopes


@energies_with_slopes.register_fake
def _(
    positions: Tensor,
    offsets: Tensor | None,
    charges: Tensor,
    senders: Tensor | None,
    starts: Tensor,
    structure_starts: Tensor,
    screening: Sequence[float],
) -> tuple[Tensor, Tensor, Tensor]:
    kept = torch.contiguous_format
    energies = charges.new_empty(structure_starts.shape[0] - 1, 1)
    return (
        energies,
        torch.empty_like(charges, memory_format=kept),
        torch.empty_like(positions, memory_format=kept),
    )


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, ctx.screening = inputs
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(output[2])
    ctx.save_for_backward(*tensors, *output[1:])


def _differentiate(
    ctx: Any, of_energies: Tensor | None, of_values: Tensor | None, _: Tensor | None
) -> tuple[Tensor | None, ...]:
    positions, offsets, charges, senders, starts, structure_starts, values, slopes = ctx.saved_tensors
    if of_energies is None and of_values is None:
        return (None,) * 7
    weights = torch.zeros_like(charges)
    if of_energies is not None:
        weights = of_energies
        if len(of_energies) > 1:
            weights = of_energies.index_select(0, torch.repeat_interleave(structure_starts.diff()))
    if of_values is None and not torch.is_grad_enabled():
        return weights * slopes, None, weights * values, None, None, None, None
    received = weights * charges / 2
    if of_values is not None:
        received = received + of_values
    found = op.gradients(received, positions, offsets, charges, senders, starts, ctx.screening, False)
    return found[0], None, found[2] + weights * values / 2, None, None, None, None


energies_with_slopes.register_autograd(_differentiate, setup_context=_keep)
