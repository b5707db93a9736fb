"""Describes a potential to the inference compiler: padded rows, maps of channels, radial tables."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from e3nn.o3 import Irrep, Irreps
from numpy.typing import NDArray
from torch import Tensor

from mlip.models.config import NequIPConfig
from mlip.models.mace import Mace, MaceLayer
from mlip.models.nequip import NequIP, NequIPLayer
from mlip.nn import ElementLinear, EquivariantLinear
from mlip.nn.activation import activation_scale
from mlip.nn.contraction import SymmetricContraction
from mlip.nn.convolution import Convolution
from mlip.nn.gate import Gate
from mlip.nn.layout import blocks
from mlip.nn.mlp import MLP
from mlip.nn.zbl import ZBLRepulsion
from mlip.so3 import wigner_3j
from mlip_kernels.channelwise_convolution.cpu_plan import padded_table
from mlip_kernels.channelwise_convolution.table import ConvolutionTable
from mlip_kernels.inference import spec
from mlip_kernels.radial_table import KnotGrid, spline_coefficients
from mlip_kernels.symmetric_contraction.cpu_plan import ContractionPlan

if TYPE_CHECKING:
    from mlip.models.potential import Potential

Array = NDArray[np.float64]
_INVARIANT = Irrep("0e")


@dataclass(frozen=True)
class Placement:
    """Where the channels of one irrep lie in a padded row.

    Attributes:
        offset: First column of the irrep.
        channels: Padded number of channels.
        positions: Padded channel of each channel, int64 [channels].
    """

    offset: int
    channels: int
    positions: NDArray[np.int64]


# The irreps of a padded row.
Row = dict[Irrep, Placement]


def describe(model: "Potential", intervals: int, lanes: int) -> spec.Network:
    """The network of a potential with weights per path.

    Args:
        model: On the CPU, in float64.
        intervals: Of the radial tables between 0 and the cutoff.
        lanes: Channels are padded to a multiple of it.
    """
    network = model.network
    grid = KnotGrid.covering(model.cutoff, intervals)
    first: MaceLayer | NequIPLayer
    if isinstance(network, Mace):
        layers = list(_mace_layers(network, grid, lanes))
        first = _layers_of_mace(network)[0]
    else:
        # There are two architectures, each with a configuration of its own.
        assert isinstance(network, NequIP)
        assert isinstance(model.config, NequIPConfig)
        layers = list(_nequip_layers(network, grid, lanes, model.config.solid_harmonics))
        first = _layers_of_nequip(network)[0]
    l_max = network.l_max
    return spec.Network(
        cutoff=model.cutoff,
        # The four splines of an interval start with the one before it.
        origin=grid.origin + grid.spacing,
        spacing=grid.spacing,
        lifts=tuple(wigner_3j(degree, 1, degree + 1) * math.sqrt(2 * degree + 3) for degree in range(l_max)),
        features=_element_features(network.embedding, first.up, _convolution(first), lanes),
        scales=_numpy(model.scale),
        layers=tuple(layers),
        repulsion=None if model.zbl is None else _repulsion(model),
    )


def _mace_layers(network: Mace, grid: KnotGrid, lanes: int) -> Iterable[spec.Layer]:
    layers = _layers_of_mace(network)
    readouts = cast(list[MLP], list(network.readouts))
    for number, layer in enumerate(layers):
        convolution = _convolution(layer)
        convolved = padded_table(convolution.table, lanes)
        density = _plain_row(layer.down.irreps_out, lanes)
        features = _plain_row(layer.out.irreps_out, lanes)
        following = layers[number + 1] if number + 1 < len(layers) else None
        normalisation = 1.0 / layer.average_neighbours if layer.density is None else 1.0
        down = _map(layer.down, _convolved_row(convolution, convolved), density, normalisation)
        contraction = _contraction(layer, lanes)
        product_row = _plain_row(layer.out.irreps_in, lanes)
        residual = constants = None
        if layer.residual is not None and number == 0:
            constants = _element_constants(network.embedding, layer.residual, features)
        elif layer.residual is not None:
            residual = _map(layer.residual, _plain_row(layer.residual.irreps_in, lanes), features)
        yield spec.Layer(
            convolution=convolved,
            table=_radial_table(convolution, convolved, network.radial, grid),
            down=down,
            density=None if layer.density is None else _density(layer, network.radial, grid),
            message=None if layer.mixing is None else _map(layer.mixing, density, density),
            product=contraction,
            out=_map(layer.out, product_row, features),
            residual=residual,
            residual_constants=constants,
            readout=_readout(readouts[number], features, lanes),
            up=None if following is None else _up(following.up, features, _convolution(following), lanes),
        )


def _nequip_layers(network: NequIP, grid: KnotGrid, lanes: int, solid: bool) -> Iterable[spec.Layer]:
    layers = _layers_of_nequip(network)
    for number, layer in enumerate(layers):
        convolution = _convolution(layer)
        convolved = padded_table(convolution.table, lanes)
        gate, gate_in, gate_out = _gate(layer.gate, lanes)
        following = layers[number + 1] if number + 1 < len(layers) else None
        residual = constants = None
        if number == 0:
            constants = _element_constants(network.embedding, layer.self_connection, gate_in)
        else:
            residual = _map(layer.self_connection, _plain_row(layer.self_connection.irreps_in, lanes), gate_in)
        yield spec.Layer(
            convolution=convolved,
            table=_radial_table(convolution, convolved, network.radial, grid, solid),
            down=_map(layer.down, _convolved_row(convolution, convolved), gate_in, layer.normalisation),
            density=None,
            message=None,
            product=gate,
            out=None,
            residual=residual,
            residual_constants=constants,
            readout=_readout(network.readout, gate_out, lanes) if following is None else None,
            up=None if following is None else _up(following.up, gate_out, _convolution(following), lanes),
        )


# Parts of networks. Torch's lists of modules do not tell what they hold; models whose products are other than these are
# refused before they are described.


def _layers_of_mace(network: Mace) -> list[MaceLayer]:
    return cast(list[MaceLayer], list(network.layers))


def _layers_of_nequip(network: NequIP) -> list[NequIPLayer]:
    return cast(list[NequIPLayer], list(network.layers))


def _convolution(layer: MaceLayer | NequIPLayer) -> Convolution:
    assert isinstance(layer.convolution, Convolution)
    return layer.convolution


# Rows


def _plain_row(irreps: Irreps, lanes: int) -> Row:
    row: Row = {}
    offset = 0
    for block in blocks(irreps):
        channels = _padded(block.channels, lanes)
        row[block.irrep] = Placement(offset, channels, np.arange(block.channels))
        offset += channels * block.dim
    return row


def _row_dim(row: Row) -> int:
    return max(place.offset + place.channels * irrep.dim for irrep, place in row.items())


def _convolved_row(convolution: Convolution, padded: ConvolutionTable) -> Row:
    """Row of a convolution's result: the paths of an irrep one after another, each padded."""
    row: Row = {}
    for block in blocks(convolution.irreps_out):
        positions = np.zeros(block.channels, dtype=np.int64)
        offset = channels = 0
        for path, wide in zip(convolution.table.paths, padded.paths, strict=True):
            if path.output_offset == block.offset:
                first = path.output_channel
                positions[first : first + path.channels] = wide.output_channel + np.arange(path.channels)
                offset, channels = wide.output_offset, wide.output_channels
        row[block.irrep] = Placement(offset, channels, positions)
    return row


