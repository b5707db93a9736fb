"""Backend `spherical_grid`: products of functions on the sphere, taken point by point."""

from collections.abc import Sequence
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from mlip.errors import ConfigError
from mlip.tensor_products.backend import Backend
from mlip.tensor_products.couplings import Coupling, choose
from mlip.tensor_products.spec import ProductSpec
from mlip.tensor_products.spherical_grid_product import DenseTransform, GridProduct, Leg, SeparableTransform, Transform
from mlip.tensor_products.spherical_grid_tables import GridPart, GridTable, grid_parts

TransformKind = Literal["dense", "separable"]
# Total degree of the grid from which the separable transform is faster: on one core of a Xeon with AVX-512 (Sapphire
# Rapids), float32, 64 channels, by `python scripts/grid_flop_table.py --time`.
SEPARABLE_FROM_DEGREE = 19


class SphericalGrid(Backend):
    """Gaunt products and brackets by values at the nodes of a Gauss–Legendre × uniform grid, a `mlip.so3.SphereGrid`.

    Features are coefficients of functions on the sphere. The Gaunt coupling is the product of the functions (Luo et al.
    2024, arXiv 2401.10216; on the sphere itself Xie et al. 2025, arXiv 2506.13523), the bracket r̂·(∇A × ∇B), and both
    are exact on grids of finitely many nodes.

    Args:
        spec: What to compute.
        grid: Nodes in θ and in φ; by default the fewest that are exact.
        transform: `dense`: one matrix from components to nodes. `separable`: a matrix in θ for each order, then a
            Fourier series in φ. By default the faster one for the degrees.

    Raises:
        ConfigError: the grid is too small to be exact, or there is no such transform.
    """

    couplings: ClassVar[tuple[Coupling, ...]] = ("gaunt", "gaunt+bracket", "bracket")
    pointwise: ClassVar[bool] = True

    def __init__(
        self, spec: ProductSpec, *, grid: tuple[int, int] | None = None, transform: TransformKind | None = None
    ) -> None:
        super().__init__(spec)
        if grid is not None and not _are_two_counts(grid):
            raise ConfigError(f"the grid is {grid!r}: give two whole numbers, the nodes in θ and in φ.")
        if transform is not None:
            choose("transform", transform, get_args(TransformKind))
        self.parts = grid_parts(spec, grid)
        self.transforms: list[TransformKind] = [transform or _faster_transform(part) for part in self.parts]
        for number, part in enumerate(self.parts):
            for operand in range(3):
                places = part.components[operand]
                chosen = None if len(places) == spec.dims[operand] else torch.tensor(places)
                self.register_buffer(f"components_{number}_{operand}", chosen, persistent=False)
                for term, table in enumerate(part.tables[operand]):
                    self._register(f"{number}_{operand}_{term}", table, self.transforms[number])

    def bilinear(self, x: Tensor, y: Tensor) -> Tensor:
        results = []
        for number in range(len(self.parts)):
            operands = self._taking_part(number, 0, x), self._taking_part(number, 1, y)
            result = GridProduct.apply(*operands, x.shape[2], *self._legs(number, x))
            results.append(self._among_all(number, 2, result))
        return results[0] if len(results) == 1 else results[0] + results[1]

    def factors(self, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        tables: tuple[list[Tensor], ...] = ([], [], [])
        for number in range(len(self.parts)):
            legs = self._legs(number, like)
            for term in range(max(map(len, legs))):
                for operand, leg in enumerate(legs):
                    table = leg[term % len(leg)].table()
                    tables[operand].append(self._among_all(number, operand, table))
        in1, in2, out = (each[0] if len(each) == 1 else torch.cat(each) for each in tables)
        return in1, in2, out.T

    def flops(self, batch: int, channels: int, channels_in2: int) -> int:
        if self.spec.weights == "per_degree":
            channels_in2 = channels  # The weights of its degrees give y the channels of x.
        total = 0
        for number in range(len(self.parts)):
            legs = self._legs(number, torch.empty(0, dtype=torch.float64))
            for leg, width in zip(legs, (channels, channels_in2, channels), strict=True):
                total += sum(transform.flops(width) for transform in leg)
            # One multiplication for the first term, another and an addition for each more.
            total += (2 * len(legs[0]) - 1) * legs[0][0].rows * channels
        return batch * (total + (len(self.parts) - 1) * self.spec.dims[2] * channels)

    def _register(self, name: str, table: GridTable, kind: TransformKind) -> None:
        """Keep a table in the form that its transform needs."""
        if kind == "dense":
            self.register_constant(f"table_{name}", torch.tensor(table.dense()))
            return
        profiles, fourier, gathering, scattering = table.separated()
        self.register_constant(f"profiles_{name}", torch.tensor(profiles))
        self.register_constant(f"fourier_{name}", torch.tensor(fourier))
        self.register_buffer(f"gathering_{name}", torch.tensor(gathering), persistent=False)
        self.register_buffer(f"scattering_{name}", torch.tensor(scattering), persistent=False)

    def _legs(self, number: int, like: Tensor) -> tuple[Leg, Leg, Leg]:
        """Transforms of a part's operands and result, in the dtype and on the device of a tensor."""
        build = self._dense if self.transforms[number] == "dense" else self._separable
        in1, in2, out = (
            tuple(build(f"{number}_{operand}_{term}", like) for term in range(len(leg)))
            for operand, leg in enumerate(self.parts[number].tables)
        )
        return in1, in2, out

    def _dense(self, name: str, like: Tensor) -> Transform:
        return DenseTransform(self.constant(f"table_{name}", like))

    def _separable(self, name: str, like: Tensor) -> Transform:
        profiles, fourier = (self.constant(f"{each}_{name}", like) for each in ("profiles", "fourier"))
        gathering, scattering = (
            self.get_buffer(f"{each}_{name}").to(like.device) for each in ("gathering", "scattering")
        )
        return SeparableTransform(profiles, fourier, gathering, scattering)

    def _taking_part(self, number: int, operand: int, features: Tensor) -> Tensor:
        """Components of an operand, [batch, components, channels], that take part in a part."""
        places: Tensor | None = getattr(self, f"components_{number}_{operand}")
        return features if places is None else features.index_select(1, places.to(features.device))

    def _among_all(self, number: int, operand: int, features: Tensor) -> Tensor:
        """Components that take part, [batch, components, ...], among zeros for the others."""
        places: Tensor | None = getattr(self, f"components_{number}_{operand}")
        if places is None:
            return features
        zeros = features.new_zeros(len(features), self.spec.dims[operand], *features.shape[2:])
        return zeros.index_copy(1, places.to(features.device), features)


def _faster_transform(part: GridPart) -> TransformKind:
    return "separable" if part.grid.degree >= SEPARABLE_FROM_DEGREE else "dense"


def _are_two_counts(grid: object) -> bool:
    return isinstance(grid, Sequence) and len(grid) == 2 and all(isinstance(count, int) for count in grid)
