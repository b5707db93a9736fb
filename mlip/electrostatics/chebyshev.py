"""Chebyshev polynomials in one variable: nodes, values, derivatives, coefficients of interpolants.

All are built by doubling, T_{m+k} = 2 T_m T_k − T_{m−k}, which takes log₂ n steps over whole arrays, is as accurate as
the three-term recurrence, and is differentiable to any order at the ends of the interval too, unlike cos(k arccos x).
"""

import math

import torch

from mlip.errors import ConfigError


def chebyshev_nodes(count: int) -> torch.Tensor:
    """The extrema of T_{count−1}, ascending from −1 to 1 (a single node is 0), `[count]` float64.

    Those of 2ᵏ + 1 nodes contain those of 2ᵏ⁻¹ + 1. Raises ConfigError for a count below 1.
    """
    if count < 1:
        raise ConfigError(f"There are no {count} Chebyshev nodes: ask for at least 1.")
    if count == 1:
        return torch.zeros(1, dtype=torch.float64)
    # A sine of symmetric angles, so that nodes are symmetric to the last bit.
    steps = torch.arange(count, dtype=torch.float64) * 2 - (count - 1)
    return torch.sin(steps * (math.pi / (2 * (count - 1))))


def chebyshev_values(x: torch.Tensor, count: int) -> torch.Tensor:
    """T_0(x) … T_{count−1}(x), `[..., count]`, in the dtype of x `[...]`; differentiable to any order.

    x is meant to lie in [−1, 1]: outside, values grow like (|x| + √(x² − 1))ᵏ.
    """
    values = torch.stack([torch.ones_like(x), x], dim=-1)
    while values.shape[-1] < count:
        highest = values.shape[-1] - 1
        missing = min(highest, count - 1 - highest)
        values = torch.cat([values, _doubled(values, values, missing)], dim=-1)
    return values[..., :count]


def chebyshev_derivatives(x: torch.Tensor, count: int) -> torch.Tensor:
    """dT_0/dx … dT_{count−1}/dx, `[..., count]`, like `chebyshev_values`; T_k' = k U_{k−1}."""
    first = torch.stack([torch.ones_like(x), x], dim=-1)
    second = torch.stack([torch.ones_like(x), 2 * x], dim=-1)
    while second.shape[-1] < count:
        highest = second.shape[-1] - 1
        missing = min(highest, count - 1 - highest)
        first, second = (
            torch.cat([first, _doubled(first, first, missing)], dim=-1),
            torch.cat([second, _doubled(first, second, missing)], dim=-1),
        )
    degrees = torch.arange(1, count, dtype=x.dtype, device=x.device)
    return torch.cat([torch.zeros_like(x)[..., None], degrees * second[..., : count - 1]], dim=-1)


def _doubled(first: torch.Tensor, values: torch.Tensor, count: int) -> torch.Tensor:
    """The next `count` values after V_m, for V = T or U: V_{m+k} = 2 T_k V_m − V_{m−k}, k = 1 … count ≤ m."""
    highest = values.shape[-1] - 1
    lower = values[..., highest - count : highest].flip(-1)
    return 2 * first[..., 1 : count + 1] * values[..., highest:] - lower


def coefficients_from_values(count: int) -> torch.Tensor:
    """Matrix `[count, count]`, float64: values at `chebyshev_nodes(count)` to coefficients of the interpolant."""
    if count == 1:
        return torch.ones(1, 1, dtype=torch.float64)
    steps = torch.arange(count)
    # T_k at node j is cos(πkm/(count − 1)) with m = count − 1 − j; the product is reduced while it is an integer.
    angles = torch.outer(steps, count - 1 - steps) % (2 * (count - 1))
    matrix = torch.cos(angles.double() * (math.pi / (count - 1))) * (2 / (count - 1))
    ends = torch.tensor([0, count - 1])
    matrix[ends] /= 2
    matrix[:, ends] /= 2
    return matrix
