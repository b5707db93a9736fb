"""Weights of a SevenNet checkpoint, turned into those of the same network of ours, by the maps that they act by.

Constant factors are folded into the weights that follow: e3nn's estimates of the activations' moments, the prefactor of
the radial basis, the convolutions' denominators, and the sign of old 3j tensors. `docs/architectures.md` has the table.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from e3nn.o3 import Irreps
from torch import Tensor

from mlip.errors import CheckpointError
from mlip.interop.e3nn_maps import (
    Path,
    StateDict,
    activation_ratio,
    by_output,
    convolution_weights,
    element_maps,
    linear_maps,
    outputs,
    path_widths,
    rearranged,
    scaled,
    stored,
)
from mlip.interop.sevennet_config import SevenNetConfig
from mlip.interop.sevennet_state import SevenNetState
from mlip.models.nequip import NequIP, NequIPLayer
from mlip.nn.layout import canonical_irreps


class Layer(NamedTuple):
    """One layer of theirs: its number and its irreps, in their order."""

    number: int
    irreps_in: Irreps
    irreps_out: Irreps


def check_sizes(state: SevenNetState, config: SevenNetConfig) -> None:
    """Compare the channels in the configuration with the weights, before a network of this size is built.

    Raises:
        CheckpointError: they differ.
    """
    for number, irreps in enumerate(config.features()[:-1]):
        _linear(state, f"{number}_self_interaction_1", irreps, irreps)


def denominator(state: SevenNetState, number: int) -> float:
    """What the sum over neighbours in a layer is divided by, the root of our average neighbours.

    Raises:
        CheckpointError: it is zero, or missing.
    """
    value = float(state.take(f"{number}_convolution.denominator", 1))
    if value == 0.0:
        raise CheckpointError(f"the SevenNet checkpoint divides by 0 in '{number}_convolution'; train it again.")
    return value


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
        CheckpointError: weights are missing or of another shape.
    """
    features, count = config.features(), len(config.type_map)
    hidden = features[-1].dim // 2
    embedding = scaled(state.take("onehot_to_feature_x.linear.weight", count, features[0].dim))
    first = scaled(state.take("reduce_input_to_hidden.linear.weight", features[-1].dim, hidden))
    second = scaled(state.take("reduce_hidden_to_energy.linear.weight", hidden, 1))
    weights = {
        "embedding": embedding[list(order)],
        "radial.basis.frequencies": _frequencies(state, config),
        "readout.weights.0": stored(first @ second * activation_ratio("silu")),
    }
    for number, layer in enumerate(network.layers):
        assert isinstance(layer, NequIPLayer)
        theirs = Layer(number, features[number], features[number + 1])
        for name, weight in _layer_weights(state, config, theirs, layer, order).items():
            weights[f"layers.{number}.{name}"] = weight
    return weights


def _frequencies(state: SevenNetState, config: SevenNetConfig) -> Tensor:
    """In half waves up to the cutoff; theirs are wave numbers in 1/Å, which may have been trained or left out."""
    name, count = "edge_embedding.basis_function.coeffs", config.radial_basis.bessel_basis_num
    if not state.size(name):
        return torch.arange(1.0, count + 1.0, dtype=torch.float64)
    return state.take(name, count) * (config.cutoff / math.pi)


def _layer_weights(
    state: SevenNetState, config: SevenNetConfig, theirs: Layer, ours: NequIPLayer, order: Sequence[int]
) -> StateDict:
    """Weights of one layer of ours."""
    up = _linear(state, f"{theirs.number}_self_interaction_1", theirs.irreps_in, theirs.irreps_in)
    connection = _self_connection(state, config, theirs, order)
    if theirs.number:
        # What comes in went through a gate with e3nn's activations.
        for maps in (up, connection):
            for irrep in maps:
                maps[irrep] = maps[irrep] * activation_ratio("tanh" if irrep == "0o" else "silu")
    weights = _convolution_weights(state, config, theirs, ours)
    for name, maps in {"up": up, "self_connection": connection}.items():
        weights |= {f"{name}.weights.{irrep}": stored(each) for irrep, each in maps.items()}
    return weights


