"""The channelwise convolution on a GPU, by Triton kernels that are generated from the coupling table.

Few kernels make the whole family. With `T(g, x, y, w) = sum(g * forward(x, y, w))`, linear in each operand, `gradients`
gives the derivatives of T for x, y and w, and the derivatives of these are calls of `forward` and `gradients` with one
operand exchanged for a cotangent: for cotangents (a, b, c) of the derivatives for (x, y, w), those of
`T(g, a, y, w) + T(g, x, b, w) + T(g, x, y, c)`. Where weights come from a table, their derivative with respect to the
length of an edge is the same function with the next derivative of the splines, w', and a cotangent c of the derivative
for lengths multiplies the harmonics: `T(g, x, c * y, w')`.
"""

from collections.abc import Iterator
from dataclasses import astuple, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from mlip_kernels.channelwise_convolution.gpu_groups import Task, path_groups
from mlip_kernels.channelwise_convolution.gpu_source import (
    LENGTH,
    Wanted,
    coefficients_source,
    forward_source,
    gradients_source,
    summed_columns,
)
from mlip_kernels.channelwise_convolution.gpu_text import ARGUMENT_TYPES, KernelPaths
from mlip_kernels.channelwise_convolution.table import ConvolutionTable
from mlip_kernels.gpu_compile import AMD_TARGETS, NVIDIA_TARGETS, CompileCase
from mlip_kernels.gpu_launch import launch, launch_parameters
from mlip_kernels.gpu_shapes import convolution_shape
from mlip_kernels.segment_sum.gpu import gather_sum
from mlip_kernels.triton_source import load_source

# Bytes of the buffer that holds the derivatives for features per edge, before they are summed by sender.
_BUFFER_BYTES = 2**28
# Edges of an interval of the radial table that one program takes, about, and programs for an interval at most.
_EDGES_OF_PART = 64
_MOST_PARTS = 16


@dataclass(frozen=True)
class SentEdges:
    """Edges by sender; to be found once for all layers of a model.

    Attributes:
        edges: Edges in the order of their senders, ascending for each, int64 [edges].
        starts: First position in `edges` of each sender, and the number of edges, int64 [nodes + 1].
    """

    edges: Tensor
    starts: Tensor

    @classmethod
    def of(cls, senders: Tensor, num_nodes: int) -> "SentEdges":
        """Sort edges by sender, int64 [edges]."""
        ordered, edges = torch.sort(senders, stable=True)
        return cls(edges, torch.searchsorted(ordered, torch.arange(num_nodes + 1, device=senders.device)))

    def positions(self, senders: Tensor, first: int, last: int) -> tuple[Tensor, Tensor]:
        """For each sender, the first position in `edges` of its edges from `first` on, and of those from `last` on."""
        num_edges = len(self.edges)
        if last - first == num_edges:
            return self.starts[:-1], self.starts[1:]
        keys = senders[self.edges] * num_edges + self.edges
        nodes = torch.arange(len(self.starts) - 1, device=keys.device) * num_edges
        return torch.searchsorted(keys, nodes + first), torch.searchsorted(keys, nodes + last)


@dataclass(frozen=True)
class Derivatives:
    """Derivatives for each operand, None where not wanted: those for `lengths` are [edges], others like the operand."""

    features: Tensor | None
    harmonics: Tensor | None
    weights: Tensor | None
    lengths: Tensor | None


