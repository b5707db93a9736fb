"""Our models against mace-torch's and NequIP's with the same weights, by `scripts/make_peer_references.py`."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from peer_mapping import StateDict, mace_torch_model, nequip_config, nequip_state_dict
from safetensors import safe_open
from torch import Tensor

from mlip.data.graphs import AtomicGraph, build_graph
from mlip.data.structures import Structure
from mlip.interop.mace_torch_weights import choose, config_of, state_dict_of
from mlip.models import Potential, build_model
from mlip.nn.layout import blocks

FOLDER = Path(__file__).parent / "references"
MODELS = [
    ("mace", "vectors"),
    ("mace", "tensors"),
    ("mace", "one layer"),
    ("nequip", "natural parity"),
    ("nequip", "both parities"),
    ("nequip", "pseudoscalars"),
    ("nequip", "rotations"),
]
MOLECULE, APART, CRYSTAL, SLAB = range(4)


@cache
def reference(package: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors of a reference file, and the models' hyper-parameters."""
    with safe_open(FOLDER / f"{package}.safetensors", framework="pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no mapping)
        return tensors, json.loads(file.metadata()["reference"])["models"]


def peer_weights(package: str, label: str) -> StateDict:
    """A peer's state dict in float64, its coupling tensors expanded."""
    tensors, _ = reference(package)
    prefix = f"{label}/weights/"
    weights = {key.removeprefix(prefix): each for key, each in tensors.items() if key.startswith(prefix)}
    for key in [key.removesuffix("/shape") for key in weights if key.endswith("/shape")]:
        shape, indices, values = (weights.pop(f"{key}/{part}") for part in ("shape", "indices", "values"))
        flat = torch.zeros(int(shape.prod()), dtype=torch.float64)
        flat[indices.long()] = values
        weights[key] = flat.view(shape.tolist())
    return {key: each.to(torch.float64) for key, each in weights.items()}


@cache
def mapped_model(package: str, label: str) -> Potential:
    """Our model with a peer's weights, in float64."""
    hyper_parameters = reference(package)[1][label]
    weights = peer_weights(package, label)
    if package == "mace":
        theirs = mace_torch_model(weights, hyper_parameters)
        choice = choose(theirs, None, None)
        model = build_model(config_of(theirs, choice), "float64")
        state = state_dict_of(theirs, choice, model)
    else:
        model = build_model(nequip_config(hyper_parameters), "float64")
        state = nequip_state_dict(weights, hyper_parameters, model)
    model.load_state_dict(state)
    return model.eval()


@cache
def case(package: str, label: str, number: int) -> tuple[AtomicGraph, dict[str, Tensor]]:
    """Graph of a structure for our model, and what the peer's computed for it."""
    tensors, _ = reference(package)
    numbers, positions, cell, pbc = (
        tensors[f"structures/{number}/{name}"].numpy() for name in ("numbers", "positions", "cell", "pbc")
    )
    structure = Structure(numbers=numbers, positions=positions, cell=cell, pbc=pbc)
    prefix = f"{label}/results/{number}/"
    expected = {key.removeprefix(prefix): each for key, each in tensors.items() if key.startswith(prefix)}
    return build_graph(structure, mapped_model(package, label).cutoff), expected


@pytest.mark.parametrize("number", [MOLECULE, APART, CRYSTAL, SLAB])
@pytest.mark.parametrize(("package", "label"), MODELS)
def test_energies_and_forces_are_the_peers(package: str, label: str, number: int) -> None:
    graph, expected = case(package, label, number)
    computed = mapped_model(package, label)(graph)
    torch.testing.assert_close(computed.energy[0], expected["energy"].squeeze(), rtol=1e-10, atol=0.0)
    torch.testing.assert_close(computed.energies, expected["energies"], rtol=1e-10, atol=0.0)
    assert computed.forces is not None
    torch.testing.assert_close(computed.forces, expected["forces"], rtol=0.0, atol=1e-9)


@pytest.mark.parametrize(("package", "label"), MODELS)
def test_stress_is_the_peers(package: str, label: str) -> None:
    graph, expected = case(package, label, CRYSTAL)
    computed = mapped_model(package, label)(graph, stress=True)
    assert computed.stress is not None
    torch.testing.assert_close(computed.stress[0], expected["stress"], rtol=0.0, atol=1e-10)


@pytest.mark.parametrize("label", ["vectors", "tensors"])
def test_features_of_the_first_layer_are_mace_torchs(label: str) -> None:
    """Energies alone would not tell the direction of the edges: without parity-breaking they are even in it."""
    model = mapped_model("mace", label)
    layer = model.network.layers[0]
    features: list[Tensor] = []
    handle = layer.register_forward_hook(lambda _module, _inputs, output: features.append(output))
    graph, expected = case("mace", label, MOLECULE)
    model(graph, forces=False)
    handle.remove()
    # Ours have the channel last, theirs the component.
    theirs = [block.of(features[0]).transpose(1, 2).flatten(1) for block in blocks(layer.out.irreps_out)]
    torch.testing.assert_close(torch.cat(theirs, 1), expected["features"], rtol=0.0, atol=1e-10)
