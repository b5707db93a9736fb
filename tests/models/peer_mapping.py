"""Hyper-parameters and weights of mace-torch's and NequIP's models, turned into those of ours.

Every linear map of ours and theirs divides by the root of its number of inputs, though not always of the same inputs.
The mapping therefore goes through the maps as they act, `y = x @ map` with `map = weight / sqrt(inputs)`, and `stored`
turns a map into our weight. What else differs is a factor, a sign or an order: the tables of `docs/architectures.md`.
"""

import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from ase.data import chemical_symbols
from e3nn.math import normalize2mom
from e3nn.o3 import Irrep, Irreps
from torch import Tensor, nn

from mlip.models import Potential
from mlip.nn.activation import ACTIVATIONS, activation_scale
from mlip.nn.layout import canonical_irreps, natural_irreps
from mlip.so3 import coupling_paths
from mlip_kernels.symmetric_contraction import ContractionTable

StateDict = dict[str, Tensor]
# A product of theirs that our basis lacked would leave a rest of order one.
LARGEST_REST = 1e-6


class Path(NamedTuple):
    """A path of a convolution: an irrep of the features times the harmonic of degree l2 gives an output irrep."""

    irrep_in: Irrep
    degree: int
    irrep_out: Irrep


def mace_config(hyper_parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Our configuration for the arguments of mace-torch's `ScaleShiftMACE`."""
    elements = [chemical_symbols[number] for number in hyper_parameters["atomic_numbers"]]
    return {
        "architecture": "mace",
        "elements": elements,
        "hidden_irreps": hyper_parameters["hidden_irreps"],
        "l_max": hyper_parameters["max_ell"],
        "correlation": hyper_parameters["correlation"],
        "layers": hyper_parameters["num_interactions"],
        "cutoff": hyper_parameters["r_max"],
        "radial_basis": hyper_parameters["radial_type"],
        "radial_functions": hyper_parameters["num_bessel"],
        "cutoff_power": hyper_parameters["num_polynomial_cutoff"],
        "radial_hidden": hyper_parameters["radial_MLP"],
        "average_neighbours": hyper_parameters["avg_num_neighbors"],
        "readout_hidden": Irreps(hyper_parameters["MLP_irreps"]).dim,
        "reference_energies": dict(zip(elements, hyper_parameters["atomic_energies"], strict=True)),
        "scale": hyper_parameters["atomic_inter_scale"],
        "shift": hyper_parameters["atomic_inter_shift"],
    }


def nequip_config(hyper_parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Our configuration for the arguments of `nequip.model.FullNequIPGNNModel`."""
    harmonics = Irreps(hyper_parameters["irreps_edge_sh"])
    depth, width = hyper_parameters["radial_mlp_depth"][0], hyper_parameters["radial_mlp_width"][0]
    return {
        "architecture": "nequip",
        "elements": hyper_parameters["type_names"],
        "symmetry": "O3" if harmonics == natural_irreps(1, harmonics.lmax) else "SO3",
        "hidden_irreps": hyper_parameters["feature_irreps_hidden"][0],
        "l_max": harmonics.lmax,
        "layers": len(hyper_parameters["feature_irreps_hidden"]),
        "cutoff": hyper_parameters["r_max"],
        "radial_functions": hyper_parameters["num_bessels"],
        "cutoff_power": hyper_parameters["polynomial_cutoff_p"],
        "radial_hidden": [width] * depth,
        "average_neighbours": hyper_parameters["avg_num_neighbors"],
        # Energies of free atoms, which our reference energies keep in float64 whatever the dtype of the network.
        "reference_energies": hyper_parameters["per_type_energy_shifts"],
        "scale": hyper_parameters["per_type_energy_scales"],
    }


def mace_state_dict(peer: Mapping[str, Tensor], hyper_parameters: Mapping[str, Any], model: Potential) -> StateDict:
    """Our state dict for that of a `ScaleShiftMACE` with `RealAgnosticResidualInteractionBlock`s.

    Args:
        peer: Their state dict, the coupling tensors `U_matrix_n` included.
        hyper_parameters: Arguments that their model was built with.
        model: Ours, built from `mace_config(hyper_parameters)`.

    Raises:
        ValueError: their symmetric products are not among ours.
    """
    num_elements = len(model.elements)
    hidden = Irreps(hyper_parameters["hidden_irreps"])
    scalars = Irreps([(hidden.count("0e"), "0e")])
    units = Irreps(hyper_parameters["MLP_irreps"])
    layers = hyper_parameters["num_interactions"]
    state = dict(model.state_dict())
    state["network.embedding"] = peer["node_embedding.linear.weight"].view(num_elements, -1) / math.sqrt(num_elements)
    if hyper_parameters["radial_type"] == "bessel":
        wave_numbers = peer["radial_embedding.bessel_fn.bessel_weights"]
        state["network.radial.basis.frequencies"] = wave_numbers * (hyper_parameters["r_max"] / math.pi)
    for number in range(layers):
        irreps_in = hidden if number else scalars
        irreps_out = hidden if number < layers - 1 else scalars
        layer = _mace_layer(peer, number, irreps_in, irreps_out, model.network.layers[number])
        state |= {f"network.layers.{number}.{name}": weight for name, weight in layer.items()}
        readout = f"readouts.{number}"
        if number < layers - 1 or layers == 1:
            maps = [linear_maps(peer[f"{readout}.linear.weight"], irreps_out, Irreps("0e"))]
        else:
            first = linear_maps(peer[f"{readout}.linear_1.weight"], irreps_out, units)
            second = linear_maps(peer[f"{readout}.linear_2.weight"], units, Irreps("0e"))
            maps = [first, {"0e": second["0e"] * activation_ratio("silu")}]
        state |= {f"network.readouts.{number}.weights.{i}": stored(each["0e"]) for i, each in enumerate(maps)}
    state["reference_energies.values"] = peer["atomic_energies_fn.atomic_energies"].view(-1)
    state["scale"] = peer["scale_shift.scale"].expand(num_elements)
    state["shift"] = peer["scale_shift.shift"].expand(num_elements)
    return state


def _mace_layer(
    peer: Mapping[str, Tensor], number: int, irreps_in: Irreps, irreps_out: Irreps, layer: nn.Module
) -> StateDict:
    """Weights of one of our `MaceLayer`s; `irreps_in` and `irreps_out` in their order."""
    interaction, product = f"interactions.{number}", f"products.{number}"
    density = layer.down.irreps_out
    harmonics = natural_irreps(1, density.lmax)
    paths = by_output(path_widths(irreps_in, harmonics, density))
    count = len(layer.convolution.radial_network.weights)
    radial = [scaled(peer[f"{interaction}.conv_tp_weights.layer{i}.weight"]) for i in range(count)]
    radial[1:] = [each * activation_ratio("silu") for each in radial[1:]]
    # Their edges point from sender to receiver and ours back, so that harmonics of odd degree change sign.
    radial[-1] = radial[-1] * torch.cat([torch.full((width,), (-1.0) ** path.degree) for path, width in paths.items()])
    down = linear_maps(peer[f"{interaction}.linear.weight"], outputs(paths), density)
    products = Irreps([(density.count("0e"), irrep) for _, irrep in irreps_out])
    one_hot = torch.eye(layer.residual.weights["0e"].shape[0], dtype=torch.float64)
    maps = {
        "up": linear_maps(peer[f"{interaction}.linear_up.weight"], irreps_in, irreps_in),
        "out": linear_maps(peer[f"{product}.linear.weight"], products, irreps_out),
        "residual": element_maps(peer[f"{interaction}.skip_tp.weight"], irreps_in, one_hot, irreps_out),
    }
    contractions = f"{product}.symmetric_contractions.contractions"
    return {
        **convolution_weights(radial, down, paths, harmonics, layer),
        **{f"{name}.weights.{irrep}": stored(each) for name, group in maps.items() for irrep, each in group.items()},
        "contraction.weights": contraction_weights(peer, contractions, irreps_out, layer.contraction.table),
    }


def contraction_weights(peer: Mapping[str, Tensor], prefix: str, irreps_out: Irreps, table: ContractionTable) -> Tensor:
    """Weights of our symmetric contraction, [elements, products, channels].

    Theirs holds, for output irrep i and order n, `sum over p of U[k, i1 ... in, p] weight[element, p, channel]`, with
    the orders from the highest down. Their products are `U = basis @ transform` on monomials, ours are the basis.

    Raises:
        ValueError: theirs are not combinations of ours.
    """
    their_number = {irrep: number for number, (_, irrep) in enumerate(irreps_out)}
    irreps = [irrep for _, irrep in canonical_irreps(irreps_out)]
    highest = max(term.monomials.shape[1] for term in table.terms)
    rows = []
    for term in table.terms:
        order = term.monomials.shape[1]
        block = f"{prefix}.{their_number[irreps[term.output]]}"
        theirs = on_monomials(peer[f"{block}.U_matrix_{order}"], order).flatten(0, 1)
        sizes = peer[f"{block}.U_matrix_{order}"].shape[-2]
        ours = torch.zeros(*term.coefficients.shape[:2], sizes**order, dtype=torch.float64)
        flat = np.ravel_multi_index(tuple(term.monomials.T), (sizes,) * order)
        ours[:, :, torch.tensor(flat)] = torch.tensor(term.coefficients)
        ours = ours.flatten(1).T
        transform = torch.linalg.lstsq(ours, theirs).solution
        rest = float((ours @ transform - theirs).abs().max())
        if rest > LARGEST_REST:
            raise ValueError(f"products of order {order} to {irreps[term.output]} leave a rest of {rest:.1e}")
        name = "weights_max" if order == highest else f"weights.{highest - 1 - order}"
        rows.append(torch.einsum("qp,epc->eqc", transform, peer[f"{block}.{name}"]))
    return torch.cat(rows, 1)


def on_monomials(coupling: Tensor, order: int) -> Tensor:
    """A coupling tensor of equal inputs with its entries for one monomial summed where the inputs ascend.

    Args:
        coupling: [components, inputs, ..., inputs, products], the first axis left out for a single component.
        order: Number of inputs.

    Returns:
        [components, inputs ** order, products]
    """
    dense = coupling if coupling.dim() == order + 2 else coupling[None]
    shape = dense.shape[1:-1]
    monomials = np.sort(np.indices(shape).reshape(order, -1), axis=0)
    flat = torch.tensor(np.ravel_multi_index(tuple(monomials), shape))
    dense = dense.flatten(1, -2)
    return torch.zeros_like(dense).index_add(1, flat, dense)


def nequip_state_dict(peer: Mapping[str, Tensor], hyper_parameters: Mapping[str, Any], model: Potential) -> StateDict:
    """Our state dict for that of a `FullNequIPGNNModel`.

    Args:
        peer: Their state dict.
        hyper_parameters: Arguments that their model was built with.
        model: Ours, built from `nequip_config(hyper_parameters)`.
    """
    prefix = "model.func"
    order = [hyper_parameters["type_names"].index(element) for element in model.elements]
    modules = {"type_embed.embed_module": ["weight"], "per_type_energy_scale_shift": ["scales", "shifts"]}
    per_element = [f"{prefix}.{module}.{name}" for module, names in modules.items() for name in names]
    peer = {**peer, **{name: peer[name][order] for name in per_element}}
    embedding = peer[f"{prefix}.type_embed.embed_module.weight"]
    irreps_in = Irreps([(embedding.shape[1], "0e")])
    state = dict(model.state_dict())
    state["network.embedding"] = padded(embedding, model.network.embedding)
    state["network.radial.basis.frequencies"] = peer[f"{prefix}.bessel_encode.bessel_weights"].view(-1)
    for number, layer in enumerate(model.network.layers):
        hidden = Irreps(hyper_parameters["feature_irreps_hidden"][number])
        irreps_out = Irreps([(mul, irrep) for mul, irrep in hidden if irrep in layer.gate.irreps_out])
        weights = _nequip_layer(peer, number, irreps_in, irreps_out, hyper_parameters, layer)
        state |= {f"network.layers.{number}.{name}": weight for name, weight in weights.items()}
        irreps_in = irreps_out
    readout = peer[f"{prefix}.per_atom_energy_readout.mlp_module.mlp.0.weight"]
    state["network.readout.weights.0"] = readout * activation_ratio("silu")
    state["scale"] = peer[f"{prefix}.per_type_energy_scale_shift.scales"].view(-1)
    state["reference_energies.values"] = peer[f"{prefix}.per_type_energy_scale_shift.shifts"].view(-1)
    return state


def _nequip_layer(
    peer: Mapping[str, Tensor],
    number: int,
    irreps_in: Irreps,
    irreps_out: Irreps,
    hyper_parameters: Mapping[str, Any],
    layer: nn.Module,
) -> StateDict:
    """Weights of one of our `NequIPLayer`s; `irreps_in` and `irreps_out` in their order."""
    block = f"model.func.layer{number}_convnet.conv"
    harmonics = Irreps(hyper_parameters["irreps_edge_sh"])
    paths = path_widths(irreps_in, harmonics, layer.gate.irreps_in)
    count = len(layer.convolution.radial_network.weights)
    radial = [scaled(peer[f"{block}.edge_mlp.mlp.{2 * i}.weight"]) for i in range(count)]
    # Their basis is sqrt(2 / cutoff) times ours; their SiLU is plain, and a factor sqrt(2) follows it.
    radial[0] = radial[0] * math.sqrt(2.0 / hyper_parameters["r_max"])
    radial[1:] = [each * (math.sqrt(2.0) / activation_scale("silu")) for each in radial[1:]]
    up = linear_maps(peer[f"{block}.linear_1.weight"], irreps_in, irreps_in)
    down = linear_maps(peer[f"{block}.linear_2.weight"], outputs(paths), layer.gate.irreps_in)
    if number:
        embedding = peer["model.func.type_embed.embed_module.weight"]
        connection = element_maps(peer[f"{block}.sc.weight"], irreps_in, embedding, layer.gate.irreps_in)
        # What comes in went through a gate with their activations.
        up = {irrep: each * gate_ratio(irrep) for irrep, each in up.items()}
        connection = {irrep: each * gate_ratio(irrep) for irrep, each in connection.items()}
    else:
        # Theirs has no self-connection there, and its embedding may have fewer channels.
        connection = {irrep: torch.zeros_like(each) for irrep, each in layer.self_connection.weights.items()}
        up = {irrep: padded(each, layer.up.weights[irrep]) for irrep, each in up.items()}
    gates, our_gates = gate_widths(irreps_out), gate_widths(layer.gate.irreps_out)
    down["0e"] = rearranged(down["0e"], gates, our_gates)
    connection["0e"] = rearranged(connection["0e"], gates, our_gates)
    maps = {"up": up, "self_connection": connection}
    return {
        **convolution_weights(radial, down, paths, harmonics, layer),
        **{f"{name}.weights.{irrep}": stored(each) for name, group in maps.items() for irrep, each in group.items()},
    }


def convolution_weights(
    radial: Sequence[Tensor], down: Mapping[str, Tensor], paths: Mapping[Path, int], harmonics: Irreps, layer: nn.Module
) -> StateDict:
    """Weights of our radial network and of the linear map after the convolution, from maps in the order of `paths`."""
    ours = by_output(path_widths(layer.up.irreps_in, harmonics, layer.down.irreps_out))
    last = rearranged(radial[-1], paths, ours)
    state = {f"convolution.radial_network.weights.{i}": stored(each) for i, each in enumerate([*radial[:-1], last])}
    for irrep, each in down.items():
        theirs_here = {path: width for path, width in paths.items() if str(path.irrep_out) == irrep}
        ours_here = {path: width for path, width in ours.items() if str(path.irrep_out) == irrep}
        state[f"down.weights.{irrep}"] = stored(rearranged(each.T, theirs_here, ours_here).T)
    return state


def path_widths(irreps_in: Irreps, harmonics: Irreps, targets: Irreps) -> dict[Path, int]:
    """Channels of each path, by input irrep, then degree of the harmonic, then output irrep: NequIP's order."""
    return {
        Path(path.irrep_in1, path.irrep_in2.l, path.irrep_out): irreps_in[path.index_in1].mul
        for path in coupling_paths(irreps_in, harmonics, targets)
    }


def by_output(paths: Mapping[Path, int]) -> dict[Path, int]:
    """The same paths, those of one output irrep together: our order and mace-torch's."""
    return dict(sorted(paths.items(), key=lambda item: item[0].irrep_out))


def outputs(paths: Mapping[Path, int]) -> Irreps:
    """Irreps of a convolution's result, the paths of one irrep joined."""
    return Irreps([(width, path.irrep_out) for path, width in by_output(paths).items()]).simplify()


def gate_widths(irreps_out: Irreps) -> dict[str, int]:
    """Widths of what the `0e` before a gate consist of: the scalars themselves, then the gates of each irrep."""
    return {str(irrep): width for width, irrep in irreps_out if str(irrep) != "0o"}


def rearranged(values: Tensor, source: Mapping[Any, int], target: Mapping[Any, int]) -> Tensor:
    """Blocks of columns [..., columns] in the order of `target`, zeros added where a block is wider there."""
    blocks = dict(zip(source, values.split(list(source.values()), -1), strict=True))
    return torch.cat([nn.functional.pad(blocks[key], (0, width - source[key])) for key, width in target.items()], -1)


def padded(values: Tensor, like: Tensor) -> Tensor:
    """A matrix with zero rows and columns added up to the shape of another."""
    return nn.functional.pad(values, (0, like.shape[1] - values.shape[1], 0, like.shape[0] - values.shape[0]))


def linear_maps(weight: Tensor, irreps_in: Irreps, irreps_out: Irreps) -> dict[str, Tensor]:
    """Maps [channels in, channels out] of an `e3nn.o3.Linear` by irrep, from its flat weight."""
    pairs = [(ins, outs, irrep) for ins, irrep in irreps_in for outs, other in irreps_out if irrep == other]
    blocks = weight.split([ins * outs for ins, outs, _ in pairs])
    return {str(irrep): scaled(block.view(ins, outs)) for (ins, outs, irrep), block in zip(pairs, blocks, strict=True)}


def element_maps(weight: Tensor, irreps_in: Irreps, attributes: Tensor, irreps_out: Irreps) -> dict[str, Tensor]:
    """Maps [elements, channels in, channels out] of an `e3nn.o3.FullyConnectedTensorProduct` with element attributes.

    Args:
        weight: Its flat weight.
        irreps_in: Irreps of its first input.
        attributes: Its second input for each element, [elements, attributes].
        irreps_out: Irreps of its output.
    """
    size = attributes.shape[1]
    pairs = [(ins, outs, irrep) for ins, irrep in irreps_in for outs, other in irreps_out if irrep == other]
    blocks = weight.split([ins * size * outs for ins, outs, _ in pairs])
    return {
        str(irrep): torch.einsum("iao,ea->eio", block.view(ins, size, outs), attributes) / math.sqrt(ins * size)
        for (ins, outs, irrep), block in zip(pairs, blocks, strict=True)
    }


def scaled(weight: Tensor) -> Tensor:
    """The map of a weight [inputs, outputs] that is divided by the root of its inputs."""
    return weight / math.sqrt(weight.shape[0])


def stored(each: Tensor) -> Tensor:
    """Our weight for a map [..., inputs, outputs]."""
    return each * math.sqrt(each.shape[-2])


@cache
def activation_ratio(name: str) -> float:
    """What e3nn multiplies an activation by, which it estimates from a million draws, over what we do."""
    return float(normalize2mom(ACTIVATIONS[name]).cst) / activation_scale(name)


def gate_ratio(irrep: str) -> float:
    """Features out of NequIP's gate over those of ours."""
    return activation_ratio("tanh" if irrep == "0o" else "silu")