class GpuConvolution:
    """The function of `ReferenceConvolution`. Kernels are generated when first needed, for float32 and float64.

    Args:
        table: The couplings.
        tabulated: Whether weights are given for every edge, or interpolated from a radial table.

    Raises:
        ValueError: there are columns of weights or of the output that belong to no path.
    """

    def __init__(self, table: ConvolutionTable, tabulated: bool = False) -> None:
        weights = sum(path.channels for path in table.paths)
        outputs = sum(path.channels * path.coefficients.shape[2] for path in table.paths)
        if (weights, outputs) != (table.weight_dim, table.output_dim):
            raise ValueError(
                f"the paths have {weights} weights and {outputs} output columns, and the table has {table.weight_dim} "
                f"and {table.output_dim}: leave no column without a path."
            )
        self.table = table
        self.tabulated = tabulated
        # Whether every column of the features has a path.
        self._all_inputs = sum(width for _, width in {path.input_span for path in table.paths}) == table.input_dim
        self._kernels: dict[tuple[str, KernelPaths, Wanted | None], Any] = {}
        self._groups: dict[tuple[Task, int, int | None], list[KernelPaths]] = {}

    def forward(
        self,
        features: Tensor,
        harmonics: Tensor,
        weights: Tensor,
        places: Tensor,
        senders: Tensor,
        starts: Tensor,
        derivative: int = 0,
    ) -> Tensor:
        """Convolve.

        Args:
            features: [nodes, input_dim].
            harmonics: [edges, harmonics_dim].
            weights: [edges, weight_dim], or the table's coefficients [knots, weight_dim].
            places: With a table, one row [edges + 2]: lengths, origin of the table and inverse spacing; else empty.
                An edge takes the four coefficients from number floor((length - origin) * inverse spacing) on, or the
                outermost four where it lies outside.
            senders: int64 [edges].
            starts: First edge of each receiver, and the number of edges, int64 [nodes + 1].
            derivative: With a table, the order of the derivative of the weights with respect to the length.

        Returns:
            [nodes, output_dim].
        """
        output = features.new_empty(len(starts) - 1, self.table.output_dim)
        read = (features.contiguous(), harmonics.contiguous(), *self._weight_operands(weights, places))
        for kernel in self._kernel_paths("forward", features, derivative):
            grid = (len(output), _blocks(kernel))
            launch(self._kernel("forward", kernel), grid, (starts, senders, *read, output), {})
        return output

    def gradients(
        self,
        received: Tensor,
        features: Tensor,
        harmonics: Tensor,
        weights: Tensor,
        places: Tensor,
        senders: Tensor,
        starts: Tensor,
        derivative: int = 0,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of `sum(received * forward(...))` with respect to features, per edge, and weights or table.

        Those per edge, [edges, harmonics_dim], are the derivatives with respect to the harmonics; with a table, column
        0 is that with respect to the length, since the harmonic of degree 0 is a constant.
        """
        operands = received, features, harmonics, weights, places, senders, starts
        found = self.derivatives(*operands, derivative)
        assert found.features is not None
        assert found.harmonics is not None
        assert found.weights is not None
        if found.lengths is not None:
            found.harmonics[:, 0] = found.lengths
        return found.features, found.harmonics, found.weights

    def derivatives(
        self,
        received: Tensor,
        features: Tensor,
        harmonics: Tensor,
        weights: Tensor,
        places: Tensor,
        senders: Tensor,
        starts: Tensor,
        derivative: int = 0,
        sent: SentEdges | None = None,
        wanted: Wanted = Wanted(),  # noqa: B008 – it is frozen.
    ) -> Derivatives:
        """Derivatives of `sum(received * forward(...))`, other arguments as there.

        Edges are taken in ranges whose buffers keep within a fixed size. Every sum has a fixed order, so that equal
        operands give equal bits.

        Args:
            received: [nodes, output_dim].
            sent: Edges by sender; sorted anew where it is not given.
            wanted: Which derivatives to compute.
        """
        of_features = torch.zeros_like(features) if wanted.features else None
        of_harmonics = torch.zeros_like(harmonics) if wanted.harmonics else None
        of_weights = of_lengths = None
        if self.tabulated:
            of_lengths = harmonics.new_zeros(len(senders)) if wanted.lengths else None
            if wanted.weights:
                operands = received, features, harmonics, weights, places, senders, starts
                of_weights = self._of_coefficients(*operands, derivative)
        elif wanted.weights:
            of_weights = torch.empty_like(weights, memory_format=torch.contiguous_format)
        # What the kernel of this pass is asked for: the fourth derivative of a cubic is zero.
        sloped = self.tabulated and derivative < 3
        wanted = replace(wanted, weights=wanted.weights and not self.tabulated, lengths=wanted.lengths and sloped)
        if not any(astuple(wanted)):
            return Derivatives(of_features, of_harmonics, of_weights, of_lengths)
        read = (features.contiguous(), harmonics.contiguous(), *self._weight_operands(weights, places))
        if sent is None:
            sent = SentEdges.of(senders, len(features))
        for first, last, first_node, last_node in self._ranges(starts, len(senders), features.element_size()):
            buffer = features.new_empty(last - first if wanted.features else 0, self.table.input_dim)
            if not self._all_inputs:
                buffer.zero_()
            for kernel in self._kernel_paths("gradients", features, derivative):
                columns = summed_columns(kernel, wanted)
                summed = features.new_empty(_blocks(kernel), last - first, len(columns))
                # What is not wanted is not written to, and any pointer will do.
                written = (buffer, of_weights if wanted.weights else buffer, summed)
                launch(
                    self._kernel("gradients", kernel, wanted),
                    (last_node - first_node, _blocks(kernel)),
                    (starts, senders, first_node, first, last, *read, received.contiguous(), *written),
                    {},
                )
                _add_summed(summed.sum(0), columns, of_harmonics, of_lengths, slice(first, last))
            if of_features is not None:
                gather_sum(buffer, sent.edges, *sent.positions(senders, first, last), of_features, first)
        return Derivatives(of_features, of_harmonics, of_weights, of_lengths)

    def _of_coefficients(
        self,
        received: Tensor,
        features: Tensor,
        harmonics: Tensor,
        weights: Tensor,
        places: Tensor,
        senders: Tensor,
        starts: Tensor,
        derivative: int,
    ) -> Tensor:
        knots, width = weights.shape
        intervals, order = _intervals(places, knots).sort(stable=True)
        interval_starts = torch.searchsorted(intervals, torch.arange(knots - 2, device=order.device))
        nodes = torch.arange(len(received), device=starts.device)
        receivers = torch.repeat_interleave(nodes, starts.diff(), output_size=len(senders))
        parts = min(max(len(order) // ((knots - 3) * _EDGES_OF_PART), 1), _MOST_PARTS)
        partial = features.new_zeros(parts, knots - 3, 4, width)
        operands = (features.contiguous(), harmonics.contiguous(), places.contiguous(), len(senders), knots)
        for kernel in self._kernel_paths("coefficients", features, derivative):
            launch(
                self._kernel("coefficient_gradients", kernel),
                (knots - 3, _blocks(kernel), parts),
                (order, interval_starts, parts, senders, receivers, *operands, received.contiguous(), partial),
                {},
            )
        total = partial.sum(0)
        gradient = torch.zeros_like(weights)
        for b in range(4):
            gradient[b : b + knots - 3] += total[:, b]
        return gradient

    def _weight_operands(self, weights: Tensor, places: Tensor) -> tuple[Tensor | int, ...]:
        if not self.tabulated:
            return (weights.contiguous(),)
        return places.contiguous(), places.numel() - 2, weights.contiguous(), len(weights)

    def _kernel_paths(self, task: Task, features: Tensor, derivative: int) -> list[KernelPaths]:
        key = task, features.element_size(), derivative if self.tabulated else None
        if key not in self._groups:
            self._groups[key] = [
                KernelPaths(self.table, group, key[2], launch_parameters(group.channels).block)
                for group in path_groups(self.table, task, key[1])
            ]
        return self._groups[key]

    def _kernel(self, name: str, kernel: KernelPaths, wanted: Wanted | None = None) -> Any:
        key = name, kernel, wanted
        if key not in self._kernels:
            self._kernels[key] = build_kernel(name, kernel, wanted)
        return self._kernels[key]

    def _ranges(self, starts: Tensor, num_edges: int, itemsize: int) -> Iterator[tuple[int, int, int, int]]:
        """Ranges of edges with their receivers: first edge, end, first receiver, end."""
        size = max(_BUFFER_BYTES // (self.table.input_dim * itemsize), 1)
        if num_edges <= size:
            yield 0, num_edges, 0, len(starts) - 1
            return
        firsts = torch.arange(0, num_edges, size)
        lasts = (firsts + size).clamp(max=num_edges)
        first_nodes = torch.searchsorted(starts.cpu(), firsts, right=True) - 1
        last_nodes = torch.searchsorted(starts.cpu(), lasts)
        yield from zip(firsts.tolist(), lasts.tolist(), first_nodes.tolist(), last_nodes.tolist(), strict=True)


def build_kernel(name: str, kernel: KernelPaths, wanted: Wanted | None = None) -> Any:
    """The Triton function `name`, one of "forward", "gradients" (of what is wanted) and "coefficient_gradients"."""
    if name == "forward":
        source = forward_source(kernel)
    elif name == "gradients":
        source = gradients_source(kernel, wanted or Wanted())
    else:
        source = coefficients_source(kernel)
    return getattr(load_source(f"convolution_{name}", source), name)


def _blocks(kernel: KernelPaths) -> int:
    return -(-kernel.group.channels // kernel.block)


def _add_summed(
    summed: Tensor, columns: list[int], of_harmonics: Tensor | None, of_lengths: Tensor | None, rows: slice
) -> None:
    """Add what one kernel has summed over channels, [edges of the range, columns], to the derivatives."""
    if LENGTH in columns and of_lengths is not None:
        of_lengths[rows] += summed[:, 0]
        columns, summed = columns[1:], summed[:, 1:]
    if columns and of_harmonics is not None:
        of_harmonics[rows, columns[0] : columns[-1] + 1] += summed


def _intervals(places: Tensor, knots: int) -> Tensor:
    """Interval of the table in which each length lies, as the kernels find it."""
    places = places.flatten()
    return ((places[:-2] - places[-2]) * places[-1]).floor().to(torch.int64).clamp(0, knots - 4)


def compile_cases() -> list[CompileCase]:
    """All kernels of usual shapes: both layers of a MACE of 128 channels, l_max 3, and SevenNet's 128x0e+64x1e+32x2e.

    Float32, with a radial table and with weights for every edge; the blocks are those that a launch would choose.
    """
    shapes = {
        "mace_layer_1": convolution_shape((128,), 3),
        "mace_layer_2": convolution_shape((128, 128), 3),
        "sevennet": convolution_shape((128, 64, 32), 2, even=False),
    }
    cases: list[CompileCase] = []
    for lanes, targets in ((32, NVIDIA_TARGETS), (64, AMD_TARGETS)):
        for shape, table in shapes.items():
            for derivative in (None, 0):
                cases.extend(_shape_cases(shape, table, derivative, lanes, targets))
    return cases


def _shape_cases(
    shape: str, table: ConvolutionTable, derivative: int | None, lanes: int, targets: tuple[str, ...]
) -> Iterator[CompileCase]:
    kind = "given" if derivative is None else "tabulated"
    tasks: list[tuple[str, Task]] = [("forward", "forward"), ("gradients", "gradients")]
    if derivative is not None:
        tasks.append(("coefficient_gradients", "coefficients"))
    for name, task in tasks:
        for number, group in enumerate(path_groups(table, task, 4)):
            parameters = launch_parameters(group.channels, lanes)
            kernel = build_kernel(name, KernelPaths(table, group, derivative, parameters.block))
            yield CompileCase(
                f"convolution_{shape}_{kind}_{name}_{number}_lanes_{lanes}",
                kernel,
                {argument: ARGUMENT_TYPES.get(argument, "*fp32") for argument in kernel.arg_names},
                {},
                parameters.num_warps,
                targets,
            )
