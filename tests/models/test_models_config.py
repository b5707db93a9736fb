"""Configurations of models: a mistake is one sentence with the key, the value and what was meant."""

import math
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field

from mlip.configuration import parse_config
from mlip.errors import ConfigError
from mlip.models import build_model, parse_model_config
from mlip.nn.layout import canonical_irreps

MACE: dict[str, Any] = {"architecture": "mace", "elements": ["H", "O"], "hidden_irreps": "4x0e+4x1o", "layers": 1}
NEQUIP: dict[str, Any] = {"architecture": "nequip", "elements": ["H", "O"], "hidden_irreps": "4x0e+4x1o", "layers": 1}

MISTAKES: list[tuple[dict[str, Any], list[str]]] = [
    (MACE | {"corelation": 3}, ["unknown key 'corelation'", "did you mean 'correlation'?"]),
    (MACE | {"cut_off": 3.0}, ["unknown key 'cut_off'", "did you mean 'cutoff'?"]),
    (NEQUIP | {"hiden_irreps": "4x0e"}, ["unknown key 'hiden_irreps'", "did you mean 'hidden_irreps'?"]),
    (MACE | {"qqqq": 1}, ["unknown key 'qqqq'", "'correlation'", "'zbl'"]),
    (NEQUIP | {"readout_hiddn": 8}, ["unknown key 'readout_hiddn'"]),
    ({"elements": ["H"]}, ["'architecture' is missing", "'mace', 'nequip'"]),
    (MACE | {"architecture": "mase"}, ["architecture: mase", "did you mean 'mace'?"]),
    (MACE | {"architecture": "schnet"}, ["architecture: schnet", "'mace', 'nequip'"]),
    (MACE | {"correlation": 5}, ["correlation: 5", "less than or equal to 4"]),
    (MACE | {"correlation": 0}, ["correlation: 0", "greater than or equal to 1"]),
    (MACE | {"correlation": "three"}, ["correlation: 'three'", "integer"]),
    (MACE | {"layers": 0}, ["layers: 0", "greater than or equal to 1"]),
    (MACE | {"layers": 2.5}, ["layers: 2.5", "integer"]),
    (MACE | {"cutoff": -5.0}, ["cutoff: -5.0", "greater than 0"]),
    (MACE | {"cutoff": 0}, ["cutoff: 0", "greater than 0"]),
    (MACE | {"cutoff": math.inf}, ["cutoff: inf", "finite"]),
    (MACE | {"cutoff": "far"}, ["cutoff: 'far'", "number"]),
    (MACE | {"average_neighbours": 0.0}, ["average_neighbours: 0.0", "greater than 0"]),
    (MACE | {"cutoff_power": 1}, ["cutoff_power: 1", "greater than or equal to 2"]),
    (MACE | {"l_max": -1}, ["l_max: -1", "greater than or equal to 0"]),
    (MACE | {"radial_basis": "besel"}, ["radial_basis: 'besel'", "'bessel' or 'gaussian'"]),
    (MACE | {"radial_hidden": 64}, ["radial_hidden: 64", "list"]),
    (MACE | {"radial_hidden": [64, 0]}, ["radial_hidden.1: 0", "greater than or equal to 1"]),
    (MACE | {"zbl": "perhaps"}, ["zbl: 'perhaps'", "boolean"]),
    (MACE | {"seed": -1}, ["seed: -1", "greater than or equal to 0"]),
    (MACE | {"seed": 10**30}, ["seed: 1000", "less than"]),
    (MACE | {"hidden_irreps": "64x0z"}, ["hidden_irreps: '64x0z'", "64x0e+64x1o"]),
    (MACE | {"hidden_irreps": ""}, ["hidden_irreps: ''", "invariant channels", "32x0e"]),
    (MACE | {"hidden_irreps": "8x1o"}, ["hidden_irreps: '8x1o'", "invariant channels"]),
    (MACE | {"hidden_irreps": 64}, ["hidden_irreps: 64", "string"]),
    (NEQUIP | {"symmetry": "SO3"}, ["SO3", "'1o'", "'1e'"]),
    (NEQUIP | {"cutoff_onset": 5.0}, ["cutoff_onset is 5.0", "below the cutoff, 5.0"]),
    (NEQUIP | {"cutoff_onset": -1.0}, ["cutoff_onset: -1.0", "greater than or equal to 0"]),
    (MACE | {"cutoff_onset": 3.0}, ["unknown key 'cutoff_onset'"]),
    (NEQUIP | {"self_connection": "linear"}, ["self_connection: 'linear'", "'per_element' or 'shared'"]),
    (NEQUIP | {"solid_harmonics": 3}, ["solid_harmonics: 3", "boolean"]),
    (MACE | {"elements": ["H", "Hq"]}, ["Hq", "no chemical symbol"]),
    (MACE | {"elements": ["X"]}, ["'X'", "no chemical symbol"]),
    (MACE | {"elements": [1, 8]}, ["elements.0: 1", "string"]),
    (MACE | {"elements": "H"}, ["elements: 'H'", "list"]),
    (MACE | {"elements": []}, ["no elements", "[H, C, O]"]),
    (MACE | {"reference_energies": {"C": 1.0}}, ["reference_energies", "'C'", "['H', 'O']"]),
    (MACE | {"reference_energies": {"H": "big"}}, ["reference_energies.H: 'big'", "number"]),
    (MACE | {"reference_energies": {"H": math.nan}}, ["reference_energies.H: nan", "finite"]),
    (MACE | {"scale": {"H": 1.0}}, ["'scale'", "O"]),
    (MACE | {"shift": {"O": 1.0}}, ["'shift'", "H"]),
    (MACE | {"shift": {"H": 0.0, "O": 0.0, "N": 1.0}}, ["shift", "'N'"]),
    (MACE | {"scale": "large"}, ["scale: 'large'", "number"]),
    (MACE | {"scale": math.nan}, ["scale: nan", "finite"]),
]


