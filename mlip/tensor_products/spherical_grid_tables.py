"""Tables of products of functions on the sphere: harmonics and their derivatives at the nodes of a grid, in float64."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from e3nn.o3 import Irrep
from numpy.typing import NDArray

from mlip.errors import ConfigError
from mlip.so3 import SphereGrid, sphere_grid, spherical_harmonics_with_gradients
from mlip.tensor_products.couplings import couples
from mlip.tensor_products.sectors import components, sectors
from mlip.tensor_products.spec import ProductSpec

Array = NDArray[np.float64]
Places = NDArray[np.int64]


@dataclass(frozen=True)
class GridTable:
    """A function on the sphere for each component of an operand: a function of θ times a wave in φ.

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

    def separated(self) -> tuple[Array, Array, Places, Places]:
        """The tables of a `SeparableTransform`: its profiles, waves, gathering and scattering."""
        orders, of_component, counts = np.unique(self.orders, return_inverse=True, return_counts=True)
        width = counts.max()
        # Components of one order follow one another, in as many places as the largest of these groups needs.
        within = np.zeros_like(of_component)
        within[np.argsort(of_component, kind="stable")] = np.concatenate([np.arange(count) for count in counts])
        scattering = of_component * width + within
        gathering = np.zeros(len(orders) * width, dtype=np.int64)
        gathering[scattering] = np.arange(len(scattering))
        profiles = np.zeros((len(orders) * width, len(self.profiles)))
        profiles[scattering] = self.profiles.T
        profiles = profiles.reshape(len(orders), width, -1).swapaxes(1, 2)
        return profiles, waves(orders, self.phi), gathering, scattering


@dataclass(frozen=True)
class GridPart:
    """A product on one grid, `out^T Σ_t (in1_t x) ⊙ (in2_t y)`, of some components of x and y.

    Attributes:
        grid: The nodes.
        components: Components of both operands and of the result that take part.
        tables: Those of both operands, one for each term t, and the single one of the result, which holds the
            quadrature weights. A Gaunt product has one term, a bracket two.
    """

    grid: SphereGrid
    components: tuple[Places, Places, Places]
    tables: tuple[tuple[GridTable, ...], tuple[GridTable, ...], tuple[GridTable]]


def grid_parts(spec: ProductSpec, counts: tuple[int, int] | None = None) -> tuple[GridPart, ...]:
    """Tables of the coupling `gaunt`, of `bracket`, or of both for `gaunt+bracket`, whose results are added.

    A grid integrates products of the highest degrees of the operands and the result. In `gaunt+bracket` each part has
    a grid of its own for the entries that it has a path between.

    Args:
        spec: What is computed.
        counts: Nodes in θ and in φ of every grid; by default the fewest that are exact.

    Raises:
        ConfigError: the nodes are too few to be exact, or nothing couples.
    """
    if not spec.paths:
        raise ConfigError(f"the coupling '{spec.coupling}' has no path between these irreps: choose other irreps.")
    if spec.coupling != "gaunt+bracket":
        first, second, third = (np.arange(dim) for dim in spec.dims)
        return (_part(spec, (first, second, third), counts),)
    halves = replace(spec, coupling="gaunt"), replace(spec, coupling="bracket")
    return tuple(_part(*_without_idle_entries(half), counts) for half in halves if half.paths)


def meridian_harmonics(grid: SphereGrid, l_max: int) -> tuple[Array, Array, Array]:
    """Profiles in θ of the orthonormal harmonics Y, of ∂Y/∂θ and of (1/sin θ) ∂Y/∂φ, [θ nodes, (l_max + 1)²] each.

    Y_l,m and Y_l,−m are the value of Y_lm at φ = 0 times cos mφ and sin mφ. The waves of the derivatives by φ are those
    of order −m. Gauss–Legendre nodes never lie on the poles.
    """
    cos_theta = grid.cos_theta
    sin_theta = np.sqrt((1 - cos_theta) * (1 + cos_theta))
    zero = np.zeros_like(cos_theta)
    directions = torch.tensor(np.stack([zero, cos_theta, sin_theta], 1))
    values, gradients = spherical_harmonics_with_gradients(l_max, directions, "orthonormal")
    along_theta = np.einsum("tdx,tx->td", gradients.numpy(), np.stack([zero, -sin_theta, cos_theta], 1))
    orders = _orders(l_max)
    cosines = np.arange((l_max + 1) ** 2) - orders + np.abs(orders)
    profiles = values.numpy()[:, cosines]
    return profiles, along_theta[:, cosines], -orders * profiles / sin_theta[:, None]


def waves(orders: Places, phi: Array) -> Array:
    """cos kφ, or sin |k|φ for negative k, [φ nodes, orders]."""
    angles = np.abs(orders) * phi[:, None]
    return np.where(orders < 0, np.sin(angles), np.cos(angles))


def _part(spec: ProductSpec, taking_part: tuple[Places, Places, Places], counts: tuple[int, int] | None) -> GridPart:
    """Tables of the coupling `gaunt` or `bracket` between the components that a spec holds."""
    is_bracket = spec.coupling == "bracket"
    # Its two derivatives along the sphere take one degree from the integrand (see `SphereGrid`).
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
    in1: tuple[GridTable, ...] = (table(0, values_1),)
    in2: tuple[GridTable, ...] = (table(1, values_2),)
    if is_bracket:
        # e_θ × e_φ = r̂, so that r̂·(∇A × ∇B) = A_θ B_φ − A_φ B_θ.
        in1 = table(0, theta_1), table(0, phi_1, wave=-1)
        in2 = table(1, phi_2, wave=-1), table(1, -theta_2)
    weights = grid.weights.reshape(grid.theta_count, grid.phi_count)[:, :1]
    return GridPart(grid, taking_part, (in1, in2, (table(2, weights * values_3),)))


def _without_idle_entries(spec: ProductSpec) -> tuple[ProductSpec, tuple[Places, Places, Places]]:
    """The spec of the entries that have a path, and the places of their components among all."""

    def used(operand: int) -> tuple[tuple[Irrep, ...], Places]:
        irreps, offsets = spec.operands[operand], spec.offsets[operand]
        entries = sorted({path[operand] for path in spec.paths})
        places = [offsets[entry] + np.arange(irreps[entry].dim) for entry in entries]
        return tuple(irreps[entry] for entry in entries), np.concatenate(places)

    (in1, places_1), (in2, places_2), (out, places_3) = used(0), used(1), used(2)
    return replace(spec, irreps_in1=in1, irreps_in2=in2, irreps_out=out), (places_1, places_2, places_3)


def _orders(l_max: int) -> Places:
    """Order m of every component of degrees 0 … l_max, [(l_max + 1)²]."""
    return np.concatenate([np.arange(-degree, degree + 1) for degree in range(l_max + 1)])
