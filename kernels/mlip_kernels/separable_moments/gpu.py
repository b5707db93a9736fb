"""The maps between particles and coefficient tensors on a GPU: all structures in one launch, no atomics."""

from typing import Any

import torch
import triton
from torch import Tensor

from mlip_kernels.gpu_compile import CompileCase
from mlip_kernels.gpu_launch import launch
from mlip_kernels.separable_moments import reference
from mlip_kernels.separable_moments.gpu_kernels import contraction_at_particles, moments_of_particles

# Sides of a tile of a matrix product: 16 at least; rows and columns of the moments at most, and particles at a time.
_SIDE, _ROWS, _COLUMNS, _RUN = 16, 64, 64, 32
# Numbers of a tile of particles and values of the third axis.
_TILE = 2048
# Values of the first and the third axis up to which those of a particle fit a tile; libraries serve larger ones well.
_LARGEST = 128
# Programs that fill a GPU, and particles for which it pays to sum apart.
_PROGRAMS, _SLICE = 1024, 128


def moments(charges: Tensor, x: Tensor, y: Tensor, z: Tensor, starts: Tensor) -> Tensor:
    """The function of `reference.moments`."""
    structures, channels = len(starts) - 1, charges.shape[1]
    ranks = x.shape[1], y.shape[1], z.shape[1]
    constants = _moment_constants(ranks[0])
    tiles = triton.cdiv(ranks[1] * ranks[2], constants["columns"]), triton.cdiv(ranks[0], constants["rows"])
    owners = structures * channels
    # Few structures of many particles: parts of these are summed apart.
    programs, particles = max(1, owners * tiles[0] * tiles[1]), len(x) // max(1, structures)
    slices = max(1, min(_PROGRAMS // programs, particles // _SLICE))
    parts = x.new_empty(structures, channels, slices, *ranks)
    arrays = [each.contiguous() for each in (charges, x, y, z, starts)]
    launch(
        moments_of_particles, (owners * slices, *tiles), [*arrays, parts, channels, slices, *ranks], constants, _WARPS
    )
    return parts[:, :, 0] if slices == 1 else parts.sum(2)


def evaluation(tensor: Tensor, x: Tensor, y: Tensor, z: Tensor, starts: Tensor) -> Tensor:
    """The function of `reference.evaluation`."""
    if z.shape[1] > _LARGEST:
        return reference.evaluation(tensor, x, y, z, starts)
    # Charges are not read, nor other gradients written.
    return _contract("values", tensor, x, x, y, z, starts)[0]


def gradients(
    tensor: Tensor, charges: Tensor, x: Tensor, y: Tensor, z: Tensor, starts: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The function of `reference.gradients`."""
    if max(x.shape[1], z.shape[1]) > _LARGEST:
        return reference.gradients(tensor, charges, x, y, z, starts)
    of_charges, of_y, of_z = _contract("gradients", tensor, charges, x, y, z, starts)
    _, _, of_x = _contract("last", tensor.permute(0, 1, 4, 3, 2), charges, z, y, x, starts)
    return of_charges, of_x, of_y, of_z


def _contract(
    reduction: str, tensor: Tensor, charges: Tensor, x: Tensor, y: Tensor, z: Tensor, starts: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Contract tensors with the factors of the first axis; gradients of charges, second and third factors."""
    _, channels, *ranks = tensor.shape
    constants = _particle_constants(ranks[2], channels, reduction)
    tiles = _tiles(starts, constants["particles"])
    results = x.new_empty(len(x), channels), torch.empty_like(y), torch.empty_like(z)
    arrays = [each.contiguous() for each in (tensor, charges, x, y, z, tiles, *results)]
    launch(contraction_at_particles, (len(tiles),), [*arrays, channels, *ranks], constants, _WARPS)
    return arrays[6], arrays[7], arrays[8]


# Of a program: tiles of 64 by 64 numbers are 32 for each of 128 threads.
_WARPS = 4


def _moment_constants(first: int) -> dict[str, Any]:
    rows = min(_ROWS, max(_SIDE, triton.next_power_of_2(first)))
    return {"rows": rows, "columns": _COLUMNS, "run": _RUN}


def _particle_constants(third: int, channels: int, reduction: str) -> dict[str, Any]:
    width = max(_SIDE, triton.next_power_of_2(third))
    return {
        "particles": _TILE // width,
        "width": width,
        "depth": _SIDE,
        "width_channels": triton.next_power_of_2(channels),
        "reduction": reduction,
    }


def _tiles(starts: Tensor, particles: int) -> Tensor:
    """Structure of every tile of particles, its first particle, and the structure's last, [tiles, 3]."""
    counts = starts.diff()
    tiles = (counts + particles - 1) // particles
    structures = torch.repeat_interleave(tiles)
    number = torch.arange(len(structures), device=starts.device) - (torch.cumsum(tiles, 0) - tiles)[structures]
    return torch.stack([structures, starts[:-1][structures] + number * particles, starts[1:][structures]], 1)


def compile_cases() -> list[CompileCase]:
    """One channel, with the ranks of small and of large tiles."""
    cases = []
    for rank in (32, 128):
        forms: list[tuple[str, Any, dict[str, Any]]] = [
            ("moments", moments_of_particles, _moment_constants(rank)),
            *(
                (reduction, contraction_at_particles, _particle_constants(rank, 1, reduction))
                for reduction in ("values", "gradients", "last")
            ),
        ]
        for name, kernel, constants in forms:
            types = dict.fromkeys(("channels", "slices", "ra", "rb", "rc"), "i32")
            types |= dict.fromkeys(("starts", "tiles"), "*i64")
            signature = {each: types.get(each, "*fp32") for each in kernel.arg_names if each not in constants}
            cases.append(CompileCase(f"{name}_{rank}", kernel, signature, constants, _WARPS))
    return cases