@pytest.mark.parametrize(("config", "parts"), MISTAKES, ids=lambda value: str(value) if isinstance(value, list) else "")
def test_a_mistake_is_one_sentence(config: dict[str, Any], parts: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        build_model(config)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert sentence.endswith((".", "?"))
    for part in parts:
        assert part in sentence
    # Nothing of the machinery shows.
    assert "pydantic" not in sentence
    assert "float." not in sentence
    assert "root" not in sentence


@pytest.mark.parametrize("config", [None, [1], "mace", 3, MACE | {1: 2}])
def test_what_is_no_mapping_of_keys_is_refused(config: Any) -> None:
    with pytest.raises(ConfigError, match="model configuration"):
        build_model(config)


@given(st.text(alphabet="0123456789xeoyl+- .²³", max_size=12))
def test_any_text_for_irreps_is_read_or_refused(text: str) -> None:
    try:
        irreps = canonical_irreps(text)
    except ConfigError:
        return
    assert canonical_irreps(str(irreps)) == irreps


def test_irreps_and_elements_are_sorted_and_joined() -> None:
    config = parse_model_config(MACE | {"hidden_irreps": "2x1o + 3x0e+1o+0x2e", "elements": ["O", "H", "O"]})
    assert config.hidden_irreps == "3x0e+3x1o"
    assert config.elements == ["H", "O"]


def test_a_configuration_may_wait_for_its_elements_and_cannot_be_changed() -> None:
    config = parse_model_config({"architecture": "mace", "reference_energies": {"H": -13.6}})
    assert config.elements == []
    with pytest.raises(ValueError, match="frozen"):
        config.cutoff = 3.0
    assert parse_model_config(config.model_dump()) == config


class _Dog(BaseModel):
    model_config = ConfigDict(extra="forbid")
    kind: Literal["dog"]
    bark_loudness: int = 1


class _Cat(BaseModel):
    model_config = ConfigDict(extra="forbid")
    kind: Literal["cat"]
    claws: list[int] = []


class _Home(BaseModel):
    model_config = ConfigDict(extra="forbid")
    address: str
    pet: _Dog | _Cat = Field(discriminator="kind")
    others: list[_Cat] = []


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"adress": "x"}, "unknown key 'adress' in the form: did you mean 'address'?"),
        ({"pet": {"kind": "dog", "bark_lodness": 2}}, "unknown key 'pet.bark_lodness' in the form: did you mean"),
        ({"pet": {"kind": "cat", "bark_loudness": 2}}, "unknown key 'pet.bark_loudness' in the form: known keys are"),
        ({"others": [{"kind": "cat", "claw": 2}]}, "unknown key 'others.0.claw' in the form: did you mean 'claws'?"),
        ({"pet": {"kind": "cat", "claws": [1, "x"]}}, "'pet.claws.1: 'x'' in the form is not valid: input should be"),
        ({"pet": {}}, "'pet.kind' is missing in the form: choose one of 'dog', 'cat'."),
        ({"pet": {"kind": "dot"}}, "'pet.kind: dot' in the form is not valid: did you mean 'dog'?"),
        ({"address": None}, "'address: None' in the form is not valid: input should be a valid string."),
    ],
)
def test_sentences_name_the_keys_of_nested_parts(changes: dict[str, Any], sentence: str) -> None:
    values = {"address": "here", "pet": {"kind": "dog"}} | changes
    with pytest.raises(ConfigError) as caught:
        parse_config(_Home, values, "the form")
    assert str(caught.value).startswith(sentence)


def test_a_missing_part_is_named() -> None:
    with pytest.raises(ConfigError, match="'address' is missing in the form"):
        parse_config(_Home, {"pet": {"kind": "dog"}}, "the form")
