"""Tucker tensors of three axes: truncation with known error, alternating least squares, sums.

A tensor is written core ×₁ U₁ ×₂ U₂ ×₃ U₃ with factors U of orthonormal columns, so that Frobenius norms and errors of
the tensor are those of its core. All is done in the dtype and on the device of the tensors given.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

Factors = tuple[torch.Tensor, torch.Tensor, torch.Tensor]

# Alternating least squares gains per cents over the truncated singular value decomposition, most in the first sweep.
_SWEEPS = 10
_LEAST_GAIN = 1e-2
# Directions dropped before the ranks are chosen take this share of the error allowed.
_EARLY_SHARE = 1e-2


@dataclass(frozen=True)
class Tucker:
    """Core `[r₁, r₂, r₃]` and three factors `[n_d, r_d]` with orthonormal columns."""

    core: torch.Tensor
    factors: Factors

    @property
    def norm(self) -> float:
        """Frobenius norm of the tensor."""
        return float(self.core.norm())

    def full(self) -> torch.Tensor:
        """All elements, `[n₁, n₂, n₃]`."""
        return transform(self.core, self.factors)


def transform(tensor: torch.Tensor, matrices: Sequence[torch.Tensor]) -> torch.Tensor:
    """Multiply axis d of a tensor `[n₁, n₂, n₃]` by matrix d `[m_d, n_d]`, giving `[m₁, m₂, m₃]`."""
    for axis, matrix in enumerate(matrices):
        tensor = torch.tensordot(matrix, tensor, dims=([1], [axis])).movedim(0, axis)
    return tensor


def unfold(tensor: torch.Tensor, axis: int) -> torch.Tensor:
    """The matrix `[n_axis, product of the others]` of a tensor."""
    return tensor.movedim(axis, 0).flatten(1)


def left_singular(matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Left singular vectors `[n, k]` and singular values `[k]`, falling, of `[n, m]`, k = min(n, m).

    A wide matrix is reduced by QR first: as accurate as the decomposition of the whole, unlike its Gram matrix.
    """
    if matrix.shape[1] > matrix.shape[0]:
        matrix = torch.linalg.qr(matrix.mT, mode="r").R.mT
    vectors, values, _ = torch.linalg.svd(matrix, full_matrices=False)
    return vectors, values


def rank_within(values: torch.Tensor, allowed: float) -> int:
    """The least rank, at least 1, beyond which the root of the sum of squares of singular values is ≤ `allowed`."""
    tails = values.square().flip(0).cumsum(0).flip(0).sqrt()
    return max(1, int((tails > allowed).sum()))


def compress(tensor: Tucker, tolerance: float) -> tuple[Tucker, float]:
    """Truncate to a relative tolerance in the Frobenius norm; returns the result and its absolute error.

    The higher-order singular value decomposition (De Lathauwer et al. 2000) orders the core; of all leading blocks
    whose error, known exactly, is within the tolerance the one that takes least memory is kept, and alternating least
    squares then improves the subspaces at these ranks (as in Benner et al. 2025, arXiv 2503.01696, section 3).
    """
    allowed = tolerance * tensor.norm
    bases = []
    core = tensor.core
    dropped = 0.0
    for axis in range(3):
        vectors, values = left_singular(unfold(core, axis))
        basis = vectors[:, : rank_within(values, _EARLY_SHARE * allowed)]
        dropped += float(values[basis.shape[1] :].square().sum())
        core = torch.tensordot(basis, core, dims=([0], [axis])).movedim(0, axis)
        bases.append(basis)
    ranks = _least_block(core, allowed, [factor.shape[0] for factor in tensor.factors])
    small, rotations, error = alternating_least_squares(core, ranks)
    factors = [
        factor @ (basis @ rotation) for factor, basis, rotation in zip(tensor.factors, bases, rotations, strict=True)
    ]
    return Tucker(small, (factors[0], factors[1], factors[2])), math.sqrt(error**2 + dropped)


