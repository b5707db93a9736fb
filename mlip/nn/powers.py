"""Powers of features under the product of a coupling: the many-body operations of a swapped tensor product."""

from collections.abc import Sequence
from itertools import combinations_with_replacement

import numpy as np
import torch
from e3nn.o3 import Irrep
from torch import Tensor, nn

from mlip.errors import ConfigError
from mlip.nn.gain import power_gain, product_gain
from mlip.nn.layout import natural_irreps
from mlip.nn.product_choice import ProductChoice
from mlip.so3 import sphere_grid, spherical_harmonics
from mlip.so3.symmetric_products import multiplicity
from mlip.tensor_products import ProductSpec
from mlip_kernels.constants import ConstantModule
from mlip_kernels.symmetric_contraction import ContractionTable, ContractionTerm, MonomialContraction

# Integrals that vanish leave rounding, about 1e-15.
_ROUNDING = 1e-12


class Power(ConstantModule):
    """Base: the power of one order of features of every degree up to l_max.

    Attributes:
        reached: The irreps that the power gives.
    """

    reached: tuple[Irrep, ...]

    def forward(self, features: Tensor) -> Tensor:
        """Map [nodes, (l_max + 1)², channels] to [nodes, components of `reached`, channels]."""
        raise NotImplementedError


def build_power(l_max: int, outputs: Sequence[Irrep], order: int, channels: int, choice: ProductChoice) -> Power:
    """The power of an order that suits a coupling and a backend, with those outputs that it reaches.

    Raises:
        ConfigError: the coupling has no powers, or the backend cannot compute them.
    """
    if choice.coupling in ("bracket", "gaunt+bracket"):
        raise ConfigError(
            f"the coupling '{choice.coupling}' has no many-body products, since the bracket of a function with itself "
            "is zero: choose gaunt for the contraction."
        )
    if order == 1:
        return FirstPower(l_max, outputs)
    if choice.coupling != "gaunt":
        return NestedPower(l_max, outputs, order, channels, choice)
    if choice.backend == "clebsch_gordan":
        return MonomialPower(l_max, outputs, order)
    return PointwisePower(l_max, outputs, order, channels, choice)


