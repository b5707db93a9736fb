"""Hyper-parameters and weights of NequIP's models as those of ours, and mace-torch's as its importer describes them.

The maps and their order are those of `mlip.interop.e3nn_maps`; the tables of `docs/architectures.md` have the rest.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from e3nn.o3 import Irreps
from torch import Tensor, nn

from mlip.interop.e3nn_maps import (
    StateDict,
    activation_ratio,
    by_output,
    convolution_weights,
    e3nn_activation_scale,
    element_maps,
    linear_maps,
    outputs,
    path_widths,
    rearranged,
    scaled,
    stored,
)
from mlip.interop.mace_torch_description import MaceTorchLayer, MaceTorchModel
from mlip.models import Potential
from mlip.nn.activation import activation_scale
from mlip.nn.layout import natural_irreps


def mace_torch_model(peer: Mapping[str, Tensor], hyper_parameters: Mapping[str, Any]) -> MaceTorchModel:
    """The description of a `ScaleShiftMACE` with `RealAgnosticResidualInteractionBlock`s.

    Args:
        peer: Its state dict, the coupling tensors `U_matrix_n` included.
        hyper_parameters: Arguments that it was built with.
    """
    hidden = Irreps(hyper_parameters["hidden_irreps"])
    scalars = Irreps([(hidden.count("0e"), "0e")])
    count = hyper_parameters["num_interactions"]
    layers = [
        MaceTorchLayer(
            irreps_in=hidden if number else scalars,
            irreps_out=hidden if number < count - 1 else scalars,
            interaction="residual",
            average_neighbours=hyper_parameters["avg_num_neighbors"],
            correlation=hyper_parameters["correlation"],
        )
        for number in range(count)
    ]
    return MaceTorchModel(
        weights=peer,
        atomic_numbers=hyper_parameters["atomic_numbers"],
        heads=["Default"],
        cutoff=hyper_parameters["r_max"],
        cutoff_power=hyper_parameters["num_polynomial_cutoff"],
        l_max=hyper_parameters["max_ell"],
        radial_basis=hyper_parameters["radial_type"],
        radial_functions=hyper_parameters["num_bessel"],
        distance_transform=None,
        radial_hidden=hyper_parameters["radial_MLP"],
        readout_hidden=Irreps(hyper_parameters["MLP_irreps"]).dim,
        layers=layers,
        activation_scale=e3nn_activation_scale("silu"),
    )


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
    ours = by_output(path_widths(layer.up.irreps_in, harmonics, layer.down.irreps_out))
    maps = {"up": up, "self_connection": connection}
    return {
        **convolution_weights(radial, down, paths, ours),
        **{f"{name}.weights.{irrep}": stored(each) for name, group in maps.items() for irrep, each in group.items()},
    }


def gate_widths(irreps_out: Irreps) -> dict[str, int]:
    """Widths of what the `0e` before a gate consist of: the scalars themselves, then the gates of each irrep."""
    return {str(irrep): width for width, irrep in irreps_out if str(irrep) != "0o"}


def padded(values: Tensor, like: Tensor) -> Tensor:
    """A matrix with zero rows and columns added up to the shape of another."""
    return nn.functional.pad(values, (0, like.shape[1] - values.shape[1], 0, like.shape[0] - values.shape[0]))


def gate_ratio(irrep: str) -> float:
    """Features out of NequIP's gate over those of ours."""
    return activation_ratio("tanh" if irrep == "0o" else "silu")
