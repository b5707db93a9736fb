"""Couplings for the tests of the CPU kernels, by shapes of channels, and what a process of its own prints of them."""

import numpy as np
import torch
from edge_cases import normal, random_edges

from mlip_kernels.channelwise_convolution import ConvolutionPath, ConvolutionTable
from mlip_kernels.channelwise_convolution.op import KernelConvolution
from mlip_kernels.edges import EdgeTopology
from mlip_kernels.radial_table import KnotGrid
from mlip_kernels.symmetric_contraction import ContractionTable, ContractionTerm
from mlip_kernels.symmetric_contraction.op import KernelContraction

# Neighbours of each atom; some have none.
NEIGHBOURS = [3, 0, 1, 7, 0, 5]
GRID = KnotGrid(-0.2, 0.1, 24)


def convolution_table(*channels: int) -> ConvolutionTable:
    """Input irreps of degree 0, 1, … with these channels, harmonics of degree up to 2, each output degree twice."""
    rng = np.random.default_rng(sum(channels))
    offsets = np.cumsum([0, *((2 * degree + 1) * count for degree, count in enumerate(channels))]).tolist()
    paths: list[ConvolutionPath] = []
    weight_offset = output_offset = 0
    for degree_out in range(2):
        sources = [(degree, l2) for degree in range(len(channels)) for l2 in (degree_out, 2)]
        output_channels = sum(channels[degree] for degree, _ in sources)
        output_channel = 0
        for degree, l2 in sources:
            coefficients = rng.normal(size=(2 * degree + 1, 2 * l2 + 1, 2 * degree_out + 1))
            coefficients[rng.random(coefficients.shape) < 0.3] = 0.0
            coefficients[0, 0, 0] = 1.0
            place = (output_offset, output_channels, output_channel, channels[degree])
            paths.append(ConvolutionPath(offsets[degree], l2**2, weight_offset, *place, coefficients))
            weight_offset += channels[degree]
            output_channel += channels[degree]
        output_offset += (2 * degree_out + 1) * output_channels
    return ConvolutionTable(tuple(paths), offsets[-1], 9, weight_offset, output_offset)


def contraction_table() -> ContractionTable:
    """Random polynomials of order up to 3 in 4 components, for a scalar and a vector."""
    rng = np.random.default_rng(3)
    terms = []
    offset = 0
    for output, dim in enumerate((1, 3)):
        for order in (1, 2, 3):
            monomials = np.unique(np.sort(rng.integers(0, 4, size=(6, order)), axis=1), axis=0)
            terms.append(ContractionTerm(output, monomials, rng.normal(size=(2, dim, len(monomials))), offset))
            offset += 2
    return ContractionTable(tuple(terms), 4, (1, 3), offset)


def convolution_operands(
    table: ConvolutionTable, neighbours: list[int], dtype: torch.dtype
) -> tuple[torch.Tensor, ...]:
    """Features, harmonics after the constant, weights at knots, and lengths."""
    edges = sum(neighbours)
    features, harmonics, weights = normal(
        5, (len(neighbours), table.input_dim), (edges, 8), (GRID.knots, table.weight_dim), dtype=dtype
    )
    lengths = torch.linspace(0.02, 1.7, edges, dtype=dtype)
    return tuple(each.requires_grad_() for each in (features, harmonics, weights, lengths))


def tabulated(operation: KernelConvolution, operands: tuple[torch.Tensor, ...], edges: EdgeTopology) -> torch.Tensor:
    """The convolution with a radial table of operands as above."""
    features, harmonics, weights, lengths = operands
    whole = torch.cat([harmonics.new_ones(len(harmonics), 1), harmonics], 1)
    scale = lengths.new_tensor([GRID.origin + GRID.spacing, 1 / GRID.spacing])
    return operation.tabulated(features, whole, weights, torch.cat([lengths, scale]), edges)


def derivatives(output: torch.Tensor, operands: tuple[torch.Tensor, ...]) -> list[torch.Tensor]:
    """Gradients of a function of the output, and gradients of their squares: what a loss on forces needs."""
    first = torch.autograd.grad((output**3).sum(), operands, create_graph=True)
    second = torch.autograd.grad(sum((each**2).sum() for each in first), operands)
    return [each.detach() for each in (output, *first, *second)]


def results(dtype: torch.dtype) -> list[torch.Tensor]:
    """Values and derivatives of a convolution with a table and of a contraction."""
    table = convolution_table(20, 7)
    operands = convolution_operands(table, NEIGHBOURS, dtype)
    output = tabulated(KernelConvolution(table), operands, random_edges(NEIGHBOURS, 0))
    found = derivatives(output, operands)
    features, weights = normal(6, (5, 4, 20), (3, contraction_table().num_weights, 20), dtype=dtype)
    given = (features.requires_grad_(), weights.requires_grad_())
    contracted = KernelContraction(contraction_table()).to(dtype)(*given, torch.tensor([2, 0, 0, 2, 0]))
    return [*found, *derivatives(contracted, given)]


if __name__ == "__main__":
    # In a process for another processor: its numbers are compared with those of this one.
    for number in (each.double().abs().sum() for each in results(torch.float64)):
        print(float(number))  # noqa: T201
