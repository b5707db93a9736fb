"""The pair sums as torch operations.

The potential, its gradients and the gradients of these are kernels; derivatives beyond are plain torch, in runs of
pairs.
"""

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from mlip_kernels.backends import available_backend, kernels
from mlip_kernels.coulomb_pairs import reference
from mlip_kernels.coulomb_pairs.screening import Screening
from mlip_kernels.operand_types import check_types


def screened_potential(
    positions: Tensor, offsets: Tensor, charges: Tensor, screening: Screening, senders: Tensor, starts: Tensor
) -> Tensor:
    """Potential of screened charges, summed over a list of pairs: `sum of q_j u(r_ij)`.

    With every pair the list has its reverse, whose offset is the opposite. That holds for changes of offsets too:
    derivatives are right for offsets that are functions of a cell, with which both change.

    Args:
        positions: Å, float32 or float64 [atoms, 3].
        offsets: What is added to the sender's position, Å [pairs, 3].
        charges: Of the senders, in any unit, [atoms, channels].
        screening: The function u.
        senders: Of each pair, ordered by receiver, int64 [pairs].
        starts: First pair of each receiver, and the number of pairs, int64 [atoms + 1].

    Returns:
        Unit of the charges per Å, [atoms, channels]; differentiable any number of times.

    Raises:
        ValueError: the operands are not all float32 or all float64.
    """
    check_types(positions, offsets, charges)
    result: Tensor = potential(positions, offsets, charges, senders, starts, screening)
    return result


def direct_potential(positions: Tensor, charges: Tensor, structure_starts: Tensor) -> Tensor:
    """Potential of bare charges, summed over all other atoms of a structure: `sum of q_j / r_ij`.

    Args:
        positions: Å, float32 or float64 [atoms, 3]; the atoms of a structure stand together.
        charges: In any unit, [atoms, channels].
        structure_starts: First atom of each structure, and the number of atoms, int64 [structures + 1].

    Returns:
        Unit of the charges per Å, [atoms, channels]; differentiable any number of times.

    Raises:
        ValueError: the operands are not all float32 or all float64.
    """
    check_types(positions, charges)
    result: Tensor = potential(positions, None, charges, None, structure_starts, ())
    return result


def implementation(like: Tensor) -> ModuleType:
    """`reference`, `cpu` or `gpu`."""
    return reference if available_backend(like.device) == "reference" else kernels("coulomb_pairs", like.device)


@torch.library.custom_op("mlip_kernels::coulomb_potential", mutates_args=())
def potential(
    positions: Tensor,
    offsets: Tensor | None,
    charges: Tensor,
    senders: Tensor | None,
    starts: Tensor,
    screening: Sequence[float],
) -> Tensor:
    """`reference.potential`."""
    result: Tensor = implementation(positions).potential(positions, offsets, charges, senders, starts, screening)
    return result


