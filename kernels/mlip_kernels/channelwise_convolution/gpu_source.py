"""Triton source of the channelwise convolution: straight lines of code, generated from the coupling table.

All kernels have one receiver (or one interval of the radial table) and one block of channels in a program, channels
along the lanes. The receiver is the fast axis of the grid, so that programs which run at the same time read the same
channels of the radial table.
"""

from dataclasses import dataclass

from mlip_kernels.channelwise_convolution.gpu_text import (
    ConvolutionText,
    KernelPaths,
    nonzero_couplings,
    output_column,
)
from mlip_kernels.channelwise_convolution.table import ConvolutionPath
from mlip_kernels.triton_source import Sums, combination

# Arguments for weights from a radial table; `places` has the lengths of the edges and then origin and inverse spacing.
_TABULATED = ("places", "edges", "coefficients", "knots")
# The derivative with respect to the length stands before those with respect to harmonics.
LENGTH = -1


@dataclass(frozen=True)
class Wanted:
    """Which derivatives are to be computed.

    Attributes:
        features: Those with respect to the features.
        harmonics: Those with respect to the harmonics of the edges.
        weights: Those with respect to the weights of the edges, or to the coefficients of the radial table.
        lengths: Those with respect to the lengths of the edges, where there is a radial table.
    """

    features: bool = True
    harmonics: bool = True
    weights: bool = True
    lengths: bool = True


def forward_source(kernel: KernelPaths) -> str:
    """Source of `forward`, the sums over each receiver's edges."""
    arguments = ("starts", "senders", "features", "harmonics", *_weight_arguments(kernel), "output")
    text = ConvolutionText("forward", arguments, kernel)
    rows = [(number, k) for number, path in kernel.paths.items() for k in range(path.coefficients.shape[2])]
    text.add("node = tl.program_id(0).to(tl.int64)")
    if kernel.derivative is not None:
        text.load_scale()
    for number, k in rows:
        text.zeros(f"sum{number}_{k}", "output")
    with text.indented("for edge in range(tl.load(starts + node), tl.load(starts + node + 1)):"):
        text.load_edge()
        if kernel.derivative is not None:
            text.load_position()
            text.find_interval()
            text.splines("spline", kernel.derivative)
        text.point_to_weights()
        scalars = text.transfer_scalars()
        for number, path in kernel.paths.items():
            text.load_weight(path, {"weight": "spline"})
            for i in range(path.coefficients.shape[0]):
                text.add(f"weighted = weight * x{path.input_offset}_{i}")
                for k in range(path.coefficients.shape[2]):
                    if (number, i, k) in scalars:
                        text.add(f"sum{number}_{k} += weighted * {scalars[number, i, k]}")
    text.add(f"row = output + node * {kernel.table.output_dim} + channel")
    for number, k in rows:
        text.store(f"row + {output_column(kernel.paths[number], k)}", f"sum{number}_{k}")
    return str(text)


def gradients_source(kernel: KernelPaths, wanted: Wanted) -> str:
    """Source of `gradients`, the derivatives of `sum(output_gradient * output)` for each edge of a range of edges.

    Couplings with the gradient at the receiver are formed once for all its edges. Derivatives with respect to features
    go to a buffer per edge, to be summed by sender, and those with respect to harmonics and lengths to a buffer of sums
    over the channels of the block, in the order of `summed_columns`.
    """
    arguments = (
        *("starts", "senders", "first_node", "first_edge", "last_edge", "features", "harmonics"),
        *(*_weight_arguments(kernel), "output_gradient", "features_buffer", "weights_gradient", "summed_buffer"),
    )
    text = ConvolutionText("gradients", arguments, kernel)
    text.add("node = first_node + tl.program_id(0).to(tl.int64)")
    text.add(f"row = output_gradient + node * {kernel.table.output_dim} + channel")
    couplings = {number: _gradient_couplings(text, number, path) for number, path in kernel.paths.items()}
    text.add("begin = tl.maximum(tl.load(starts + node), first_edge)")
    text.add("end = tl.minimum(tl.load(starts + node + 1), last_edge)")
    if kernel.derivative is not None:
        text.load_scale()
    columns = summed_columns(kernel, wanted)
    interpolated = {"weight": "spline", "slope": "steep"} if LENGTH in columns else {"weight": "spline"}
    with text.indented("for edge in range(begin, end):"):
        text.load_edge()
        if kernel.derivative is not None:
            text.load_position()
            text.find_interval()
            for order, splines in enumerate(interpolated.values(), kernel.derivative):
                text.splines(splines, order)
        text.point_to_weights()
        sums = Sums(text)
        # Paths of one harmonic follow each other, so that its sums over components are complete early.
        for number, path in sorted(kernel.paths.items(), key=lambda item: item[1].harmonic_offset):
            text.load_weight(path, interpolated)
            _add_path_gradients(text, path, couplings[number], wanted, sums)
        _store_summed(text, columns, sums)
        if wanted.features:
            _store_features(text, sums)
    return str(text)


