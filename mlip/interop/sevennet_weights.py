"""Weights of a SevenNet checkpoint, turned into those of the same network of ours.

Every linear map of theirs and ours divides by the root of its inputs, though not always of the same ones. The mapping
therefore goes through the maps as they act, `y = x @ map` with `map = weight / sqrt(inputs)`; `stored` turns a map into
our weight. Constant factors are folded into the weights that follow: e3nn's estimates of the activations' moments, the
prefactor of the radial basis, the convolution's denominators, and the sign of old 3j tensors.
`docs/architectures.md` has the table.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import torch
from e3nn.math import normalize2mom
from e3nn.o3 import Irrep, Irreps
from torch import Tensor

from mlip.errors import ModelFileError
from mlip.interop.sevennet_config import SevenNetConfig
from mlip.interop.sevennet_state import SevenNetState
from mlip.models.nequip import NequIP, NequIPLayer
from mlip.nn.activation import ACTIVATIONS, activation_scale
from mlip.nn.layout import canonical_irreps

StateDict = dict[str, Tensor]
INVARIANT, PSEUDOSCALAR = Irrep("0e"), Irrep("0o")


class Path(NamedTuple):
    """A path of a convolution: an irrep of the features times the harmonic of degree l2 gives an output irrep."""

    irrep_in: Irrep
    degree: int
    irrep_out: Irrep


class Layer(NamedTuple):
    """One layer of theirs: its number and its irreps, in their order."""

    number: int
    irreps_in: Irreps
    irreps_out: Irreps


@cache
def activation_ratio(name: str) -> float:
    """What e3nn multiplies an activation by, which it estimates from a million draws, over what we do."""
    return float(normalize2mom(ACTIVATIONS[name]).cst) / activation_scale(name)


def average_neighbours(state: SevenNetState) -> float:
    """Ours from the first layer's denominator, of which it is the square."""
    denominator = float(state.take("0_convolution.denominator", 1))
    if denominator == 0.0:
        raise ModelFileError("the SevenNet checkpoint has a convolution with the denominator 0; train it again.")
    return denominator**2


def atomic_values(state: SevenNetState, name: str, config: SevenNetConfig) -> Tensor:
    """`shift` or `scale` of each element in their order, eV, [elements]."""
    key, count = f"rescale_atomic_energy.{name}", len(config.type_map)
    return state.take(key, 1).expand(count) if state.size(key) == 1 else state.take(key, count)


def network_weights(state: SevenNetState, config: SevenNetConfig, network: NequIP, order: Sequence[int]) -> StateDict:
    """Our network's state dict in float64.

    Args:
        state: Their tensors.
        config: Their configuration.
        network: Ours, built for it.
        order: Numbers of our elements among theirs.

    Raises:
        ModelFileError: weights are missing or of another shape.
    """
    features, count = config.features(), len(config.type_map)
    channels, hidden = features[0].dim, features[-1].dim // 2
    embedding = state.take("onehot_to_feature_x.linear.weight", count, channels) / math.sqrt(count)
    first = state.take("reduce_input_to_hidden.linear.weight", features[-1].dim, hidden)
    second = state.take("reduce_hidden_to_energy.linear.weight", hidden, 1)
    readout = _map(first) @ _map(second) * activation_ratio("silu")
    weights = {
        "embedding": embedding[list(order)],
        "radial.basis.frequencies": _frequencies(state, config),
        "readout.weights.0": stored(readout),
    }
    for number, layer in enumerate(network.layers):
        assert isinstance(layer, NequIPLayer)
        theirs = Layer(number, features[number], features[number + 1])
        for name, weight in layer_weights(state, config, theirs, layer, order).items():
            weights[f"layers.{number}.{name}"] = weight
    return weights


def _frequencies(state: SevenNetState, config: SevenNetConfig) -> Tensor:
    """In units of half waves up to the cutoff; theirs are wave numbers in 1/Å, and may have been trained."""
    name, count = "edge_embedding.basis_function.coeffs", config.radial_basis.bessel_basis_num
    if not state.size(name):
        return torch.arange(1.0, count + 1.0, dtype=torch.float64)
    return state.take(name, count) * (config.cutoff / math.pi)