def _sent_row(irreps: Irreps, convolution: Convolution, padded: ConvolutionTable) -> Row:
    """Row that a convolution takes: the irreps that its paths use."""
    offsets = {path.input_offset: wide for path, wide in zip(convolution.table.paths, padded.paths, strict=True)}
    return {
        block.irrep: Placement(
            offsets[block.offset].input_offset, offsets[block.offset].channels, np.arange(block.channels)
        )
        for block in blocks(irreps)
        if block.offset in offsets
    }


def _gate(gate: Gate, lanes: int) -> tuple[spec.Gate, Row, Row]:
    """A gate with the rows of its input and output; scalars and the gates of every irrep are padded apart."""
    outputs = _plain_row(gate.irreps_out, lanes)
    inputs: Row = {}
    invariant = [np.arange(gate.irreps_out.count("0e"))]
    width = outputs[_INVARIANT].channels
    gates: dict[Irrep, int] = {}
    for block in blocks(gate.irreps_out):
        if block.irrep.l > 0:
            gates[block.irrep] = width
            invariant.append(width + np.arange(block.channels))
            width += _padded(block.channels, lanes)
    offset = 0
    for block in blocks(gate.irreps_in):
        if block.irrep == _INVARIANT:
            inputs[block.irrep] = Placement(offset, width, np.concatenate(invariant))
        else:
            inputs[block.irrep] = Placement(offset, _padded(block.channels, lanes), np.arange(block.channels))
        offset += inputs[block.irrep].channels * block.dim
    activated, gated = [], []
    for irrep, place in outputs.items():
        source = inputs[irrep].offset
        if irrep.l == 0:
            name = "silu" if irrep.p == 1 else "tanh"
            activated.append(spec.ActivatedBlock(source, place.offset, place.channels, name, activation_scale(name)))
        else:
            factors = inputs[_INVARIANT].offset + gates[irrep]
            scale = activation_scale("silu")
            gated.append(spec.GatedBlock(source, factors, place.offset, irrep.dim, place.channels, scale))
    described = spec.Gate(tuple(activated), tuple(gated), _row_dim(inputs), _row_dim(outputs))
    return described, inputs, outputs