def summed_columns(kernel: KernelPaths, wanted: Wanted) -> list[int]:
    """What a `gradients` kernel sums over channels: LENGTH, where it is wanted, and columns of the harmonics."""
    columns = [LENGTH] if wanted.lengths and kernel.derivative is not None else []
    if wanted.harmonics:
        first = min(path.harmonic_offset for path in kernel.paths.values())
        last = max(path.harmonic_offset + path.coefficients.shape[1] for path in kernel.paths.values())
        columns.extend(range(first, last))
    return columns


def coefficients_source(kernel: KernelPaths) -> str:
    """Source of `coefficient_gradients`: derivatives with respect to the four coefficients that act in an interval.

    A program has one interval of the table, one block of channels, and one of several parts of the interval's edges.
    """
    arguments = (
        *("ordered_edges", "interval_starts", "parts", "senders", "receivers", "features", "harmonics"),
        *("places", "edges", "knots", "output_gradient", "partial"),
    )
    if kernel.derivative is None:
        raise ValueError("weights that are given per edge have no coefficients: give the order of a derivative.")
    text = ConvolutionText("coefficient_gradients", arguments, kernel)
    text.load_scale()
    text.add("interval = tl.program_id(0).to(tl.int64)")
    text.add("part = tl.program_id(2).to(tl.int64)")
    text.add("first = tl.load(interval_starts + interval)")
    text.add("count = tl.load(interval_starts + interval + 1) - first")
    for number in kernel.paths:
        for b in range(4):
            text.zeros(f"sum{number}_{b}", "partial")
    with text.indented("for number in range(first + count * part // parts, first + count * (part + 1) // parts):"):
        text.add("edge = tl.load(ordered_edges + number)")
        text.load_edge()
        text.load_position()
        text.splines("spline", kernel.derivative)
        text.add(f"row = output_gradient + tl.load(receivers + edge) * {kernel.table.output_dim} + channel")
        scalars = text.transfer_scalars()
        for number, path in kernel.paths.items():
            _contract_with_gradient(text, number, path, scalars)
            for b in range(4):
                text.add(f"sum{number}_{b} += spline{b} * product")
    text.add(f"row = partial + (part * (knots - 3) + interval) * {4 * kernel.table.weight_dim} + channel")
    for number, path in kernel.paths.items():
        for b in range(4):
            text.store(f"row + {b * kernel.table.weight_dim + path.weight_offset}", f"sum{number}_{b}")
    return str(text)


def _weight_arguments(kernel: KernelPaths) -> tuple[str, ...]:
    return ("weights",) if kernel.derivative is None else _TABULATED


def _gradient_couplings(text: ConvolutionText, number: int, path: ConvolutionPath) -> dict[tuple[int, int], str]:
    """Name `sum over k of C[i, j, k] gradient[k]` for each (i, j) of a path."""
    terms: dict[tuple[int, int], list[tuple[str, float]]] = {}
    for (i, j, k), value in nonzero_couplings(path).items():
        terms.setdefault((i, j), []).append((f"gradient_{k}", value))
    for k in range(path.coefficients.shape[2]):
        text.define(f"gradient_{k}", text.load(f"row + {output_column(path, k)}"))
    for (i, j), summands in terms.items():
        text.add(f"coupling{number}_{i}_{j} = {combination(summands)}")
    return {(i, j): f"coupling{number}_{i}_{j}" for i, j in terms}


