"""Convolution whose paths are summed, with weights per degree or shared: what a swapped tensor product computes."""

from collections.abc import Sequence

import torch
from e3nn.o3 import Irrep, Irreps
from torch import Tensor, nn

from mlip.errors import ConfigError
from mlip.nn.gain import product_gain
from mlip.nn.layout import blocks, natural_irreps
from mlip.nn.mlp import MLP
from mlip.nn.product_choice import ProductChoice
from mlip.tensor_products import Backend, ProductSpec
from mlip.tensor_products.clebsch_gordan import ClebschGordan
from mlip.tensor_products.matrix import SpinMatrix
from mlip_kernels.constants import ConstantModule
from mlip_kernels.edge_matrix_convolution import StreamedEdgeMatrixConvolution
from mlip_kernels.edges import EdgeTopology
from mlip_kernels.factorised_convolution import StreamedFactorisedConvolution
from mlip_kernels.segment_sum import segment_sum


class SummedConvolution(ConstantModule):
    """Sum over neighbours, and over paths, of the products of their features with the edge's harmonics.

    The weights that a radial network computes from the edge's length are one per degree l2 of the harmonics and channel
    (`per_degree`) or one per channel (`shared`): factors for l1 and l3 lie in the linear maps before and after. Every
    backend of a coupling computes the same function of the same weights. Results have variance one for normal features
    and weights; see `product_gain`.

    Args:
        irreps_in: Canonical irreps of the features, all of the same number of channels.
        l_max: Highest degree of the harmonics, component-normalised.
        targets: Irreps wanted in the output.
        radial_widths: Numbers of radial functions and of units in each hidden layer of the radial network.
        choice: Backend, coupling and weights.
        parity: That of harmonics of degree 1: -1, or 1 where only rotations count.

    Attributes:
        irreps_out: Irreps of the targets that the coupling reaches, with the channels of the features.

    Raises:
        ConfigError: the backend cannot compute the coupling, or reaches none of the targets.
    """

    gain: Tensor

    def __init__(
        self,
        irreps_in: Irreps,
        l_max: int,
        targets: Irreps,
        radial_widths: Sequence[int],
        choice: ProductChoice,
        parity: int = -1,
    ) -> None:
        super().__init__()
        self.channels = irreps_in[0].mul
        spec = convolution_spec(irreps_in, l_max, targets, choice, parity)
        self.irreps_out = Irreps([(self.channels, irrep) for irrep in spec.irreps_out])
        self.rows = l_max + 1 if choice.weights == "per_degree" else 1
        self.radial_network = MLP([*radial_widths, self.rows * self.channels])
        self.operation = _operation(choice.build(spec, self.channels, 1), self.rows)
        self.register_constant("gain", torch.tensor(product_gain(spec))[:, None])

    # Radial functions have to be given for every edge.
    takes_knots = False

    def forward(self, features: Tensor, harmonics: Tensor, radial: Tensor, edges: EdgeTopology) -> Tensor:
        """Convolve features [nodes, irreps_in.dim] with harmonics [edges, (l_max+1)^2] and radial [edges, functions].

        Returns:
            [nodes, irreps_out.dim], channel-last per irrep.
        """
        weights = self.radial_network(radial).unflatten(1, (self.rows, self.channels))
        convolved = self.operation(features.unflatten(1, (-1, self.channels)), harmonics, weights, edges)
        return (convolved * self.gain).flatten(1)


def convolution_spec(irreps_in: Irreps, l_max: int, targets: Irreps, choice: ProductChoice, parity: int) -> ProductSpec:
    """What a summed convolution has to compute, with those targets that it reaches.

    Raises:
        ConfigError: it reaches none.
    """
    in1 = tuple(block.irrep for block in blocks(irreps_in))
    in2 = tuple(irrep for _, irrep in natural_irreps(1, l_max, parity))
    wanted = tuple(irrep for _, irrep in targets)
    whole = ProductSpec(in1, in2, wanted, choice.coupling, "none")
    reached = {path.irrep_out for path in whole.paths}
    if not reached:
        raise ConfigError(
            f"the coupling '{choice.coupling}' leads from {irreps_in} and harmonics up to degree {l_max} to none of "
            f"{targets}: choose another coupling or other irreps."
        )
    return ProductSpec(in1, in2, tuple(irrep for irrep in wanted if irrep in reached), choice.coupling, "none")


def _operation(backend: Backend, rows: int) -> nn.Module:
    """The way of summing over neighbours that suits a backend."""
    if isinstance(backend, ClebschGordan):
        return _EdgeMatrices(backend.spec, rows)
    if isinstance(backend, SpinMatrix):
        return _SpinMatrices(backend, rows)
    if backend.factors(torch.empty(0)) is not None:
        return _Factorised(backend, rows)
    return _Messages(backend, rows)


