"""What the Triton kernels of the channelwise convolution are written with: operands of an edge, weights, couplings."""

from dataclasses import dataclass

import numpy as np

from mlip_kernels.channelwise_convolution.gpu_groups import PathGroup
from mlip_kernels.channelwise_convolution.table import ConvolutionPath, ConvolutionTable
from mlip_kernels.triton_source import KernelText, combination

# Coefficients of the four cubic B-splines that are non-zero in an interval, for 1, t, t^2, t^3; t is the fraction.
_BASIS = np.array([[1, -3, 3, -1], [4, 0, -6, 3], [1, 3, 3, -3], [0, 0, 0, 1]]) / 6
# Coefficients smaller than this part of a path's largest are what rounding left of zeros.
_NEGLIGIBLE = 1e-14
# Arguments that are no arrays of real numbers. Edges and atoms are numbered in 64 bits, since places in an array of
# edges and channels exceed 32 bits from four million edges on.
_INDICES = ("starts", "senders", "receivers", "ordered_edges", "interval_starts")
_COUNTS = ("first_node", "first_edge", "last_edge", "edges", "knots", "parts")
ARGUMENT_TYPES = dict.fromkeys(_INDICES, "*i64") | dict.fromkeys(_COUNTS, "i32")


@dataclass(frozen=True)
class KernelPaths:
    """What a kernel of the convolution is generated for.

    Attributes:
        table: All paths.
        group: Those that the kernel computes.
        derivative: None where weights are given per edge; where they come from a table, the order of the derivative,
            with respect to the edge's length, of the B-splines that interpolate it.
        block: Channels of a program.
    """

    table: ConvolutionTable
    group: PathGroup
    derivative: int | None
    block: int

    @property
    def paths(self) -> dict[int, ConvolutionPath]:
        """The paths of the group by their number in the table."""
        return {number: self.table.paths[number] for number in self.group.numbers}


class ConvolutionText(KernelText):
    """A kernel's text with the operands of an edge and the weights of its paths.

    Names in the text: `y<column>` for harmonics, `x<irrep>_<component>` for the sender's features, with an irrep's
    first column for its name.
    """

    def __init__(self, name: str, arguments: tuple[str, ...], kernel: KernelPaths) -> None:
        counts = [argument for argument in arguments if argument in _COUNTS]
        super().__init__(name, arguments, kernel.group.channels, kernel.block, counts)
        self.kernel = kernel

    def load_edge(self) -> None:
        """Define the harmonics of `edge` and its sender's features."""
        table = self.kernel.table
        paths = self.kernel.paths.values()
        for column in sorted({path.harmonic_offset + j for path in paths for _, j, _ in nonzero_couplings(path)}):
            self.define(f"y{column}", f"tl.load(harmonics + edge * {table.harmonics_dim} + {column})")
        self.add(f"sent = features + tl.load(senders + edge) * {table.input_dim} + channel")
        for offset, rows in sorted({(path.input_offset, path.coefficients.shape[0]) for path in paths}):
            for i in range(rows):
                self.define(f"x{offset}_{i}", self.load(f"sent + {offset + i * self.kernel.group.channels}"))

    def load_scale(self) -> None:
        """Load where the radial table begins and the inverse distance of its knots, which follow the lengths."""
        self.add("origin = tl.load(places + edges)")
        self.add("inverse_spacing = tl.load(places + edges + 1)")

    def load_position(self) -> None:
        """Find the `position` in the radial table at which the length of `edge` lies, in distances of knots."""
        self.add("position = (tl.load(places + edge) - origin) * inverse_spacing")

    def find_interval(self) -> None:
        """Find the `interval` of the radial table in which `position` lies."""
        self.add("interval = tl.minimum(tl.maximum(tl.floor(position).to(tl.int64), 0), knots - 4)")

    def splines(self, name: str, order: int) -> None:
        """Name `<name>0` … `<name>3` the splines of `interval` at `position`, or their derivatives of an order."""
        self.add("fraction = position - interval.to(position.dtype)")
        scale = " * ".join(["", *["inverse_spacing"] * order])
        for b, polynomial in enumerate(_BASIS):
            derivative = np.polynomial.polynomial.polyder(polynomial, order)
            value = repr(float(derivative[-1]))
            for coefficient in derivative[-2::-1]:
                value = f"({value} * fraction + {float(coefficient)!r})"
            self.add(f"{name}{b} = {value}{scale}")

    def point_to_weights(self) -> None:
        """Point `weights_row` to the weights of `edge`, or to those of the first knot of its interval."""
        if self.kernel.derivative is None:
            self.add(f"weights_row = weights + edge * {self.kernel.table.weight_dim} + channel")
        else:
            self.add(f"weights_row = coefficients + interval * {self.kernel.table.weight_dim} + channel")

    def load_weight(self, path: ConvolutionPath, interpolated: dict[str, str]) -> None:
        """Name a path's weight `weight`, or, from a table, each of `interpolated` by the splines that it names."""
        if self.kernel.derivative is None:
            self.add(f"weight = {self.load(f'weights_row + {path.weight_offset}')}")
            return
        for b in range(4):
            column = b * self.kernel.table.weight_dim + path.weight_offset
            self.add(f"knot = {self.load(f'weights_row + {column}')}")
            for name, splines in interpolated.items():
                self.add(f"{name} {'+=' if b else '='} {splines}{b} * knot")

    def transfer_scalars(self) -> dict[tuple[int, int, int], str]:
        """Name `sum over j of C[i, j, k] y[j]` for each (path, i, k), sums that several paths have in common once."""
        names: dict[tuple[tuple[str, float], ...], str] = {}
        scalars = {}
        for number, path in self.kernel.paths.items():
            terms: dict[tuple[int, int], list[tuple[str, float]]] = {}
            for (i, j, k), value in nonzero_couplings(path).items():
                terms.setdefault((i, k), []).append((f"y{path.harmonic_offset + j}", value))
            for (i, k), summands in terms.items():
                key = tuple(summands)
                if key not in names:
                    names[key] = f"t{len(names)}"
                    self.define(names[key], combination(key))
                scalars[number, i, k] = names[key]
        return scalars


def nonzero_couplings(path: ConvolutionPath) -> dict[tuple[int, int, int], float]:
    """Coefficients of a path by (i, j, k), without zeros."""
    sizes = np.abs(path.coefficients)
    indices = np.argwhere(sizes > _NEGLIGIBLE * sizes.max()).tolist()
    return {(i, j, k): float(path.coefficients[i, j, k]) for i, j, k in indices}


def output_column(path: ConvolutionPath, k: int) -> int:
    """Column of the first channel of a path's component k in the output."""
    return path.output_offset + k * path.output_channels + path.output_channel
