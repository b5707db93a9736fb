"""The kernel erf(αr)/r, summed over periodic images, in the bases of the three directions."""

import math
from typing import Any, Protocol

import torch
from torch import Tensor

from mlip.electrostatics.frame import Frame
from mlip.electrostatics.open_axis import OpenAxis
from mlip.electrostatics.parity import (
    merge_parities,
    multiplicities,
    sign_patterns,
    split_parities,
    structure_factor_matrix,
)

# Cosine of an angle of rounding.
_ORTHOGONAL = 1e-14


class LongRangeKernel(Protocol):
    """A symmetric map of coefficient tensors [structures, channels, rank, rank, rank], in e/Å per e.

    Attributes:
        constant: Whether it is not to be differentiated, the cell being given.
        nodes: Gaussians it is a sum of; 0 if it is none.
    """

    constant: bool
    nodes: int

    def apply(self, moments: Tensor) -> Tensor:
        """The potential's coefficients of the moments of charges."""
        ...


def quadratic_energy(kernel: LongRangeKernel, moments: Tensor) -> Tensor:
    """½⟨M, K M⟩ [structures, channels], for moments [structures, channels, rank, rank, rank]."""
    if kernel.constant:
        energy: Tensor = _Quadratic.apply(moments, kernel)[0]
        return energy
    return (moments * kernel.apply(moments)).flatten(2).sum(2) / 2


class _Quadratic(torch.autograd.Function):
    """½⟨M, K M⟩ and K M, whose derivatives take no further product with K than they must."""

    @staticmethod
    def forward(ctx: Any, moments: Tensor, kernel: LongRangeKernel) -> tuple[Tensor, Tensor]:
        potential = kernel.apply(moments)
        ctx.kernel = kernel
        ctx.save_for_backward(potential)
        ctx.set_materialize_grads(False)
        return (moments * potential).flatten(2).sum(2) / 2, potential

    @staticmethod
    def backward(ctx: Any, of_energy: Tensor | None, of_potential: Tensor | None) -> tuple[Tensor | None, ...]:
        (potential,) = ctx.saved_tensors
        result = None
        if of_energy is not None:
            result = of_energy[:, :, None, None, None] * potential
        if of_potential is not None:
            through = apply_kernel(ctx.kernel, of_potential)
            result = through if result is None else result + through
        return result, None


def apply_kernel(kernel: LongRangeKernel, moments: Tensor) -> Tensor:
    """K M, differentiable; what a constant kernel goes through is not kept."""
    if kernel.constant:
        potential: Tensor = _Quadratic.apply(moments, kernel)[1]
        return potential
    return kernel.apply(moments)


class PeriodicKernel:
    """All directions periodic, any cells: (4π/V) exp(−k²/4α²)/k², without k = 0. Ewald, Ann. Phys. 369, 253 (1921)."""

    nodes = 0

    def __init__(self, frames: list[Frame], counts: tuple[int, int, int], alpha: float) -> None:
        """Of structures with the same numbers of harmonics along each direction."""
        metrics = torch.stack([frame.reciprocal @ frame.reciprocal.T for frame in frames])
        volumes = torch.stack([frame.measure for frame in frames])[:, None, None, None, None]
        self.constant = not metrics.requires_grad
        squares = squared_reciprocals(metrics, counts)
        zero = squares == 0
        squares = squares.masked_fill(zero, 1.0)
        decay = torch.exp(squares / (-4 * alpha**2)) / squares
        counted = multiplicities(counts).to(squares)
        self.weights = (4 * math.pi / volumes) * counted * decay.masked_fill(zero, 0.0)
        self.signs = structure_factor_matrix(3).to(squares)
        self.diagonal = None
        if self.constant and _orthogonal(metrics):
            # All sign patterns of an orthogonal cell weigh the same, and products of cosines and sines do not mix.
            kinds = (4 * self.weights[:, :1]).expand(-1, 8, *counts)
            self.diagonal = merge_parities(kinds, 3)[:, None]

    def apply(self, moments: Tensor) -> Tensor:
        """The potential's coefficients, [structures, channels, rank, rank, rank]."""
        if self.diagonal is not None:
            return self.diagonal.to(moments) * moments
        signs, weights = self.signs.to(moments), self.weights.to(moments)
        kinds = split_parities(moments.flatten(0, 1), 3)
        factors = (signs @ kinds.flatten(2)).reshape(*moments.shape[:2], 4, 2, *kinds.shape[2:])
        weighted = (factors * weights[:, None, :, None]).reshape(kinds.shape).flatten(2)
        return merge_parities((signs.T @ weighted).reshape(kinds.shape), 3).reshape(moments.shape)