class _EdgeMatrices(ConstantModule):
    """`clebsch_gordan`: harmonics become a matrix per edge and degree l2, which all channels share."""

    couplings: Tensor

    def __init__(self, spec: ProductSpec, rows: int) -> None:
        super().__init__()
        self.convolution = StreamedEdgeMatrixConvolution()
        d1, d2, d3 = spec.dims
        self.shape = (rows, d3, d1)
        # [harmonics, row, component out, component in]; a degree's components feed the row of that degree.
        couplings = torch.zeros(d2, *self.shape, dtype=torch.float64)
        tensor = torch.tensor(spec.tensor())
        for component, row in enumerate(_rows_of_components(spec.irreps_in2, rows)):
            couplings[component, row] = tensor[:, component].T
        self.register_constant("couplings", couplings.flatten(1))

    def forward(self, features: Tensor, harmonics: Tensor, weights: Tensor, edges: EdgeTopology) -> Tensor:
        matrices = (harmonics @ self.couplings).unflatten(1, self.shape)
        convolved: Tensor = self.convolution(features[:, :, None], matrices, weights, edges)
        return convolved[:, :, 0]


class _SpinMatrices(nn.Module):
    """`matrix`: the sum is taken between matrices, the conversions once per atom."""

    selection: Tensor

    def __init__(self, backend: SpinMatrix, rows: int) -> None:
        super().__init__()
        self.convolution = StreamedEdgeMatrixConvolution()
        self.backend = backend
        self.register_buffer("selection", _selection(backend.spec, rows), persistent=False)

    def forward(self, features: Tensor, harmonics: Tensor, weights: Tensor, edges: EdgeTopology) -> Tensor:
        to_matrices, of_harmonics, from_matrices = self.backend.tables(features)
        signals, size, _ = self.backend.shape
        sent = (to_matrices @ features).unflatten(1, (signals, size, size))
        matrices = (harmonics @ _by_row(of_harmonics, self.selection)).unflatten(1, (-1, signals, size, size))
        convolved = [
            self.convolution(sent[:, signal], matrices[:, :, signal], weights, edges) for signal in range(signals)
        ]
        return from_matrices @ torch.stack(convolved, 1).flatten(1, 3)


class _Factorised(nn.Module):
    """Grid, torus or ranks: features are taken there once per atom, multiplied and summed, and taken back once."""

    selection: Tensor

    def __init__(self, backend: Backend, rows: int) -> None:
        super().__init__()
        self.convolution = StreamedFactorisedConvolution()
        self.backend = backend
        self.register_buffer("selection", _selection(backend.spec, rows), persistent=False)

    def forward(self, features: Tensor, harmonics: Tensor, weights: Tensor, edges: EdgeTopology) -> Tensor:
        factors = self.backend.factors(features)
        assert factors is not None
        to_points, of_harmonics, from_points = factors
        filters = (harmonics @ _by_row(of_harmonics, self.selection)).unflatten(1, (-1, len(of_harmonics)))
        convolved = self.convolution(to_points @ features, filters, weights, edges)
        return from_points @ convolved


class _Messages(nn.Module):
    """Any other backend, such as one from outside: a product per edge, then the sum."""

    selection: Tensor

    def __init__(self, backend: Backend, rows: int) -> None:
        super().__init__()
        self.backend = backend
        self.register_buffer("selection", _selection(backend.spec, rows), persistent=False)

    def forward(self, features: Tensor, harmonics: Tensor, weights: Tensor, edges: EdgeTopology) -> Tensor:
        weighted = harmonics[:, :, None] * (self.selection.to(weights.dtype) @ weights)
        messages = self.backend(features.index_select(0, edges.senders), weighted, None)
        return segment_sum(messages, edges.receivers, edges.num_nodes)


def _by_row(table: Tensor, selection: Tensor) -> Tensor:
    """A table of the harmonics, [points, harmonics], taken apart by rows of weights: [harmonics, rows * points].

    A row's part of an edge's filter is that of the components of its degree.
    """
    return (selection.to(table.dtype)[:, :, None] * table.T[:, None, :]).flatten(1)


def _rows_of_components(harmonics: tuple[Irrep, ...], rows: int) -> list[int]:
    """Row of the weights that each component of the harmonics has: that of its degree, or the only one."""
    return [number if rows > 1 else 0 for number, irrep in enumerate(harmonics) for _ in range(irrep.dim)]


def _selection(spec: ProductSpec, rows: int) -> Tensor:
    """One where a component of the harmonics belongs to a row of weights, [harmonics, rows]."""
    return nn.functional.one_hot(torch.tensor(_rows_of_components(spec.irreps_in2, rows)), rows)