def _least_block(core: torch.Tensor, allowed: float, sizes: Sequence[int]) -> tuple[int, int, int]:
    """Ranks of the leading block of least memory that misses at most `allowed` in the Frobenius norm.

    What a block [:a, :b, :c] misses is the sum of squares of three disjoint slabs, so that nothing cancels.
    """
    squares = core.square()
    first = _tails(squares.sum((1, 2)), 0)  # [i ≥ a]
    second = _tails(squares.sum(2).cumsum(0), 1)  # [i < a, j ≥ b]
    third = _tails(squares.cumsum(0).cumsum(1), 2)  # [i < a, j < b, k ≥ c]
    missed = first[:, None, None] + second[:, :, None] + third
    a, b, c = (torch.arange(1, rank + 1, device=core.device, dtype=torch.float64) for rank in core.shape)
    memory = (a[:, None, None] * b[:, None] * c) + (sizes[0] * a[:, None, None] + sizes[1] * b[:, None] + sizes[2] * c)
    memory[missed > allowed**2] = torch.inf
    place = int(memory.argmin())
    _, rank_b, rank_c = core.shape
    return place // (rank_b * rank_c) + 1, place // rank_c % rank_b + 1, place % rank_c + 1


def _tails(sums: torch.Tensor, axis: int) -> torch.Tensor:
    """At place a − 1: the sum over indices ≥ a of an axis."""
    tails = sums.flip(axis).cumsum(axis).flip(axis)
    return torch.cat([tails.narrow(axis, 1, tails.shape[axis] - 1), torch.zeros_like(tails.narrow(axis, 0, 1))], axis)


def alternating_least_squares(tensor: torch.Tensor, ranks: tuple[int, int, int]) -> tuple[torch.Tensor, Factors, float]:
    """Best core and subspaces of given ranks, starting from the leading block; each step lowers the error.

    With two subspaces held, the third is spanned by the leading singular vectors of what the two leave of the tensor
    (De Lathauwer et al. 2000b). Returns the core `ranks`, factors `[n_d, r_d]` and the error in the Frobenius norm.
    """
    factors = [
        torch.eye(size, rank, dtype=tensor.dtype, device=tensor.device)
        for size, rank in zip(tensor.shape, ranks, strict=True)
    ]
    core = tensor[: ranks[0], : ranks[1], : ranks[2]]
    error = float((tensor - transform(core, factors)).norm())
    for _ in range(_SWEEPS if tuple(tensor.shape) != ranks else 0):
        for axis in range(3):
            others = [
                factor.mT if place != axis else torch.eye(len(factor), dtype=tensor.dtype, device=tensor.device)
                for place, factor in enumerate(factors)
            ]
            vectors, _ = left_singular(unfold(transform(tensor, others), axis))
            factors[axis] = vectors[:, : ranks[axis]]
        core = transform(tensor, [factor.mT for factor in factors])
        before, error = error, float((tensor - transform(core, factors)).norm())
        if error > (1 - _LEAST_GAIN) * before:
            break
    return core, (factors[0], factors[1], factors[2]), error


def add(terms: Sequence[Tucker], allowed: float = 0.0) -> Tucker:
    """The sum, with joint factors; directions are dropped whose share in the terms is ≤ `allowed`, or rounding."""
    scale = max(term.norm for term in terms)
    threshold = max(allowed, torch.finfo(terms[0].core.dtype).eps * scale)
    joint = []
    for axis in range(3):
        size = max(term.factors[axis].shape[0] for term in terms)
        weighted = [_padded(term.factors[axis], size) * unfold(term.core, axis).norm(dim=1) for term in terms]
        vectors, values = left_singular(torch.cat(weighted, dim=1))
        joint.append(vectors[:, : rank_within(values, threshold)])
    core = sum(
        transform(
            term.core,
            [basis[: len(factor)].mT @ factor for basis, factor in zip(joint, term.factors, strict=True)],
        )
        for term in terms
    )
    assert isinstance(core, torch.Tensor)
    return Tucker(core, (joint[0], joint[1], joint[2]))


def _padded(factor: torch.Tensor, size: int) -> torch.Tensor:
    return torch.nn.functional.pad(factor, (0, 0, 0, size - len(factor)))