class MixedKernel:
    """At most two directions periodic: a sum of Gaussians, diagonal along periodic ones, matrices along open ones.

    The mode k = 0 of a slab is that of charged planes, in closed form. That of a wire is right up to a constant, which
    means nothing to neutral systems.
    """

    def __init__(
        self, frame: Frame, counts: tuple[int, ...], exponents: Tensor, weights: Tensor, axes: list[OpenAxis]
    ) -> None:
        """Of one structure with `counts` harmonics along periodic directions and `axes` along open ones."""
        self.periodic = len(counts)
        self.nodes = len(exponents)
        self.constant = not frame.inverse.requires_grad
        like = frame.inverse
        self.matrices = [axis.matrices.to(like) for axis in axes]
        self.plane = None
        self.signs = structure_factor_matrix(self.periodic).to(like) if counts else None
        exponents, self.weights = exponents.to(like), weights.to(like)
        if not counts:
            return
        squares = squared_reciprocals(frame.reciprocal @ frame.reciprocal.T, counts)
        exponents = exponents.reshape(-1, *(1,) * squares.ndim)
        amplitudes = (math.sqrt(math.pi) / exponents) ** self.periodic * torch.exp(-squares / (4 * exponents**2))
        self.weights = self.weights.reshape(exponents.shape) * amplitudes * multiplicities(counts).to(like)
        self.weights = self.weights / frame.measure
        if self.periodic == 2:
            self.weights = self.weights.masked_fill(squares == 0, 0.0)
            assert axes[0].plane is not None
            self.plane = axes[0].plane.to(like) / frame.measure

    def apply(self, moments: Tensor) -> Tensor:
        """The potential's coefficients, [1, channels, rank, rank, rank]."""
        kinds = moments[0]
        if self.signs is not None:
            kinds = split_parities(kinds, self.periodic)
            shape = kinds.shape
            kinds = (self.signs.to(moments) @ kinds.flatten(2)).reshape(shape)
        result = self._sum_over_nodes(kinds)
        if self.signs is not None:
            result = merge_parities((self.signs.T.to(moments) @ result.flatten(2)).reshape(shape), self.periodic)
        return result[None]

    def _sum_over_nodes(self, factors: Tensor) -> Tensor:
        """Of structure factors [channels, 2ᵖ, modes …, ranks …], or of moments [channels, ranks …] without modes."""
        total = torch.zeros_like(factors)
        open_axes = len(self.matrices)
        weights = self.weights.to(factors)
        if self.periodic:
            weights = weights.repeat_interleave(2, dim=1)  # real and imaginary parts
            weights = weights.reshape(*weights.shape, *(1,) * open_axes)
        for node, weight in enumerate(weights):
            part = factors
            for number, matrices in enumerate(self.matrices):
                part = _along(part, matrices[node].to(factors), open_axes - number)
            total = total + weight * part
        if self.plane is not None:
            first = (slice(None), 0, 0, 0)
            correction = torch.zeros_like(total)
            correction[first] = factors[first] @ self.plane.to(factors)
            total = total + correction
        return total


def _orthogonal(metrics: Tensor) -> bool:
    """Whether reciprocal vectors with these metrics [structures, 3, 3] are orthogonal to rounding."""
    scales = metrics.diagonal(dim1=1, dim2=2).sqrt()
    cosines = metrics / (scales[:, :, None] * scales[:, None])
    return bool((cosines - torch.eye(3).to(cosines)).abs().max() < _ORTHOGONAL)


def squared_reciprocals(metrics: Tensor, counts: tuple[int, ...]) -> Tensor:
    """k² of all modes for each sign pattern, [..., 2ᵖ⁻¹, n₁, …, n_p], of metrics [..., p, p] of reciprocal vectors."""
    patterns = torch.tensor(sign_patterns(len(counts)), dtype=metrics.dtype, device=metrics.device)
    orders = []
    for axis, count in enumerate(counts):
        shape = [1] * len(counts)
        shape[axis] = count
        values = torch.arange(count, dtype=metrics.dtype, device=metrics.device).reshape(shape)
        orders.append(patterns[:, axis].reshape(-1, *(1,) * len(counts)) * values)
    squares: Tensor | float = 0.0
    for first in range(len(counts)):
        for second in range(first, len(counts)):
            entry = metrics[..., first, second].reshape(*metrics.shape[:-2], *(1,) * (len(counts) + 1))
            squares = squares + (1 if first == second else 2) * entry * orders[first] * orders[second]
    assert isinstance(squares, Tensor)
    return squares


def _along(tensor: Tensor, matrix: Tensor, place: int) -> Tensor:
    """Product of a symmetric matrix with a tensor along its dimension number `place` from the end, 1, 2 or 3."""
    if place == 1:
        return tensor @ matrix
    if place == 2:
        return matrix @ tensor
    product = matrix @ tensor.flatten(-2)
    return product.reshape(tensor.shape)