# Maps


def _map(linear: EquivariantLinear | ElementLinear, source: Row, target: Row, factor: float = 1.0) -> spec.ChannelMap:
    per_element = isinstance(linear, ElementLinear)
    mapped = []
    for name, weight in linear.weights.items():
        irrep = Irrep(name)
        if irrep not in source or irrep not in target:
            continue
        given, wanted = source[irrep], target[irrep]
        values = _numpy(weight) * (factor / math.sqrt(weight.shape[-2]))
        matrix = np.zeros((*values.shape[:-2], given.channels, wanted.channels))
        matrix[..., given.positions[:, None], wanted.positions] = values
        mapped.append(spec.MapBlock(given.offset, wanted.offset, irrep.dim, matrix))
    return spec.ChannelMap(tuple(mapped), _row_dim(source), _row_dim(target), per_element)


def _up(linear: EquivariantLinear, source: Row, convolution: Convolution, lanes: int) -> spec.ChannelMap:
    target = _sent_row(linear.irreps_out, convolution, padded_table(convolution.table, lanes))
    return _map(linear, source, target)


def _element_features(embedding: Tensor, up: EquivariantLinear, convolution: Convolution, lanes: int) -> Array:
    """What the first convolution takes for each element, [elements, columns]."""
    row = _sent_row(up.irreps_out, convolution, padded_table(convolution.table, lanes))
    features = np.zeros((len(embedding), _row_dim(row)))
    place = row[_INVARIANT]
    weight = _numpy(up.weights["0e"]) / math.sqrt(embedding.shape[1])
    features[:, place.offset + place.positions] = _numpy(embedding) @ weight
    return features


def _element_constants(embedding: Tensor, linear: EquivariantLinear | ElementLinear, row: Row) -> Array:
    """What a map of the embedding gives for each element, [elements, columns]."""
    constants = np.zeros((len(embedding), _row_dim(row)))
    place = row[_INVARIANT]
    weight = _numpy(linear.weights["0e"]) / math.sqrt(embedding.shape[1])
    mapped = (_numpy(embedding)[:, None] @ weight)[:, 0] if weight.ndim == 3 else _numpy(embedding) @ weight
    constants[:, place.offset + place.positions] = mapped
    return constants