@torch.library.custom_op("mlip_kernels::coulomb_gradients", mutates_args=())
def gradients(
    received: Tensor,
    positions: Tensor,
    offsets: Tensor | None,
    charges: Tensor,
    senders: Tensor | None,
    starts: Tensor,
    screening: Sequence[float],
    of_offsets_too: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """`reference.gradients`."""
    result: tuple[Tensor, Tensor, Tensor] = implementation(positions).gradients(
        received, positions, offsets, charges, senders, starts, screening, of_offsets_too
    )
    return result


@torch.library.custom_op("mlip_kernels::coulomb_second", mutates_args=())
def second(
    received: Tensor,
    positions: Tensor,
    offsets: Tensor | None,
    charges: Tensor,
    position_changes: Tensor,
    offset_changes: Tensor | None,
    charge_changes: Tensor,
    senders: Tensor | None,
    starts: Tensor,
    screening: Sequence[float],
    of_offsets_too: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`reference.second`."""
    operands = received, positions, offsets, charges, position_changes, offset_changes, charge_changes
    result: tuple[Tensor, Tensor, Tensor, Tensor] = implementation(positions).second(
        *operands, senders, starts, screening, of_offsets_too
    )
    return result


def _like(tensor: Tensor) -> Tensor:
    return torch.empty_like(tensor, memory_format=torch.contiguous_format)


def _new_offsets(positions: Tensor, senders: Tensor | None, wanted: bool) -> Tensor:
    return positions.new_empty(senders.shape[0] if wanted and senders is not None else 0, 3)


@potential.register_fake
def _(
    positions: Tensor,
    offsets: Tensor | None,
    charges: Tensor,
    senders: Tensor | None,
    starts: Tensor,
    screening: Sequence[float],
) -> Tensor:
    return _like(charges)


@gradients.register_fake
def _(
    received: Tensor,
    positions: Tensor,
    offsets: Tensor | None,
    charges: Tensor,
    senders: Tensor | None,
    starts: Tensor,
    screening: Sequence[float],
    of_offsets_too: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    return _like(positions), _new_offsets(positions, senders, of_offsets_too), _like(charges)


@second.register_fake
def _(
    received: Tensor,
    positions: Tensor,
    offsets: Tensor | None,
    charges: Tensor,
    position_changes: Tensor,
    offset_changes: Tensor | None,
    charge_changes: Tensor,
    senders: Tensor | None,
    starts: Tensor,
    screening: Sequence[float],
    of_offsets_too: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    of_offsets = _new_offsets(positions, senders, of_offsets_too)
    return _like(received), _like(positions), of_offsets, _like(charges)


def _keep_potential(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    *tensors, ctx.screening = inputs
    ctx.save_for_backward(*tensors)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    *tensors, ctx.screening, ctx.of_offsets_too = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*tensors)


def _differentiate_potential(ctx: Any, received: Tensor) -> tuple[Tensor | None, ...]:
    too = ctx.needs_input_grad[1]
    of_positions, of_offsets, of_charges = gradients(received, *ctx.saved_tensors, ctx.screening, too)
    return of_positions, of_offsets if too else None, of_charges, None, None, None


def _differentiate_gradients(
    ctx: Any, of_positions: Tensor | None, of_offsets: Tensor | None, of_charges: Tensor | None
) -> tuple[Tensor | None, ...]:
    received, positions, offsets, charges, senders, starts = ctx.saved_tensors
    changes = (
        torch.zeros_like(positions) if of_positions is None else of_positions,
        of_offsets if ctx.of_offsets_too else None,
        torch.zeros_like(charges) if of_charges is None else of_charges,
    )
    too = ctx.needs_input_grad[2]
    found = second(received, positions, offsets, charges, *changes, senders, starts, ctx.screening, too)
    return found[0], found[1], found[2] if too else None, found[3], None, None, None, None


def _differentiate_second(ctx: Any, *cotangents: Tensor | None) -> tuple[Tensor | None, ...]:
    """Third derivatives, which nothing that has to be fast needs."""
    *operands, senders, starts = ctx.saved_tensors
    again = torch.is_grad_enabled()
    with torch.enable_grad():
        # Views, since one of these may have been computed from another, and partial derivatives are wanted.
        inputs: list[Any] = [
            each if each is None else (each if each.requires_grad else each.detach().requires_grad_()).view_as(each)
            for each in operands
        ]
        present = [each for each in inputs if each is not None]
        totals = [torch.zeros_like(each) for each in present]
        # `second` differentiates for its first operands, of which the third are the offsets.
        pairs = [
            (inputs[number], cotangent)
            for number, cotangent in enumerate(cotangents)
            if cotangent is not None and (number != 2 or ctx.of_offsets_too)
        ]
        for run in reference.pair_runs(senders, starts) if pairs else ():
            sources, given = zip(*pairs, strict=True)
            first = torch.autograd.grad(reference.change(run, ctx.screening, *inputs), sources, create_graph=True)
            found = torch.autograd.grad(first, present, given, create_graph=again, materialize_grads=True)
            totals = [total + part for total, part in zip(totals, found, strict=True)]
    parts = iter(totals)
    return *(None if each is None else next(parts) for each in inputs), None, None, None, None


potential.register_autograd(_differentiate_potential, setup_context=_keep_potential)
gradients.register_autograd(_differentiate_gradients, setup_context=_keep)
second.register_autograd(_differentiate_second, setup_context=_keep)