def layer_weights(
    state: SevenNetState, config: SevenNetConfig, theirs: Layer, ours: NequIPLayer, order: Sequence[int]
) -> StateDict:
    """Weights of one layer of ours."""
    up = _linear(state, f"{theirs.number}_self_interaction_1", theirs.irreps_in, theirs.irreps_in)
    connection = _self_connection(state, config, theirs, order)
    if theirs.number:
        # What comes in went through a gate with their activations.
        for maps in (up, connection):
            for irrep in maps:
                maps[irrep] = maps[irrep] * activation_ratio("tanh" if irrep == PSEUDOSCALAR else "silu")
    weights = _convolution_weights(state, config, theirs, ours)
    groups: dict[str, dict[Irrep, Tensor]] = {"up": up, "self_connection": connection}
    for name, maps in groups.items():
        weights |= {f"{name}.weights.{irrep}": stored(each) for irrep, each in maps.items()}
    return weights


def _self_connection(
    state: SevenNetState, config: SevenNetConfig, theirs: Layer, order: Sequence[int]
) -> dict[Irrep, Tensor]:
    """Maps [in, out], or [elements, in, out] where any layer has them."""
    name, irreps_out = f"{theirs.number}_self_connection_intro", gate_inputs(theirs.irreps_out)
    shared = config.self_connections[theirs.number] == "linear"
    if shared:
        maps = _linear(state, name, theirs.irreps_in, irreps_out)
    else:
        maps = _element_linear(state, name, theirs.irreps_in, irreps_out, len(config.type_map))
        maps = {irrep: each[list(order)] for irrep, each in maps.items()}
    maps[INVARIANT] = maps[INVARIANT][..., _gate_columns(theirs.irreps_out)]
    if shared and "nequip" in config.self_connections:
        maps = {irrep: each.expand(len(order), *each.shape) for irrep, each in maps.items()}
    return maps


def _convolution_weights(state: SevenNetState, config: SevenNetConfig, theirs: Layer, ours: NequIPLayer) -> StateDict:
    """Of the radial network and of the linear map after the convolution."""
    convolution = f"{theirs.number}_convolution"
    paths = layer_paths(config, theirs)
    by_output = sorted(paths, key=lambda path: path.irrep_out)
    wanted = {irrep for _, irrep in ours.gate.irreps_in}
    our_paths = sorted(
        (path for path in paths if path.irrep_out in wanted),
        key=lambda path: (path.irrep_out, path.irrep_in, path.degree),
    )
    slices = dict(_slices(by_output if config.columns_are_sorted else paths, paths))
    signs = {path: _sign(state, convolution, path) for path in our_paths}

    widths = [config.radial_basis.bessel_basis_num, *config.weight_nn_hidden_neurons, sum(paths.values())]
    radial = [
        _map(state.take(f"{convolution}.weight_nn.layer{number}.weight", *widths[number : number + 2]))
        for number in range(len(widths) - 1)
    ]
    # Their basis is sqrt(2 / cutoff) times ours.
    radial[0] = radial[0] * math.sqrt(2.0 / config.cutoff)
    radial[1:] = [each * activation_ratio("silu") for each in radial[1:]]
    radial[-1] = torch.cat([radial[-1][:, slices[path]] * signs[path] for path in our_paths], 1)

    middle = Irreps([(paths[path], path.irrep_out) for path in by_output]).simplify()
    down = _linear(state, f"{theirs.number}_self_interaction_2", middle, gate_inputs(theirs.irreps_out))
    down[INVARIANT] = down[INVARIANT][:, _gate_columns(theirs.irreps_out)]
    factor = 1.0 / (float(state.take(f"{convolution}.denominator", 1)) * ours.normalisation)
    weights = {f"convolution.radial_network.weights.{number}": stored(each) for number, each in enumerate(radial)}
    for irrep, each in down.items():
        rows = dict(_slices([path for path in by_output if path.irrep_out == irrep], paths))
        rearranged = torch.cat([each[rows[path]] for path in our_paths if path.irrep_out == irrep])
        weights[f"down.weights.{irrep}"] = stored(rearranged * factor)
    return weights