class FirstPower(Power):
    """The features themselves, in the order of the outputs."""

    rows: Tensor

    def __init__(self, l_max: int, outputs: Sequence[Irrep]) -> None:
        super().__init__()
        self.reached = _natural(outputs, l_max)
        rows = [irrep.l**2 + m for irrep in self.reached for m in range(irrep.dim)]
        self.register_buffer("rows", torch.tensor(rows, dtype=torch.int64), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        return features.index_select(1, self.rows)


class PointwisePower(Power):
    """`∫ f(r)^order Y(r) dr` of the function `f = sum A_lm Y_lm` on the sphere, taken point by point.

    Results have variance one for normal features; see `power_gain`.

    The points are those of the last of the nested products: of all degrees of the power before with the features.
    """

    gain: Tensor

    def __init__(self, l_max: int, outputs: Sequence[Irrep], order: int, channels: int, choice: ProductChoice) -> None:
        super().__init__()
        self.order = order
        self.reached = _natural(outputs, order * l_max)
        before, features = _degrees((order - 1) * l_max), _degrees(l_max)
        spec = ProductSpec(before, features, self.reached, "gaunt", "none")
        self.backend = choice.build(spec, channels, channels)
        if not self.backend.pointwise:
            raise ConfigError(
                f"the backend '{choice.backend}' has no many-body products of the coupling 'gaunt': "
                "choose spherical_grid, gaunt_fourier or clebsch_gordan for the contraction."
            )
        self.register_constant("gain", torch.tensor(power_gain(l_max, order, self.reached))[:, None])

    def forward(self, features: Tensor) -> Tensor:
        factors = self.backend.factors(features)
        assert factors is not None
        _, to_points, from_points = factors
        return (self.gain * from_points) @ (to_points @ features) ** self.order


class MonomialPower(Power):
    """The function of `PointwisePower` by its coefficients on monomials of the features, as Clebsch-Gordan sums are."""

    def __init__(self, l_max: int, outputs: Sequence[Irrep], order: int) -> None:
        super().__init__()
        self.reached = _natural(outputs, order * l_max)
        self.contraction = MonomialContraction(_monomial_table(l_max, order, self.reached))

    def forward(self, features: Tensor) -> Tensor:
        nodes, _, channels = features.shape
        ones = features.new_ones(1, len(self.reached), channels)
        element = torch.zeros(nodes, dtype=torch.int64, device=features.device)
        power: Tensor = self.contraction(features, ones, element)
        return power.unflatten(1, (-1, channels))


class NestedPower(Power):
    """`T(… T(T(A, A), A) …, A)` with the coupling's product T; powers in between keep the irreps of the features.

    Each product has variance one for operands that are normal and independent, which those of a power are not quite.
    """

    def __init__(self, l_max: int, outputs: Sequence[Irrep], order: int, channels: int, choice: ProductChoice) -> None:
        super().__init__()
        features = _degrees(l_max)
        between = ProductSpec(features, features, features, choice.coupling, "none")
        paths = ProductSpec(features, features, tuple(outputs), choice.coupling, "none").paths
        found = {path.irrep_out for path in paths}
        self.reached = tuple(irrep for irrep in outputs if irrep in found)
        last = ProductSpec(features, features, self.reached, choice.coupling, "none")
        specs = [between] * (order - 2) + [last]
        self.products = nn.ModuleList([_Scaled(spec, channels, choice) for spec in specs])

    def forward(self, features: Tensor) -> Tensor:
        power = features
        for product in self.products:
            power = product(power, features)
        return power


class _Scaled(ConstantModule):
    """A bare product times its gain."""

    gain: Tensor

    def __init__(self, spec: ProductSpec, channels: int, choice: ProductChoice) -> None:
        super().__init__()
        self.backend = choice.build(spec, channels, channels)
        self.register_constant("gain", torch.tensor(product_gain(spec))[:, None])

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        scaled: Tensor = self.backend(x, y, None) * self.gain
        return scaled


def _degrees(l_max: int) -> tuple[Irrep, ...]:
    return tuple(irrep for _, irrep in natural_irreps(1, l_max))


def _natural(outputs: Sequence[Irrep], l_max: int) -> tuple[Irrep, ...]:
    """Those outputs that a function on the sphere of degree l_max has: no 0o, 1e, 2o, …"""
    return tuple(irrep for irrep in outputs if irrep.p == (-1) ** irrep.l and irrep.l <= l_max)


def _monomial_table(l_max: int, order: int, outputs: Sequence[Irrep]) -> ContractionTable:
    """The scaled power as one product per output, its integrals by a quadrature that is exact."""
    highest = max(irrep.l for irrep in outputs)
    grid = sphere_grid(order * l_max + highest)
    values = spherical_harmonics(max(l_max, highest), torch.tensor(grid.nodes), "orthonormal").numpy()
    components = range((l_max + 1) ** 2)
    monomials = np.array(list(combinations_with_replacement(components, order)))
    products = np.prod(values[:, monomials], 2) * grid.weights[:, None]
    multiplicities = np.array([multiplicity(tuple(row)) for row in monomials.tolist()])
    gains = power_gain(l_max, order, tuple(outputs))
    terms, row = [], 0
    for number, irrep in enumerate(outputs):
        harmonics = values[:, irrep.l**2 : (irrep.l + 1) ** 2]
        coefficients = gains[row] * multiplicities * (harmonics.T @ products)
        coefficients[np.abs(coefficients) < _ROUNDING] = 0.0
        used = coefficients.any(0)
        terms.append(ContractionTerm(number, monomials[used], coefficients[None, :, used], number))
        row += irrep.dim
    dims = tuple(irrep.dim for irrep in outputs)
    return ContractionTable(tuple(terms), len(components), dims, len(outputs))
