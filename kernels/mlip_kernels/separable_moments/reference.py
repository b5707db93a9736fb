"""Definition of the maps between particles and coefficient tensors in plain torch, some particles at a time.

All are derivatives of one form, linear in each of its five operands,

    L = sum over structures s, its particles i, channels c of T[s,c,a,b,d] q[i,c] x[i,a] y[i,b] z[i,d].
"""

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor

# Numbers in the products of two factors for the particles of a run: 8 MiB in float64.
_RUN_NUMBERS = 1 << 20


def moments(charges: Tensor, x: Tensor, y: Tensor, z: Tensor, starts: Tensor) -> Tensor:
    """The gradient of L for T, [structures, channels, ra, rb, rc]."""
    shape = charges.shape[1], x.shape[1], y.shape[1], z.shape[1]
    result = charges.new_zeros(len(starts) - 1, *shape)
    for structure, run in _runs(starts, shape[2] * shape[3]):
        left = (charges[run, :, None] * x[run, None, :]).flatten(1)
        result[structure] += (left.T @ _outer(y[run], z[run])).view(shape)
    return result


def evaluation(tensor: Tensor, x: Tensor, y: Tensor, z: Tensor, starts: Tensor) -> Tensor:
    """The gradient of L for q, [particles, channels]."""
    _, channels, ra, rb, rc = tensor.shape
    result = x.new_empty(len(x), channels)
    for structure, run in _runs(starts, rb * rc):
        contracted = tensor[structure].reshape(channels * ra, rb * rc) @ _outer(y[run], z[run]).T
        result[run] = (contracted.view(channels, ra, -1) * x[run].T).sum(1).T
    return result


def gradients(
    tensor: Tensor, charges: Tensor, x: Tensor, y: Tensor, z: Tensor, starts: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The gradients of L for q, x, y and z."""
    _, channels, ra, rb, rc = tensor.shape
    results = tuple(torch.zeros_like(each) for each in (charges, x, y, z))
    of_charges, of_x, of_y, of_z = results
    for structure, run in _runs(starts, rb * rc):
        products = _outer(y[run], z[run])
        for channel in range(channels):
            matrix = tensor[structure, channel].reshape(ra, rb * rc)
            charge = charges[run, channel, None]
            of_x[run] += charge * (products @ matrix.T)
            contracted = (x[run] @ matrix).view(-1, rb, rc)
            along_z = (contracted @ z[run, :, None]).squeeze(2)
            of_y[run] += charge * along_z
            of_z[run] += charge * (y[run, None, :] @ contracted).squeeze(1)
            of_charges[run, channel] = (along_z * y[run]).sum(1)
    return of_charges, of_x, of_y, of_z


def _outer(first: Tensor, second: Tensor) -> Tensor:
    """Products of all pairs of columns, [particles, columns of both]."""
    return (first[:, :, None] * second[:, None, :]).flatten(1)


def _runs(starts: Tensor, numbers: int) -> Iterator[tuple[int, slice]]:
    """Runs of particles of one structure, with `numbers` numbers for each particle."""
    length = max(1, _RUN_NUMBERS // max(1, numbers))
    bounds = starts.tolist()
    for structure, (begin, end) in enumerate(pairwise(bounds)):
        for first in range(begin, end, length):
            yield structure, slice(first, min(first + length, end))
