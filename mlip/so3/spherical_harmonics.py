"""Real spherical harmonics of a direction, and their gradients, in e3nn's conventions.

The polar axis is y and the components of degree l are ordered m = −l … l, so that degree 1 is proportional to
(x, y, z); there is no Condon-Shortley phase. The solid harmonics R_l (homogeneous polynomials of degree l) obey

    R_{l+1, i}(u) = Σ_jk T^l_jki R_{l, j}(u) u_k     and     ∂R_{l+1, i}/∂u_k = (l + 1) Σ_j T^l_jki R_{l, j}(u),

where T^l is the 3j tensor (l, 1, l + 1) up to a factor. The first gives the values, one matrix product a degree, and
the second all derivatives, one matrix product in all. Inside, components come before points, so that the processor's
vector units run along the points.
"""

import math
from functools import cache
from typing import Any, Literal, get_args

import numpy as np
import torch

from mlip.errors import ConfigError
from mlip.so3.couplings import wigner_3j

Normalization = Literal["component", "orthonormal", "norm"]


def spherical_harmonics(l_max: int, vectors: torch.Tensor, normalization: Normalization = "component") -> torch.Tensor:
    """Real spherical harmonics of degrees 0 … l_max of the direction of each vector.

    A zero vector has no direction: its degrees above 0 are zero, and so are all its derivatives. (A vector whose
    square underflows, shorter than about 1e-22 in float32 and 1e-162 in float64, counts as zero.)

    Args:
        l_max: highest degree.
        vectors: `[..., 3]`, of any length and floating-point dtype, which is that of the result.
        normalization: Σ_m Y_lm² is 2l + 1 ("component"), (2l + 1)/4π ("orthonormal" over the sphere; e3nn's
            "integral") or 1 ("norm").

    Returns:
        `[..., (l_max + 1)²]`, differentiable any number of times.

    Raises:
        ConfigError: l_max is negative, the normalization is unknown, or the last axis of vectors is not 3.
    """
    _check(l_max, vectors, normalization)
    directions, _ = _directions(vectors)
    values = _solid_harmonics(directions, l_max, normalization)
    return values.T.reshape(*vectors.shape[:-1], len(values))


def solid_harmonics(l_max: int, vectors: torch.Tensor, normalization: Normalization = "component") -> torch.Tensor:
    """Harmonic polynomials of degrees 0 … l_max of the components of each vector: `|vector|^l` times the real
    spherical harmonics of degree l of its direction.

    Args:
        l_max: highest degree.
        vectors: `[..., 3]`, of any floating-point dtype, which is that of the result.
        normalization: as for `spherical_harmonics`, of unit vectors.

    Returns:
        `[..., (l_max + 1)²]`, in powers of the unit of vectors, differentiable any number of times.

    Raises:
        ConfigError: as `spherical_harmonics`.
    """
    _check(l_max, vectors, normalization)
    values = _solid_harmonics(vectors.reshape(-1, 3).T.contiguous(), l_max, normalization)
    return values.T.reshape(*vectors.shape[:-1], len(values))


def spherical_harmonics_with_gradients(
    l_max: int, vectors: torch.Tensor, normalization: Normalization = "component"
) -> tuple[torch.Tensor, torch.Tensor]:
    """Spherical harmonics as in `spherical_harmonics`, and their analytic gradients with respect to the vectors.

    Returns:
        values `[..., (l_max + 1)²]` and gradients `[..., (l_max + 1)², 3]` in 1/(unit of vectors), both differentiable.

    Raises:
        ConfigError: as `spherical_harmonics`.
    """
    _check(l_max, vectors, normalization)
    directions, inverse_lengths = _directions(vectors)
    values = _solid_harmonics(directions, l_max, normalization)
    lowering = _lowering(l_max, normalization, vectors.dtype, vectors.device)
    solid_gradients = torch.einsum("kji,jn->ikn", lowering, values[: l_max**2])
    # The radial part of the gradient of a homogeneous polynomial is l R_l u, by Euler's theorem.
    degrees = torch.cat([torch.full((2 * degree + 1,), float(degree)) for degree in range(l_max + 1)]).to(values)
    gradients = (solid_gradients - (degrees[:, None] * values)[:, None] * directions) * inverse_lengths
    shape = (*vectors.shape[:-1], len(values))
    return values.T.reshape(shape), gradients.permute(2, 0, 1).reshape(*shape, 3)


