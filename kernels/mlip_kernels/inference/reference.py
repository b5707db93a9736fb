"""Definition of the inference program in plain torch: what a network's description means, line by line."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import silu

from mlip_kernels.channelwise_convolution.reference import ReferenceConvolution
from mlip_kernels.edges import EdgeTopology
from mlip_kernels.inference.geometry import Harmonics
from mlip_kernels.inference.pairs import Evaluation, Pairs, Response
from mlip_kernels.inference.spec import ChannelMap, Contraction, Gate, Layer, Network, PairRepulsion, Readout
from mlip_kernels.radial_table import KnotGrid
from mlip_kernels.radial_table.reference import interpolate
from mlip_kernels.symmetric_contraction.cpu_plan import ContractionPlan

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"silu": silu, "tanh": torch.tanh}


def evaluate(
    network: Network,
    positions: np.ndarray,
    elements: np.ndarray,
    pairs: Pairs,
    respond: Response | None = None,
    dtype: torch.dtype = torch.float64,
) -> Evaluation:
    """Energies, forces and virial; arguments and result are those of `InferenceProgram.__call__`."""
    receivers = torch.repeat_interleave(torch.arange(len(positions)), torch.tensor(np.diff(pairs.starts)))
    senders = torch.tensor(pairs.senders)
    places = torch.tensor(positions)
    vectors = (places[senders] - places[receivers] + torch.tensor(pairs.offsets)).to(dtype)
    near = torch.linalg.vector_norm(vectors, dim=1) < network.cutoff
    vectors = vectors[near].requires_grad_()
    edges = EdgeTopology(senders[near], receivers[near], len(positions))
    energies, further = _outputs(network, vectors, torch.tensor(elements), edges)
    total = energies.sum()
    if respond is not None:
        total = total + (torch.tensor(respond(further.detach().double().numpy())).to(dtype) * further).sum()
    (gradient,) = torch.autograd.grad(total, vectors, allow_unused=True)
    gradient = torch.zeros_like(vectors) if gradient is None else gradient
    forces = torch.zeros(len(positions), 3, dtype=dtype).index_add(0, edges.receivers, gradient)
    forces = forces.index_add(0, edges.senders, -gradient)
    virial = vectors.detach().T @ gradient
    distances = torch.linalg.vector_norm(vectors.detach(), dim=1)
    return Evaluation(
        energies.detach().double().numpy(),
        forces.double().numpy(),
        virial.double().numpy(),
        float(distances.min()) if len(distances) else float("inf"),
    )


def _outputs(network: Network, vectors: Tensor, elements: Tensor, edges: EdgeTopology) -> tuple[Tensor, Tensor]:
    """Energy of each atom, [atoms], and further outputs, [atoms, outputs]."""
    distances = torch.linalg.vector_norm(vectors, dim=1)
    harmonics = _harmonics(Harmonics(network.lifts), vectors / distances[:, None])
    sent = _like(network.features, vectors)[elements]
    features: Tensor | None = None
    outputs = vectors.new_zeros(edges.num_nodes, 1 + network.further_outputs)
    for layer in network.layers:
        features = _layer(layer, network, sent, features, harmonics, distances, edges, elements)
        if layer.readout is not None:
            outputs = outputs + _readout(layer.readout, features)
        if layer.up is not None:
            sent = _mapped(layer.up, features, elements)
    energies = outputs[:, 0] * _like(network.scales, vectors)[elements]
    if network.repulsion is not None:
        energies = energies + _repulsion(network.repulsion, network.cutoff, distances, elements, edges)
    return energies, outputs[:, 1:]


def _layer(
    layer: Layer,
    network: Network,
    sent: Tensor,
    features: Tensor | None,
    harmonics: Tensor,
    distances: Tensor,
    edges: EdgeTopology,
    elements: Tensor,
) -> Tensor:
    grid = KnotGrid(network.origin - network.spacing, network.spacing, len(layer.table))
    weights = interpolate(_like(layer.table, sent), distances, grid)
    convolution = ReferenceConvolution(layer.convolution).to(sent.dtype)
    messages = _mapped(layer.down, convolution(sent, harmonics, weights, edges), elements)
    if layer.density is not None:
        counts = interpolate(_like(layer.density.table, sent)[:, None], distances, grid)
        messages = messages / (1.0 + sent.new_zeros(edges.num_nodes, 1).index_add(0, edges.receivers, counts))
    if layer.message is not None:
        messages = _mapped(layer.message, messages, elements)
    residual: Tensor | float = 0.0
    if layer.residual is not None and features is not None:
        residual = _mapped(layer.residual, features, elements)
    elif layer.residual_constants is not None:
        residual = _like(layer.residual_constants, sent)[elements]
    if isinstance(layer.product, Gate):
        products = _gated(layer.product, messages + residual)
    else:
        products = _contracted(layer.product, messages, elements)
    result = products if layer.out is None else _mapped(layer.out, products, elements)
    return result if isinstance(layer.product, Gate) else result + residual


def _harmonics(harmonics: Harmonics, directions: Tensor) -> Tensor:
    values = [torch.ones_like(directions[:, :1])]
    for degree, terms in enumerate(harmonics.steps):
        raised = [torch.zeros_like(directions[:, 0]) for _ in range(2 * degree + 3)]
        for j, axis, i, factor in terms:
            raised[i] = raised[i] + factor * values[-1][:, j] * directions[:, axis]
        values.append(torch.stack(raised, 1))
    return torch.cat(values, 1)


def _mapped(channels: ChannelMap, rows: Tensor, elements: Tensor) -> Tensor:
    result = rows.new_zeros(len(rows), channels.output_dim)
    for block in channels.blocks:
        inner, outer = block.matrix.shape[-2:]
        source = rows[:, block.input_offset : block.input_offset + block.components * inner]
        source = source.reshape(-1, block.components, inner)
        matrix = _like(block.matrix, rows)
        if channels.per_element:
            matrix = matrix[elements]
        mapped = (source @ matrix).flatten(1)
        columns = torch.arange(block.components * outer) + block.output_offset
        result = result.index_add(1, columns, mapped)
    return result


def _contracted(contraction: Contraction, rows: Tensor, elements: Tensor) -> Tensor:
    plan = ContractionPlan(contraction.table)
    values = rows.reshape(len(rows), -1, contraction.channels)
    coefficients = _like(contraction.coefficients, rows)
    result = rows.new_zeros(len(rows), plan.num_outputs, contraction.channels)
    orders = {len(monomial) for _, monomial in plan.rows}
    for order in orders:
        numbers = [number for number, (_, monomial) in enumerate(plan.rows) if len(monomial) == order]
        outputs = torch.tensor([plan.rows[number][0] for number in numbers])
        factors = torch.tensor([plan.rows[number][1] for number in numbers])
        products = coefficients[:, numbers][elements]
        for place in range(order):
            products = products * values[:, factors[:, place]]
        result = result.index_add(1, outputs, products)
    return result.flatten(1)


def _gated(gate: Gate, rows: Tensor) -> Tensor:
    result = rows.new_zeros(len(rows), gate.output_dim)
    for scalar in gate.activated:
        given = rows[:, scalar.input_offset : scalar.input_offset + scalar.channels]
        columns = torch.arange(scalar.channels) + scalar.output_offset
        result = result.index_add(1, columns, _ACTIVATIONS[scalar.activation](given) * scalar.scale)
    for block in gate.gated:
        width = block.components * block.channels
        given = rows[:, block.input_offset : block.input_offset + width].reshape(-1, block.components, block.channels)
        factors = silu(rows[:, block.gate_offset : block.gate_offset + block.channels]) * block.scale
        columns = torch.arange(width) + block.output_offset
        result = result.index_add(1, columns, (given * factors[:, None]).flatten(1))
    return result


def _readout(readout: Readout, rows: Tensor) -> Tensor:
    channels = readout.outputs.shape[1] if readout.hidden is None else len(readout.hidden)
    values = rows[:, readout.offset : readout.offset + channels]
    if readout.hidden is not None:
        values = silu(values @ _like(readout.hidden, rows))
    outputs: Tensor = values @ _like(readout.outputs, rows).T
    return outputs


def _repulsion(
    repulsion: PairRepulsion, cutoff: float, distances: Tensor, elements: Tensor, edges: EdgeTopology
) -> Tensor:
    first, second = elements[edges.receivers], elements[edges.senders]
    charges, powers, radii = (_like(each, distances) for each in (repulsion.charges, repulsion.powers, repulsion.radii))
    reduced = distances * (powers[first] + powers[second]) / repulsion.length
    amplitudes, decays = reduced.new_tensor(repulsion.amplitudes), reduced.new_tensor(repulsion.decays)
    screening = torch.exp(-reduced[:, None] * decays) @ amplitudes
    end = radii[first] + radii[second]
    if repulsion.ends_at_cutoff:
        end = end.clamp(max=cutoff)
    x = (distances / end).clamp(max=1.0)
    p = repulsion.envelope_power
    envelope = 1.0 - (p + 1) * (p + 2) / 2 * x**p + p * (p + 2) * x ** (p + 1) - p * (p + 1) / 2 * x ** (p + 2)
    halves = 0.5 * repulsion.coulomb * charges[first] * charges[second] / distances * screening * envelope
    total = distances.new_zeros(edges.num_nodes).index_add(0, edges.receivers, halves)
    return total * _like(repulsion.factors, distances)[elements]


def _like(values: np.ndarray, tensor: Tensor) -> Tensor:
    return torch.tensor(values, dtype=tensor.dtype)
