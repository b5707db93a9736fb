"""The channelwise convolution as torch operations that differentiate into one another.

With `T(g, x, y, w) = <g, convolve(x, y, w)>`, linear in each operand, `gradients` gives the derivatives of T for x, y
and w, and the derivatives of these are calls of `convolve` and `gradients` in which a cotangent stands for an operand.
Where weights come from a radial table, w is a derivative of its splines, of some order, at the distances r; then T's
derivative for r is that with the next order, and a cotangent of it multiplies the harmonics.
"""

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from mlip_kernels.channelwise_convolution.cpu_plan import table_hash
from mlip_kernels.channelwise_convolution.table import ConvolutionTable
from mlip_kernels.edges import EdgeTopology
from mlip_kernels.wanted import wanted

# Order of the derivative that says that weights are given for every edge, and not by a table.
GIVEN = -1
_TABLES: dict[str, ConvolutionTable] = {}


class KernelConvolution(nn.Module):
    """The function of `ReferenceConvolution`, by compiled programs.

    Args:
        table: The couplings.
    """

    def __init__(self, table: ConvolutionTable) -> None:
        super().__init__()
        self.table = table
        self.key = table_hash(table)
        _TABLES[self.key] = table

    def forward(self, features: Tensor, harmonics: Tensor, weights: Tensor, edges: EdgeTopology) -> Tensor:
        """Convolve; arguments and result are those of `ReferenceConvolution.forward`."""
        places = harmonics.new_empty(0)
        result: Tensor = convolve(features, harmonics, weights, places, edges.senders, edges.starts, self.key, GIVEN)
        return result

    def tabulated(
        self, features: Tensor, harmonics: Tensor, coefficients: Tensor, places: Tensor, edges: EdgeTopology
    ) -> Tensor:
        """Convolve with weights from a radial table; it has first and second derivatives, and no higher ones.

        Args:
            features: Atom features, [nodes, input_dim].
            harmonics: Edge harmonics, [edges, harmonics_dim]; the first of them, of degree 0, is a constant.
            coefficients: Of the cubic B-splines, [knots, weight_dim].
            places: [edges + 2]: the edges' distances, then origin and inverse spacing of the table. An edge takes the
                four coefficients from number floor((distance - origin) * inverse spacing) on.
            edges: Senders and receivers.
        """
        result: Tensor = convolve(features, harmonics, coefficients, places, edges.senders, edges.starts, self.key, 0)
        return result


@torch.library.custom_op("mlip_kernels::convolve", mutates_args=(), device_types="cpu")
def convolve(
    features: Tensor,
    harmonics: Tensor,
    weights: Tensor,
    places: Tensor,
    senders: Tensor,
    starts: Tensor,
    key: str,
    derivative: int,
) -> Tensor:
    """Convolve with the couplings of a key, and weights per edge or a derivative of a radial table's."""
    program = _cpu(key, features.dtype, derivative != GIVEN)
    result: Tensor = program.forward(features, harmonics, weights, places, senders, starts, max(derivative, 0))
    return result