def _self_connection(
    state: SevenNetState, config: SevenNetConfig, theirs: Layer, order: Sequence[int]
) -> dict[str, Tensor]:
    """Maps [in, out] where no layer's depend on the element, else [elements, in, out]."""
    name, irreps_out = f"{theirs.number}_self_connection_intro", _gate_inputs(theirs.irreps_out)
    if config.self_connections[theirs.number] == "linear":
        maps = _linear(state, name, theirs.irreps_in, irreps_out)
        if "nequip" in config.self_connections:
            maps = {irrep: each.expand(len(order), *each.shape) for irrep, each in maps.items()}
    else:
        elements = torch.eye(len(config.type_map), dtype=torch.float64)
        size = len(elements) * _size(theirs.irreps_in, irreps_out)
        weight = state.take(f"{name}.fc_tensor_product.weight", size)
        maps = element_maps(weight, theirs.irreps_in, elements[list(order)], irreps_out)
    return _with_our_gates(maps, theirs.irreps_out)


def _convolution_weights(state: SevenNetState, config: SevenNetConfig, theirs: Layer, ours: NequIPLayer) -> StateDict:
    """Of the radial network and of the linear map after the convolution."""
    convolution = f"{theirs.number}_convolution"
    paths = _paths(config, theirs)
    widths = [config.radial_basis.bessel_basis_num, *config.weight_nn_hidden_neurons, sum(paths.values())]
    radial = [
        scaled(state.take(f"{convolution}.weight_nn.layer{number}.weight", *widths[number : number + 2]))
        for number in range(len(widths) - 1)
    ]
    # Their basis is sqrt(2 / cutoff) times ours.
    radial[0] = radial[0] * math.sqrt(2.0 / config.cutoff)
    radial[1:] = [each * activation_ratio("silu") for each in radial[1:]]
    signs = [torch.full((width,), _sign(state, convolution, path)) for path, width in paths.items()]
    radial[-1] = radial[-1] * torch.cat(signs)
    down = _linear(state, f"{theirs.number}_self_interaction_2", outputs(paths), _gate_inputs(theirs.irreps_out))
    factor = 1.0 / (denominator(state, theirs.number) * ours.normalisation)
    down = {irrep: each * factor for irrep, each in _with_our_gates(down, theirs.irreps_out).items()}
    our_paths = by_output(path_widths(ours.up.irreps_out, config.harmonics, ours.gate.irreps_in))
    return convolution_weights(radial, down, paths, our_paths)


def _paths(config: SevenNetConfig, layer: Layer) -> dict[Path, int]:
    """Channels of each path of a layer's convolution, in the order of the columns of its radial network.

    Theirs lead to every irrep up to the highest degree that goes out, in the last layer to even ones, even where the
    linear map that follows has no use for them.
    """
    wanted = config.products(layer.irreps_in, layer.irreps_out.lmax)
    if layer.number == config.num_convolution_layer - 1:
        wanted = {irrep for irrep in wanted if irrep.p == 1}
    paths = path_widths(layer.irreps_in, config.harmonics, Irreps([(1, irrep) for irrep in wanted]))
    return by_output(paths) if config.columns_are_sorted else paths


def _sign(state: SevenNetState, convolution: str, path: Path) -> float:
    """Sign of a path's 3j tensor; e3nn keeps none where a degree is 0."""
    degrees = (path.irrep_in.l, path.degree, path.irrep_out.l)
    return state.coupling_sign(convolution, degrees) if all(degrees) else 1.0


def _gate_inputs(irreps_out: Irreps) -> Irreps:
    """Irreps before a gate with these after it: one more `0e` for each channel of a degree above 0."""
    gates = Irreps([(channels, "0e") for channels, irrep in irreps_out if irrep.l > 0])
    return canonical_irreps(irreps_out + gates)


def _with_our_gates(maps: dict[str, Tensor], irreps_out: Irreps) -> dict[str, Tensor]:
    """Maps to a gate's inputs whose `0e` are in our order: scalars, then the gates of each irrep, irreps sorted."""
    theirs = {irrep: channels for channels, irrep in irreps_out if str(irrep) != "0o"}
    return {**maps, "0e": rearranged(maps["0e"], theirs, {irrep: theirs[irrep] for irrep in sorted(theirs)})}


def _linear(state: SevenNetState, name: str, irreps_in: Irreps, irreps_out: Irreps) -> dict[str, Tensor]:
    """Maps [in, out] of one of their linear modules by irrep."""
    return linear_maps(state.take(f"{name}.linear.weight", _size(irreps_in, irreps_out)), irreps_in, irreps_out)


def _size(irreps_in: Irreps, irreps_out: Irreps) -> int:
    """Number of weights of a linear map."""
    return sum(ins * outs for ins, irrep in irreps_in for outs, other in irreps_out if irrep == other)
