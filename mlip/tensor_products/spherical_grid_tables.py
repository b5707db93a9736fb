"""Tables of products of functions on the sphere: harmonics and their derivatives at the nodes of a grid, in float64."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from mlip.errors import ConfigError
from mlip.so3 import SphereGrid, sphere_grid, spherical_harmonics_with_gradients
from mlip.tensor_products.couplings import Coupling, couples
from mlip.tensor_products.sectors import components, sectors
from mlip.tensor_products.spec import ProductSpec

Array = NDArray[np.float64]
Places = NDArray[np.int64]


@dataclass(frozen=True)
class GridTable:
    """A function on the sphere for each component of an operand, each a function of θ times a wave in φ.

    The wave of order k is cos kφ, or sin |k|φ for negative k.

    Attributes:
        profiles: The functions of θ at the nodes, one sector after another, [sectors · θ nodes, components].
        orders: Order of each component's wave, [components].
        phi: The nodes in φ.
    """

    profiles: Array
    orders: Places
    phi: Array

    def dense(self) -> Array:
        """Values at all nodes, [sectors · θ nodes · φ nodes, components]."""
        values = self.profiles[:, None] * waves(self.orders, self.phi)
        return values.reshape(-1, values.shape[2])


@dataclass(frozen=True)
class GridPart:
    """A product on one grid: `out^T Σ_t (in1_t x) ⊙ (in2_t y)` of some components of x and y.

    Attributes:
        grid: The nodes.
        components: Components of both operands and of the result that take part.
        tables: Of both operands, one for each term t: one term for a Gaunt product, two for a bracket; and of the
            result a single one, with the quadrature weights.
    """

    grid: SphereGrid
    components: tuple[Places, Places, Places]
    tables: tuple[tuple[GridTable, ...], tuple[GridTable, ...], tuple[GridTable]]


def grid_parts(spec: ProductSpec, counts: tuple[int, int] | None = None) -> tuple[GridPart, ...]:
    """Tables of the coupling `gaunt`, `bracket`, or `gaunt+bracket`: both, whose results are added.

    The grids integrate products of the highest degrees of the operands and the result. In `gaunt+bracket` each part
    has a grid of its own and only the entries that have a path in it, which spares the other part's.

    Args:
        spec: What is computed.
        counts: Nodes in θ and in φ; by default the smallest numbers that are exact.

    Raises:
        ConfigError: the nodes are too few to be exact, or nothing couples.
    """
    if spec.coupling != "gaunt+bracket":
        entries = tuple(tuple(range(len(irreps))) for irreps in spec.operands)
        return (_part(spec, entries, counts),)
    kinds: tuple[Coupling, ...] = ("gaunt", "bracket")
    parts = (replace(spec, coupling=kind) for kind in kinds)
    return tuple(
        _part(part, tuple(tuple(sorted({path[operand] for path in part.paths})) for operand in range(3)), counts)
        for part in parts
        if part.paths
    )


def meridian_harmonics(grid: SphereGrid, l_max: int) -> tuple[Array, Array, Array]:
    """Profiles in θ of the orthonormal harmonics Y, of ∂Y/∂θ and of (1/sin θ) ∂Y/∂φ, [θ nodes, (l_max + 1)²] each.

    Y_l,±m is the profile of Y_lm at φ = 0 times cos mφ or sin mφ. The waves of the derivatives by φ are those of order
    −m. Gauss–Legendre nodes never lie on the poles.
    """
    cos_theta = grid.cos_theta
    sin_theta = np.sqrt((1 - cos_theta) * (1 + cos_theta))
    zero = np.zeros_like(cos_theta)
    directions = torch.tensor(np.stack([zero, cos_theta, sin_theta], 1))
    values, gradients = spherical_harmonics_with_gradients(l_max, directions, "orthonormal")
    along_theta = gradients.numpy() @ np.stack([zero, -sin_theta, cos_theta], 1)[:, :, None]
    m = _orders(l_max)
    cosine = np.arange((l_max + 1) ** 2) - m + np.abs(m)
    profiles = values.numpy()[:, cosine]
    return profiles, along_theta[:, cosine, 0], -m * profiles / sin_theta[:, None]


def waves(orders: Places, phi: Array) -> Array:
    """cos kφ, or sin |k|φ for negative k, [φ nodes, orders]."""
    angles = np.abs(orders) * phi[:, None]
    return np.where(orders < 0, np.sin(angles), np.cos(angles))


def _part(spec: ProductSpec, entries: tuple[tuple[int, ...], ...], counts: tuple[int, int] | None) -> GridPart:
    """Tables of the coupling `gaunt` or `bracket` between some entries."""
    if not spec.paths:
        raise ConfigError(f"no path of the coupling '{spec.coupling}' connects the irreps: choose others.")
    taking_part = tuple(
        np.concatenate([starts[entry] + np.arange(irreps[entry].dim) for entry in chosen])
        for starts, irreps, chosen in zip(spec.offsets, spec.operands, entries, strict=True)
    )
    in1, in2, out = (
        tuple(irreps[entry] for entry in chosen) for irreps, chosen in zip(spec.operands, entries, strict=True)
    )
    spec = replace(spec, irreps_in1=in1, irreps_in2=in2, irreps_out=out)
    is_bracket = spec.coupling == "bracket"
    # The bracket of polynomials loses a degree (see `SphereGrid`).
    degree = sum(spec.l_max) - is_bracket
    grid = sphere_grid(degree) if counts is None else SphereGrid(degree, *counts)
    signs = sectors(spec, lambda l1, l2, l3: couples(spec.coupling, l1, l2, l3, spec.spin))

    def table(operand: int, profiles: Array, wave: int = 1) -> GridTable:
        lifted = signs.lift(operand, profiles, spec)
        orders = _orders(spec.l_max[operand])[components(spec, operand)]
        return GridTable(lifted.reshape(-1, lifted.shape[2]), wave * orders, grid.phi)

    values_1, theta_1, phi_1 = meridian_harmonics(grid, spec.l_max[0])
    values_2, theta_2, phi_2 = meridian_harmonics(grid, spec.l_max[1])
    values_3, _, _ = meridian_harmonics(grid, spec.l_max[2])
    weights = grid.weights.reshape(grid.theta_count, grid.phi_count)[:, :1]
    first: tuple[GridTable, ...] = (table(0, values_1),)
    second: tuple[GridTable, ...] = (table(1, values_2),)
    if is_bracket:
        # e_θ × e_φ = r̂, so that r̂·(∇A × ∇B) = A_θ B_φ − A_φ B_θ.
        first = (table(0, theta_1), table(0, phi_1, wave=-1))
        second = (table(1, phi_2, wave=-1), table(1, -theta_2))
    third = (table(2, weights * values_3),)
    return GridPart(grid, (taking_part[0], taking_part[1], taking_part[2]), (first, second, third))


def _orders(l_max: int) -> Places:
    """Order m of every component of degrees 0 … l_max, [(l_max + 1)²]."""
    return np.concatenate([np.arange(-degree, degree + 1) for degree in range(l_max + 1)])