def layer_paths(config: SevenNetConfig, layer: Layer) -> dict[Path, int]:
    """Paths of a layer's convolution with their channels, by input irrep, then harmonic, then output irrep.

    Theirs go to every irrep up to the highest degree that goes out, in the last layer to even ones, even where the
    linear map that follows has no use for them.
    """
    wanted = config.products(layer.irreps_in, layer.irreps_out.lmax)
    if layer.number == config.num_convolution_layer - 1:
        wanted = {irrep for irrep in wanted if irrep.p == 1}
    return {
        Path(irrep_in, harmonic.l, irrep_out): channels
        for channels, irrep_in in layer.irreps_in
        for _, harmonic in config.harmonics
        for irrep_out in irrep_in * harmonic
        if irrep_out in wanted
    }


def gate_inputs(irreps_out: Irreps) -> Irreps:
    """Irreps before a gate with these after it: one more `0e` for each channel of a degree above 0."""
    gates = Irreps([(channels, INVARIANT) for channels, irrep in irreps_out if irrep.l > 0])
    return canonical_irreps(irreps_out + gates)


def _gate_columns(irreps_out: Irreps) -> Tensor:
    """Columns of their `0e` before a gate in our order: scalars, then the gates of each irrep, irreps sorted."""
    gated = [(INVARIANT, irreps_out.count("0e")), *((irrep, number) for number, irrep in irreps_out if irrep.l > 0)]
    slices = dict(_slices([irrep for irrep, _ in gated], dict(gated)))
    columns = torch.arange(sum(number for _, number in gated))
    return torch.cat([columns[slices[irrep]] for irrep in sorted(slices)])


def _slices(keys: Iterable[Any], widths: Mapping[Any, int]) -> Iterator[tuple[Any, slice]]:
    """Where each of the keys lies when blocks of these widths stand one after another."""
    begin = 0
    for key in keys:
        yield key, slice(begin, begin + widths[key])
        begin += widths[key]


def _sign(state: SevenNetState, convolution: str, path: Path) -> float:
    """e3nn keeps no 3j tensor where a degree is 0."""
    degrees = (path.irrep_in.l, path.degree, path.irrep_out.l)
    return state.coupling_sign(convolution, degrees) if all(degrees) else 1.0


def _linear(state: SevenNetState, name: str, irreps_in: Irreps, irreps_out: Irreps) -> dict[Irrep, Tensor]:
    """Maps [in, out] of an `e3nn.o3.Linear` by irrep, from its flat weight."""
    pairs = _pairs(irreps_in, irreps_out)
    weight = state.take(f"{name}.linear.weight", sum(ins * outs for ins, outs, _ in pairs))
    blocks = weight.split([ins * outs for ins, outs, _ in pairs])
    return {irrep: _map(block.view(ins, outs)) for (ins, outs, irrep), block in zip(pairs, blocks, strict=True)}


def _element_linear(
    state: SevenNetState, name: str, irreps_in: Irreps, irreps_out: Irreps, count: int
) -> dict[Irrep, Tensor]:
    """Maps [elements, in, out] of an `e3nn.o3.FullyConnectedTensorProduct` with a one-hot element, by irrep."""
    pairs = _pairs(irreps_in, irreps_out)
    sizes = [ins * count * outs for ins, outs, _ in pairs]
    blocks = state.take(f"{name}.fc_tensor_product.weight", sum(sizes)).split(sizes)
    return {
        irrep: block.view(ins, count, outs).transpose(0, 1) / math.sqrt(ins * count)
        for (ins, outs, irrep), block in zip(pairs, blocks, strict=True)
    }


def _pairs(irreps_in: Irreps, irreps_out: Irreps) -> list[tuple[int, int, Irrep]]:
    """Channels in and out of each irrep that both have, in the order of e3nn's flat weights."""
    return [(ins, outs, irrep) for ins, irrep in irreps_in for outs, other in irreps_out if irrep == other]


def _map(weight: Tensor) -> Tensor:
    """The map of a weight [inputs, outputs] that is divided by the root of its inputs."""
    return weight / math.sqrt(weight.shape[0])


def stored(each: Tensor) -> Tensor:
    """Our weight for a map [..., inputs, outputs]."""
    return each * math.sqrt(each.shape[-2])
