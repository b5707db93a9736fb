"""Options of the `nequip` architecture, against the same network written with others."""

from pathlib import Path

import torch
from model_cases import batch, potential, random_structure

from mlip.models import load, save
from mlip.nn.layout import blocks, natural_irreps

OPTIONS = {"self_connection": "shared", "solid_harmonics": True, "cutoff_onset": 2.5}


def test_a_shared_self_connection_is_one_per_element_with_equal_weights() -> None:
    shared = potential("nequip", self_connection="shared")
    per_element = potential("nequip")
    state = dict(per_element.state_dict())
    for name, weight in shared.state_dict().items():
        state[name] = weight.expand_as(state[name]) if "self_connection" in name else weight
    per_element.load_state_dict(state)
    graph = batch(random_structure(1, 6))
    torch.testing.assert_close(shared(graph).forces, per_element(graph).forces, rtol=0, atol=1e-13)


def test_solid_harmonics_are_a_power_of_the_length_on_every_path() -> None:
    """Where they enter: a factor r^l on the harmonic of degree l, or on the radial weights of its paths."""
    model = potential("nequip", layers=1, solid_harmonics=True)
    plain = potential("nequip", layers=1)
    plain.load_state_dict(model.state_dict())
    graph = batch(random_structure(1, 6))
    senders, receivers = graph.edge_index
    lengths = torch.linalg.vector_norm(graph.positions[senders] - graph.positions[receivers], dim=1)
    convolution = plain.network.layers[0].convolution
    degrees = {block.offset: block.irrep.l for block in blocks(natural_irreps(1, 2))}
    powers = [torch.full((path.channels,), degrees[path.harmonic_offset]) for path in convolution.table.paths]
    factors = lengths[:, None] ** torch.cat(powers)
    convolution.radial_network.register_forward_hook(lambda _module, _inputs, weights: weights * factors)
    expected = plain(graph, forces=False).energies
    torch.testing.assert_close(model(graph, forces=False).energies, expected, rtol=1e-12, atol=0)


def test_options_are_kept_in_the_file(tmp_path: Path) -> None:
    model = potential("nequip", **OPTIONS)
    save(model, tmp_path / "model.mlip")
    restored = load(tmp_path / "model.mlip")
    assert {key: getattr(restored.config, key) for key in OPTIONS} == OPTIONS
    graph = batch(random_structure(2, 5))
    assert torch.equal(restored(graph).forces, model(graph).forces)
