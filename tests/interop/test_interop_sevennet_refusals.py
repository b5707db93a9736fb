"""What of a SevenNet checkpoint cannot be imported is refused in one sentence that names it."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mlip.errors import CheckpointError, ConfigError
from mlip.interop.sevennet import read_sevennet
from mlip.interop.unpickling import read_checkpoint

DATA = Path(__file__).parent / "data"
EARLY: dict[str, Any] = read_checkpoint(DATA / "sevennet_early.pth")
FEATURES = EARLY["config"]["irreps_manual"]

CONFIGURATIONS: list[tuple[dict[str, Any], list[str]]] = [
    ({"use_modality": True}, ["use_modality: True", "use_modality: False"]),
    ({"use_bias_in_linear": True}, ["use_bias_in_linear: True"]),
    ({"readout_as_fcn": True}, ["readout_as_fcn: True"]),
    ({"optimize_by_reduce": False}, ["optimize_by_reduce: False"]),
    ({"interaction_type": "mace"}, ["interaction_type: 'mace'", "interaction_type: 'nequip'"]),
    ({"_model_type": "other"}, ["_model_type: 'other'"]),
    ({"act_radial": "relu"}, ["act_radial: 'relu'", "act_radial: 'silu'"]),
    ({"act_scalar": {"e": "ssp", "o": "tanh"}}, ["act_scalar", "'ssp'"]),
    ({"act_gate": {"e": "silu", "o": "abs"}}, ["act_gate", "'abs'"]),
    ({"act_gate": np.zeros(3)}, ["act_gate"]),
    ({"self_connection_type": "none"}, ["self_connection_type", "'none'"]),
    ({"self_connection_type": ["linear", "nequip"]}, ["2 'self_connection_type' for 3 layers"]),
    ({"irreps_manual": FEATURES[:3]}, ["3 'irreps_manual' for 3 layers"]),
    ({"irreps_manual": ["6x0z", *FEATURES[1:]]}, ["'6x0z'", "no list of irreps"]),
    ({"irreps_manual": ["6x0e", "4x0e+2x0e+4x1e", *FEATURES[2:]]}, ["4x0e+2x0e+4x1e", "twice"]),
    ({"irreps_manual": ["6x0e", "4x1e+6x0e+3x2e", *FEATURES[2:]]}, ["4x1e+6x0e+3x2e", "scalars after others"]),
    ({"irreps_manual": ["6x0e", "9999x0e+4x1e", *FEATURES[2:]]}, ["9999x0e", "beyond any use"]),
    ({"irreps_manual": ["6x0e", "6x0e+5x1e+3x2e", *FEATURES[2:]]}, ["1_self_interaction_1", "[61]", "[70]"]),
    ({"irreps_manual": 3}, ["irreps_manual: 3"]),
    ({"radial_basis": {"radial_basis_name": "gaussian"}}, ["radial_basis_name: 'gaussian'", "'bessel'"]),
    ({"cutoff_function": {"cutoff_function_name": "cosine"}}, ["'cosine'", "'poly_cut' or 'XPLOR'"]),
    ({"cutoff_function": {"cutoff_function_name": "XPLOR"}}, ["XPLOR without 'cutoff_on'"]),
    ({"cutoff_function": {"cutoff_function_name": "XPLOR", "cutoff_on": 4.0}}, ["cutoff_onset is 4.0"]),
    ({"num_convolution_layer": 1000}, ["num_convolution_layer: 1000"]),
    ({"lmax": 10**9}, ["lmax: 1000000000"]),
    ({"channel": 10**9}, ["channel: 1000000000"]),
    ({"version": "new"}, ["version: 'new'", "0.9.1"]),
    ({"version": 9}, ["version: 9"]),
    ({"_type_map": {}}, ["_type_map"]),
    ({"_type_map": {6: 0, 1: 1, 8: 3}}, ["_type_map", "numbered from 0"]),
    ({"_type_map": {6: 0, 1: 1, 800: 2}}, ["_type_map", "no atomic number"]),
    ({"_type_map": {6: 0, 1: 1}}, ["rescale_atomic_energy.shift", "[3]", "[2]"]),
    ({"weight_nn_hidden_neurons": [8, 9]}, ["weight_nn.layer1.weight", "[8, 8]", "[8, 9]"]),
    ({"cutoff": float("nan")}, ["cutoff: nan", "finite"]),
]


def one_sentence(error: Exception) -> str:
    sentence = str(error)
    assert "\n" not in sentence
    assert sentence.endswith((".", "?"))
    assert "pydantic" not in sentence
    return sentence


@pytest.mark.parametrize(("changes", "parts"), CONFIGURATIONS, ids=lambda value: str(value)[:60])
def test_configurations_without_a_counterpart(changes: dict[str, Any], parts: list[str]) -> None:
    with pytest.raises(CheckpointError) as caught:
        read_sevennet({**EARLY, "config": {**EARLY["config"], **changes}})
    sentence = one_sentence(caught.value)
    for part in parts:
        assert part in sentence


def replaced(name: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda state: state.update({name: value})


STATES: list[tuple[Callable[[dict[str, Any]], Any], list[str]]] = [
    (lambda state: state.pop("1 convolution.denumerator"), ["lacks", "1_convolution.denominator"]),
    (replaced("0 convolution.denumerator", torch.zeros(1)), ["divides by 0"]),
    (replaced("2 convolution.denumerator", torch.zeros(1)), ["divides by 0"]),
    (replaced("rescale atomic energy.shift", torch.zeros(2)), ["rescale_atomic_energy.shift", "[2]", "[3]"]),
    (replaced("rescale atomic energy.scale", torch.full((3,), torch.nan)), ["scale", "not finite"]),
    (replaced("onehot_to_feature_x.linear.bias", torch.ones(6)), ["onehot_to_feature_x.linear.bias", "has not"]),
    (replaced("zbl.charges", torch.ones(1)), ["'zbl.charges'", "has not"]),
    (replaced("zbl.charges", "text"), ["'zbl.charges'", "no tensor but a str"]),
    (
        replaced("1 convolution.convolution._compiled_main_left_right._w3j_1_1_1", torch.ones(3, 3, 3)),
        ["_w3j_1_1_1", "no 3j tensor"],
    ),
]


@pytest.mark.parametrize(("change", "parts"), STATES, ids=lambda value: str(value) if isinstance(value, list) else "")
def test_weights_without_a_counterpart(change: Callable[[dict[str, Any]], Any], parts: list[str]) -> None:
    state = copy.copy(EARLY["model_state_dict"])
    change(state)
    with pytest.raises(CheckpointError) as caught:
        read_sevennet({**EARLY, "model_state_dict": state})
    sentence = one_sentence(caught.value)
    for part in parts:
        assert part in sentence


def test_layers_that_differ_in_other_ways_than_ours() -> None:
    """Features that a layer does not keep although the next one could, and channels that change."""
    content: dict[str, Any] = read_checkpoint(DATA / "sevennet_mixed.pth")
    manual = ["5x0e", "5x0e+2x2e+3x1o", "5x0e+2x2e+3x1o", "5x0e+2x2e+2x1e+3x1o", "5x0e"]
    for features, part in ((manual, "after 2 layers"), (["5x0e", "4x0e+2x2e+3x1o", *manual[2:]], "different layers")):
        state = dict(content["model_state_dict"])
        for number, irreps in enumerate(features[:-1]):
            sizes = [int(each.split("x")[0]) ** 2 for each in irreps.split("+")]
            state[f"{number}_self_interaction_1.linear.weight"] = torch.zeros(sum(sizes))
        changed = {"config": {**content["config"], "irreps_manual": features}, "model_state_dict": state}
        with pytest.raises(CheckpointError, match=part) as caught:
            read_sevennet(changed)
        one_sentence(caught.value)


def test_what_is_no_sevennet_checkpoint() -> None:
    for other in (None, {}, {"model_state_dict": {}, "config": {"version": "0.9.1"}}):
        with pytest.raises(CheckpointError, match="no SevenNet checkpoint"):
            read_sevennet(other)


@pytest.mark.parametrize(("elements", "part"), [(["H", "N"], "'N'; it knows H, C, O"), ([], "no elements")])
def test_elements_that_cannot_be_kept(elements: list[str], part: str) -> None:
    with pytest.raises(ConfigError, match=part) as caught:
        read_sevennet(EARLY, elements)
    one_sentence(caught.value)
