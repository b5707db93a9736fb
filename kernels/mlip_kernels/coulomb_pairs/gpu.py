"""Pair sums on a GPU: all atoms of all structures in one launch, with gathers only."""

from collections.abc import Sequence
from typing import Any

import torch
import triton
from torch import Tensor

from mlip_kernels.coulomb_pairs.cpu_series import erfc_coefficients
from mlip_kernels.coulomb_pairs.gpu_kernels import pair_gradients, pair_potential, pair_second
from mlip_kernels.gpu_compile import CompileCase
from mlip_kernels.gpu_launch import launch

# Pairs of a tile: one or two for each lane of a warp. Of a structure several receivers share the senders that are read.
_PAIRS, _RECEIVERS = 64, 4


def potential(
    positions: Tensor,
    offsets: Tensor | None,
    charges: Tensor,
    senders: Tensor | None,
    starts: Tensor,
    screening: Sequence[float],
) -> Tensor:
    """The function of `reference.potential`."""
    result = torch.empty_like(charges, memory_format=torch.contiguous_format)
    _launch(pair_potential, [positions, offsets, charges], senders, starts, screening, [result])
    return result


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
    """The function of `reference.gradients`."""
    results = _results(positions, charges, senders, of_offsets_too)
    operands = [received, positions, offsets, charges]
    _launch(pair_gradients, operands, senders, starts, screening, results, of_offsets_too=of_offsets_too)
    of_positions, of_offsets, of_charges = results
    return of_positions, of_offsets, of_charges


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
    """The function of `reference.second`."""
    of_received = torch.empty_like(received, memory_format=torch.contiguous_format)
    of_positions, of_offsets, of_charges = _results(positions, charges, senders, of_offsets_too)
    if offsets is not None and offset_changes is None:
        offset_changes = torch.zeros_like(offsets)
    operands = [received, positions, offsets, charges, position_changes, offset_changes, charge_changes]
    results = [of_received, of_positions, of_offsets, of_charges]
    _launch(pair_second, operands, senders, starts, screening, results, of_offsets_too=of_offsets_too)
    return of_received, of_positions, of_offsets, of_charges


def _results(positions: Tensor, charges: Tensor, senders: Tensor | None, of_offsets_too: bool) -> list[Tensor]:
    pairs = len(senders) if of_offsets_too and senders is not None else 0
    kept = torch.contiguous_format
    return [
        torch.empty_like(positions, memory_format=kept),
        positions.new_empty(pairs, 3),
        torch.empty_like(charges, memory_format=kept),
    ]


def _launch(
    kernel: Any,
    operands: Sequence[Tensor | None],
    senders: Tensor | None,
    starts: Tensor,
    screening: Sequence[float],
    results: Sequence[Tensor],
    **options: bool,
) -> None:
    like = results[-1]
    listed = senders is not None
    places = starts.contiguous() if listed else _tiles(starts)
    factors = torch.tensor(screening, dtype=like.dtype, device=like.device)
    # What there is not is not read, so that any pointer will do.
    arrays = [like if each is None else each.contiguous() for each in (*operands, senders)]
    constants = _constants(like.shape[1], listed, like.dtype == torch.float64)
    grid = (len(like) if listed else len(places),)
    launch(kernel, grid, [*arrays, places, factors, *results], {**constants, **options})


def _tiles(starts: Tensor) -> Tensor:
    """First receiver of every tile, and the first and last atom of its structure, [tiles, 3]."""
    counts = starts.diff()
    tiles = (counts + _RECEIVERS - 1) // _RECEIVERS
    structures = torch.repeat_interleave(tiles)
    number = torch.arange(len(structures), device=starts.device) - (torch.cumsum(tiles, 0) - tiles)[structures]
    begin = starts[:-1][structures]
    return torch.stack([begin + number * _RECEIVERS, begin, starts[1:][structures]], 1).contiguous()


def _constants(channels: int, listed: bool, double: bool) -> dict[str, Any]:
    return {
        "channels": channels,
        "width": triton.next_power_of_2(channels),
        "receivers": 1 if listed else _RECEIVERS,
        "pairs": _PAIRS,
        "listed": listed,
        "coefficients": erfc_coefficients(double) if listed else (),
    }


def compile_cases() -> list[CompileCase]:
    """All sums of one channel, over a list with the gradients of its offsets and over all pairs."""
    cases = []
    for kernel in (pair_potential, pair_gradients, pair_second):
        for listed in (True, False):
            constants = _constants(1, listed, False)
            if kernel is not pair_potential:
                constants["of_offsets_too"] = listed
            types = dict.fromkeys(("senders", "places"), "*i64")
            signature = {name: types.get(name, "*fp32") for name in kernel.arg_names if name not in constants}
            name = f"{kernel.fn.__name__}_{'listed' if listed else 'all'}"
            cases.append(CompileCase(name, kernel, signature, constants))
    return cases
