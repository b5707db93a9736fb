"""From products of cosines and sines to structure factors, in real numbers.

Along p periodic directions the basis has 2ᵖ kinds of products, of cosines and sines. A structure factor
S(m₁, ±m₂, ±m₃) = Σ q exp(2πi (m₁ s₁ ± m₂ s₂ ± m₃ s₃)) combines the products of even parity in its real part, and those
of odd parity in its imaginary part. These 2ᵖ⁻¹ factors are as many numbers as the products, in any cell, and the
kernel is diagonal in them.
"""

import itertools

import torch
from torch import Tensor
from torch.nn.functional import pad


def split_parities(tensor: Tensor, periodic: int) -> Tensor:
    """Coefficients [systems, 2n₁−1, …, 2n_p−1, rest] sorted by kind, [systems, 2ᵖ, n₁, …, n_p, rest].

    The kind is the number whose binary digits, first direction first, tell the sines; sin 0 is a zero.
    """
    for axis in range(periodic):
        axis = 2 * axis + 1  # those before have become two each
        count = (tensor.shape[axis] + 1) // 2
        cosines, sines = tensor.split([count, count - 1], dim=axis)
        trailing = tensor.ndim - 1 - axis
        tensor = torch.stack([cosines, pad(sines, (0, 0) * trailing + (1, 0))], dim=axis)
    kinds = [1 + 2 * axis for axis in range(periodic)]
    others = [axis for axis in range(1, tensor.ndim) if axis not in kinds]
    return tensor.permute(0, *kinds, *others).flatten(1, periodic)


def merge_parities(tensor: Tensor, periodic: int) -> Tensor:
    """The transpose of `split_parities`."""
    tensor = tensor.unflatten(1, (2,) * periodic)
    for axis in range(periodic):
        # The kinds of the directions that are left come first.
        left = periodic - axis
        cosines, sines = tensor.unbind(1)
        place = left - 1 + axis + 1
        tensor = torch.cat([cosines, sines.narrow(place, 1, sines.shape[place] - 1)], dim=place)
    return tensor


def structure_factor_matrix(periodic: int) -> Tensor:
    """Signs of each kind in each real or imaginary part, float64 [2ᵖ, 2ᵖ].

    Rows 2j and 2j + 1 are the real and the imaginary part with the j-th of `sign_patterns`.
    """
    matrix = torch.zeros(2**periodic, 2**periodic, dtype=torch.float64)
    for number, signs in enumerate(sign_patterns(periodic)):
        for kind, sines in enumerate(itertools.product((0, 1), repeat=periodic)):
            total = sum(sines)
            sign = -1.0 if total % 4 in (2, 3) else 1.0  # powers of i
            for sine, direction in zip(sines, signs, strict=True):
                sign *= direction if sine else 1
            matrix[2 * number + total % 2, kind] = sign
    return matrix


def sign_patterns(periodic: int) -> list[tuple[int, ...]]:
    """The signs of (m₁, …, m_p) that stand for all others, m₁ always positive."""
    return [(1, *rest) for rest in itertools.product((1, -1), repeat=periodic - 1)]


def multiplicities(counts: tuple[int, ...]) -> Tensor:
    """How often each (m₁, …, m_p) of a sign pattern counts in a sum over all integers, float64 [n₁, …, n_p]."""
    result = torch.ones(counts, dtype=torch.float64)
    for axis, count in enumerate(counts):
        # m₁ and −m₁ have conjugate factors; where another is 0, both its signs are the same factor.
        factors = torch.full((count,), 2.0 if axis == 0 else 1.0, dtype=torch.float64)
        factors[0] = 1.0 if axis == 0 else 0.5
        result = result * factors.reshape(-1, *(1,) * (len(counts) - 1 - axis))
    return result