def _contraction(layer: MaceLayer, lanes: int) -> spec.Contraction:
    contraction = layer.contraction
    assert isinstance(contraction, SymmetricContraction)
    plan = ContractionPlan(contraction.table)
    coefficients: Array = np.einsum("rq,zqc->zrc", plan.collapse, _numpy(contraction.weights))
    channels = _padded(coefficients.shape[2], lanes)
    wide = np.zeros((*coefficients.shape[:2], channels))
    wide[..., : coefficients.shape[2]] = coefficients
    return spec.Contraction(contraction.table, channels, wide)


def _readout(readout: MLP, row: Row, lanes: int) -> spec.Readout:
    place = row[_INVARIANT]
    weights = [_numpy(weight) / math.sqrt(weight.shape[0]) for weight in readout.weights]
    if len(weights) == 1:
        outputs = np.zeros((weights[0].shape[1], place.channels))
        outputs[:, place.positions] = weights[0].T
        return spec.Readout(place.offset, None, outputs)
    units = weights[0].shape[1]
    hidden = np.zeros((place.channels, _padded(units, lanes)))
    hidden[place.positions, :units] = weights[0]
    outputs = np.zeros((weights[1].shape[1], hidden.shape[1]))
    outputs[:, :units] = weights[1].T * activation_scale("silu")
    return spec.Readout(place.offset, hidden, outputs)


# Functions of the distance


def _radial_table(
    convolution: Convolution,
    padded: ConvolutionTable,
    embedding: Callable[[Tensor], Tensor],
    grid: KnotGrid,
    solid: bool = False,
) -> Array:
    """Spline coefficients of the radial weights, [knots, padded weights].

    Harmonics that grow with the distance are those of the direction times a power of it, which goes to the weights.
    """
    distances = grid.positions()
    with torch.no_grad():
        weights = convolution.radial_network(embedding(distances))
        columns = []
        for path, wide in zip(convolution.table.paths, padded.paths, strict=True):
            values = weights[:, path.weight_offset : path.weight_offset + path.channels]
            if solid:
                values = values * distances[:, None] ** ((path.coefficients.shape[1] - 1) // 2)
            columns.append(torch.nn.functional.pad(values, (0, wide.channels - path.channels)))
        return _numpy(spline_coefficients(torch.cat(columns, 1)))


def _density(layer: MaceLayer, embedding: Callable[[Tensor], Tensor], grid: KnotGrid) -> spec.DensityNormalisation:
    assert layer.density is not None
    with torch.no_grad():
        counts = torch.tanh(layer.density.linear(embedding(grid.positions())) ** 2)
        return spec.DensityNormalisation(_numpy(spline_coefficients(counts))[:, 0])


def _repulsion(model: "Potential") -> spec.PairRepulsion:
    zbl = model.zbl
    assert isinstance(zbl, ZBLRepulsion)
    charges = _numpy(zbl.charges)
    factor = _numpy(model.scale) if model.config.zbl_form == "mace" else np.ones(len(charges))
    return spec.PairRepulsion(
        charges=charges,
        powers=charges ** float(zbl.exponent),
        radii=_numpy(zbl.radii),
        factors=factor,
        amplitudes=tuple(_numpy(zbl.amplitudes).tolist()),
        decays=tuple(_numpy(zbl.decays).tolist()),
        length=float(zbl.length),
        coulomb=zbl.form.coulomb,
        ends_at_cutoff=zbl.form.ends_at_cutoff,
        envelope_power=zbl.power,
    )


def _padded(channels: int, lanes: int) -> int:
    return -(-channels // lanes) * lanes


def _numpy(values: Tensor) -> Array:
    return values.detach().to(torch.float64).cpu().numpy()