def _add_path_gradients(
    text: ConvolutionText, path: ConvolutionPath, couplings: dict[tuple[int, int], str], wanted: Wanted, sums: Sums
) -> None:
    """Add to the sums `dy<column>`, `dx<irrep>_<component>` and `dlength`, or store the derivative for the weight."""
    explicit = text.kernel.derivative is None
    products = []
    for i in range(path.coefficients.shape[0]):
        row = {path.harmonic_offset + j: name for (component, j), name in couplings.items() if component == i}
        if not row:
            continue
        x = f"x{path.input_offset}_{i}"
        if wanted.harmonics:
            text.add(f"weighted = weight * {x}")
            for column, name in row.items():
                sums.add(f"dy{column}", f"weighted * {name}")
        if wanted.features or (wanted.weights if explicit else wanted.lengths):
            text.add(f"inner_{i} = " + " + ".join(f"y{column} * {name}" for column, name in row.items()))
            products.append(f"{x} * inner_{i}")
        if wanted.features:
            sums.add(f"dx{path.input_offset}_{i}", f"weight * inner_{i}")
    if wanted.weights and explicit:
        place = f"weights_gradient + edge * {text.kernel.table.weight_dim} + {path.weight_offset} + channel"
        text.store(place, " + ".join(products) or "0.0")
    elif wanted.lengths and not explicit and products:
        sums.add("dlength", f"slope * ({' + '.join(products)})")


def _store_summed(text: ConvolutionText, columns: list[int], sums: Sums) -> None:
    """Store sums over the block's channels, [blocks, edges of the range, columns]."""
    names = ["dlength" if column == LENGTH else f"dy{column}" for column in columns]
    for name in names:
        if name not in sums.names:
            text.zeros(name, "summed_buffer")
    for first in range(0, len(names), text.block):
        batch = names[first : first + text.block]
        text.sum_channels(batch, "summed")
        text.add("place = tl.program_id(1).to(tl.int64) * (last_edge - first_edge) + edge - first_edge")
        text.add(f"place = place * {len(columns)} + {first} + lane")
        text.add(f"tl.store(summed_buffer + place, summed, mask=lane < {len(batch)})")


def _store_features(text: ConvolutionText, sums: Sums) -> None:
    """Store derivatives for each component of the edge's sender, added to those that earlier groups have stored."""
    kernel = text.kernel
    text.add(f"place = features_buffer + (edge - first_edge) * {kernel.table.input_dim} + channel")
    for offset, rows in sorted({(path.input_offset, path.coefficients.shape[0]) for path in kernel.paths.values()}):
        for i in range(rows):
            name = f"dx{offset}_{i}"
            pointer = f"place + {offset + i * kernel.group.channels}"
            if name not in sums.names:
                text.zeros(name, "features_buffer")
            earlier = f" + {text.load(pointer)}" if offset in kernel.group.continued else ""
            text.store(pointer, name + earlier)


def _contract_with_gradient(
    text: ConvolutionText, number: int, path: ConvolutionPath, scalars: dict[tuple[int, int, int], str]
) -> None:
    """Name `product` the contraction of features, harmonics and the gradient at the receiver, per channel."""
    rows, _, components = path.coefficients.shape
    for k in range(components):
        text.define(f"gradient_{k}", text.load(f"row + {output_column(path, k)}"))
    products = []
    for i in range(rows):
        inner = [f"gradient_{k} * {scalars[number, i, k]}" for k in range(components) if (number, i, k) in scalars]
        if inner:
            products.append(f"x{path.input_offset}_{i} * ({' + '.join(inner)})")
    text.add(f"product = {' + '.join(products)}" if products else "product = 0.0")