@torch.library.custom_op("mlip_kernels::convolve_gradients", mutates_args=(), device_types="cpu")
def gradients(
    received: Tensor,
    features: Tensor,
    harmonics: Tensor,
    weights: Tensor,
    places: Tensor,
    senders: Tensor,
    starts: Tensor,
    key: str,
    derivative: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of `<received, convolve>` for features, harmonics, weights and places.

    With a table that of the first harmonic, a constant, is left zero.
    """
    program = _cpu(key, features.dtype, derivative != GIVEN)
    operands = (features, harmonics, weights, places, senders, starts)
    of_features, of_edges, of_weights = program.gradients(received, *operands, max(derivative, 0), _parts(derivative))
    of_edges, of_places = _split(of_edges, places, derivative)
    return of_features, of_edges, of_weights, of_places


def _parts(derivative: int) -> Any:
    """What is wanted of gradients in the present pass; weights that are given for every edge depend on positions."""
    from mlip_kernels.channelwise_convolution.cpu import Parts

    inputs = wanted()
    return Parts(edges=inputs != "parameters", weights=inputs != "positions" or derivative == GIVEN)


def _split(of_edges: Tensor, places: Tensor, derivative: int) -> tuple[Tensor, Tensor]:
    """Gradients of the harmonics and of places, from the sums of the edges."""
    of_places = torch.zeros_like(places)
    if derivative != GIVEN and wanted() != "parameters":
        of_places[:-2] = of_edges[:, 0]
        of_edges[:, 0] = 0.0
    return of_edges, of_places


@cache
def _cpu(key: str, dtype: torch.dtype, tabulated: bool) -> Any:
    from mlip_kernels.channelwise_convolution.cpu import CpuConvolution

    return CpuConvolution(_TABLES[key], dtype, tabulated)


@convolve.register_kernel("cuda")
def _(
    features: Tensor,
    harmonics: Tensor,
    weights: Tensor,
    places: Tensor,
    senders: Tensor,
    starts: Tensor,
    key: str,
    derivative: int,
) -> Tensor:
    program = _gpu(key, derivative != GIVEN)
    result: Tensor = program.forward(features, harmonics, weights, places, senders, starts, max(derivative, 0))
    return result


@gradients.register_kernel("cuda")
def _(
    received: Tensor,
    features: Tensor,
    harmonics: Tensor,
    weights: Tensor,
    places: Tensor,
    senders: Tensor,
    starts: Tensor,
    key: str,
    derivative: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    operands = (features, harmonics, weights, places, senders, starts)
    of_features, of_edges, of_weights = _gpu(key, derivative != GIVEN).gradients(
        received, *operands, max(derivative, 0)
    )
    of_edges, of_places = _split(of_edges, places, derivative)
    return of_features, of_edges, of_weights, of_places


@cache
def _gpu(key: str, tabulated: bool) -> Any:
    from mlip_kernels.channelwise_convolution.gpu import GpuConvolution

    return GpuConvolution(_TABLES[key], tabulated)


@convolve.register_fake
def _(
    features: Tensor,
    harmonics: Tensor,
    weights: Tensor,
    places: Tensor,
    senders: Tensor,
    starts: Tensor,
    key: str,
    derivative: int,
) -> Tensor:
    return features.new_empty(starts.shape[0] - 1, _TABLES[key].output_dim)


@gradients.register_fake
def _(
    received: Tensor,
    features: Tensor,
    harmonics: Tensor,
    weights: Tensor,
    places: Tensor,
    senders: Tensor,
    starts: Tensor,
    key: str,
    derivative: int,
) -> tuple[Tensor, ...]:
    operands = (features, harmonics, weights, places)
    return tuple(torch.empty_like(each, memory_format=torch.contiguous_format) for each in operands)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    *tensors, ctx.key, ctx.derivative = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*tensors)


def _differentiate_convolve(ctx: Any, received: Tensor | None) -> tuple[Tensor | None, ...]:
    if received is None:
        return (None,) * 8
    operands = ctx.saved_tensors
    found = gradients(received, *operands, ctx.key, ctx.derivative)
    wanted = [gradient if needed else None for gradient, needed in zip(found, ctx.needs_input_grad, strict=False)]
    return *wanted, None, None, None, None


def _differentiate_gradients(ctx: Any, *cotangents: Tensor | None) -> tuple[Tensor | None, ...]:
    """Derivatives of the sum of T(g, x', y, w), T(g, x, y', w), T(g, x, y, w') and T(g, x, r' y, w + 1 derivative)."""
    received, features, harmonics, weights, places, senders, starts = ctx.saved_tensors
    key, derivative = ctx.key, ctx.derivative
    of_features, of_harmonics, of_weights, of_places = cotangents
    if received.device.type == "cpu" and not torch.is_grad_enabled():
        return *_second_on_cpu(ctx, cotangents), None, None, None, None
    total = _Sums(ctx.needs_input_grad[:5])

    def add(operands: tuple[Tensor, Tensor, Tensor], order: int, factors: tuple[Tensor | float | None, ...]) -> None:
        """Add the derivatives of a term; those for the cotangent that stands for an operand have no factor."""
        if total.needed[0]:
            total.add(0, convolve(*operands, places, senders, starts, key, order))
        if any(total.needed[1:]):
            found = gradients(received, *operands, places, senders, starts, key, order)
            for number, (gradient, factor) in enumerate(zip(found, factors, strict=True), start=1):
                if factor is not None and total.needed[number]:
                    total.add(number, gradient if isinstance(factor, float) else gradient * factor)

    if of_features is not None:
        add((of_features, harmonics, weights), derivative, (None, 1.0, 1.0, 1.0))
    if of_harmonics is not None:
        add((features, _without_constant(of_harmonics, derivative), weights), derivative, (1.0, None, 1.0, 1.0))
    if of_weights is not None:
        add((features, harmonics, of_weights), derivative, (1.0, 1.0, None, 1.0))
    if of_places is not None and derivative != GIVEN:
        slopes = of_places[:-2, None]
        add((features, _ScaledOnce.apply(harmonics, slopes), weights), derivative + 1, (1.0, slopes, 1.0, 1.0))
    return *total.values, None, None, None, None


def _second_on_cpu(ctx: Any, cotangents: tuple[Tensor | None, ...]) -> tuple[Tensor | None, ...]:
    """The function of `_differentiate_gradients` where nothing is differentiated again: all terms add to one sum.

    In training, where the table is constant and parameters alone are wanted, one program gives all of them at once.
    """
    from mlip_kernels.channelwise_convolution.cpu import Changes

    received, features, harmonics, weights, places, senders, starts = ctx.saved_tensors
    of_features, of_harmonics, of_weights, of_places = cotangents
    derivative = ctx.derivative
    order = max(derivative, 0)
    program, parts = _cpu(ctx.key, received.dtype, derivative != GIVEN), _parts(derivative)
    trained = derivative != GIVEN and not parts.edges and of_weights is None
    if trained and of_harmonics is not None and of_places is not None:
        changes = Changes(of_features, of_harmonics, of_places)
        own = program.tangent(received, features, harmonics, weights, places, senders, starts, changes, order)
        return own[0], own[1], None, own[2], None
    terms: list[tuple[tuple[Tensor, Tensor, Tensor], int, str]] = []
    if of_harmonics is not None:
        terms.append(((features, _without_constant(of_harmonics, derivative), weights), order, "harmonics"))
    if of_places is not None and derivative != GIVEN:
        terms.append(((features, harmonics * of_places[:-2, None], weights), order + 1, "places"))
    if of_features is not None:
        terms.append(((of_features, harmonics, weights), order, "features"))
    if of_weights is not None:
        terms.append(((features, harmonics, of_weights), order, "weights"))
    of_received: Tensor | None = None
    sums = torch.zeros_like(features), torch.zeros_like(weights)
    edges = _Sums((True, True))
    for operands, number, changed in terms:
        rest = (places, senders, starts, number)
        of_received = program.forward(*operands, *rest, of_received)
        # A term does not depend on the operand that a cotangent stands for.
        # Gradients of a table are added to; those of weights per edge are written, and have to be added here.
        apart = changed == "weights" or derivative == GIVEN
        own_weights = torch.zeros_like(weights) if apart else sums[1]
        totals = (torch.zeros_like(features) if changed == "features" else sums[0], harmonics, own_weights)
        _, of_edges, _ = program.gradients(received, *operands, *rest, parts, totals)
        if derivative == GIVEN and changed != "weights":
            sums[1].add_(own_weights)
        if parts.edges:
            own, own_places = _split(of_edges, places, derivative)
            if changed != "harmonics":
                edges.add(0, own * of_places[:-2, None] if changed == "places" and of_places is not None else own)
            edges.add(1, own_places)
    return of_received, sums[0], edges.values[0], sums[1], edges.values[1]


class _Sums:
    """Derivatives for the operands, of which some are needed."""

    def __init__(self, needed: tuple[bool, ...]) -> None:
        self.needed = needed
        self.values: list[Tensor | None] = [None] * len(needed)

    def add(self, number: int, value: Tensor) -> None:
        earlier = self.values[number]
        self.values[number] = value if earlier is None else earlier + value


def _without_constant(of_harmonics: Tensor, derivative: int) -> Tensor:
    """A cotangent of the harmonics' gradient, without what belongs to the constant that a table leaves zero."""
    if derivative == GIVEN:
        return of_harmonics
    return torch.nn.functional.pad(of_harmonics[:, 1:], (1, 0))


class _ScaledOnce(torch.autograd.Function):
    """A product that has no derivatives: the first harmonic is no constant any more, as `gradients` takes it to be."""

    @staticmethod
    def forward(ctx: Any, harmonics: Tensor, slopes: Tensor) -> Tensor:
        return harmonics * slopes

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        raise NotImplementedError("a convolution with a radial table has no third derivatives: give weights per edge.")


convolve.register_autograd(_differentiate_convolve, setup_context=_keep)
gradients.register_autograd(_differentiate_gradients, setup_context=_keep)