def _check(l_max: int, vectors: torch.Tensor, normalization: str) -> None:
    if l_max < 0:
        raise ConfigError(f"The highest degree of spherical harmonics is {l_max}: choose 0 or more.")
    if normalization not in get_args(Normalization):
        choices = ", ".join(get_args(Normalization))
        raise ConfigError(f"Unknown normalization {normalization!r} of spherical harmonics: choose one of {choices}.")
    if vectors.shape[-1:] != (3,):
        raise ConfigError(f"Vectors have shape {list(vectors.shape)}: give an array whose last axis has length 3.")


def _directions(vectors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Unit vectors `[3, N]` and inverse lengths `[N]`, both zero for a zero vector."""
    columns = vectors.reshape(-1, 3).T.contiguous()
    squares = (columns * columns).sum(0)
    # The inverse root of infinity is zero with zero derivatives of every order; a norm would give NaN in the second.
    inverse_lengths = squares.masked_fill(squares == 0, math.inf).rsqrt()
    return columns * inverse_lengths, inverse_lengths


def _solid_harmonics(directions: torch.Tensor, l_max: int, normalization: Normalization) -> torch.Tensor:
    """Solid harmonics `[(l_max + 1)², N]` of `[3, N]`."""
    return _SolidHarmonics.apply(directions, l_max, normalization)


class _SolidHarmonics(torch.autograd.Function):
    """Solid harmonics whose derivative is bilinear in themselves, hence cheap and differentiable without end."""

    @staticmethod
    def forward(ctx: Any, directions: torch.Tensor, l_max: int, normalization: Normalization) -> torch.Tensor:
        values = directions.new_empty((l_max + 1) ** 2, directions.shape[1])
        values[0] = _pole_value(0, normalization)
        for degree in range(l_max):
            begin, middle, end = degree**2, (degree + 1) ** 2, (degree + 2) ** 2
            raising = _raising(degree, normalization, directions.dtype, directions.device)
            products = values[begin:middle, None] * directions
            torch.mm(raising, products.flatten(0, 1), out=values[middle:end])
        ctx.l_max, ctx.normalization = l_max, normalization
        ctx.save_for_backward(values)
        return values

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (values,) = ctx.saved_tensors
        lowering = _lowering(ctx.l_max, ctx.normalization, values.dtype, values.device)
        lowered = (lowering.flatten(0, 1) @ gradients[0]).unflatten(0, lowering.shape[:2])
        return (lowered * values[: ctx.l_max**2]).sum(1), None, None


def _pole_value(degree: int, normalization: Normalization) -> float:
    """Value of Y_l0 on the polar axis, where it is positive and all other orders vanish."""
    if normalization == "norm":
        return 1.0
    return math.sqrt((2 * degree + 1) / (4 * math.pi if normalization == "orthonormal" else 1.0))


def _raising_tensor(degree: int, normalization: Normalization) -> np.ndarray:
    """T^l `[2l + 1, 3, 2l + 3]`, scaled so that the next degree has its value at the pole."""
    coupling = wigner_3j(degree, 1, degree + 1)
    ratio = _pole_value(degree + 1, normalization) / _pole_value(degree, normalization)
    return ratio / coupling[degree, 1, degree + 1] * coupling


@cache
def _raising(degree: int, normalization: Normalization, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """T^l as a matrix `[2l + 3, (2l + 1) 3]`."""
    tensor = _raising_tensor(degree, normalization)
    return _constant(tensor.reshape(-1, 2 * degree + 3).T, dtype, device)


@cache
def _lowering(l_max: int, normalization: Normalization, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """∂R_i/∂u_k = Σ_j D_kji R_j, as `[3, l_max², (l_max + 1)²]`."""
    tensor = np.zeros((3, l_max**2, (l_max + 1) ** 2))
    for degree in range(l_max):
        begin, middle, end = degree**2, (degree + 1) ** 2, (degree + 2) ** 2
        derivative = (degree + 1) * _raising_tensor(degree, normalization)
        tensor[:, begin:middle, middle:end] = derivative.transpose(1, 0, 2)
    return _constant(tensor, dtype, device)


def _constant(array: np.ndarray, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    # A tensor made in inference mode could never serve autograd afterwards, and this one is cached.
    with torch.inference_mode(False):
        return torch.tensor(np.ascontiguousarray(array), dtype=dtype, device=device)
