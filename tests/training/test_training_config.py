"""Configurations: reading, overriding, and what is said about those that are wrong."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from mlip.configuration import parse_config
from mlip.errors import ConfigError, FileMissingError
from mlip.training.config import CosineSchedule, LossConfig, PlateauSchedule, TrainingConfig, load_config

Settings = Callable[..., dict[str, Any]]


@pytest.fixture
def write(settings: Settings, tmp_path: Path) -> Callable[..., Path]:
    """Writes a configuration and returns its path."""

    def to_file(**changes: Any) -> Path:
        path = tmp_path / "config.yaml"
        OmegaConf.save(OmegaConf.create(settings(**changes)), path)
        return path

    return to_file


def test_values_and_overrides_arrive(write: Callable[..., Path]) -> None:
    path = write(epochs=7, schedule={"kind": "cosine", "minimum": 1e-4})
    config = load_config(path, ["optimizer.learning_rate=0.5", "data.test=[a.xyz,b.xyz]", "ema=null", "model.l_max=2"])
    assert config.epochs == 7
    assert config.optimizer.learning_rate == 0.5
    assert config.data.test == ["a.xyz", "b.xyz"]
    assert config.data.train == [OmegaConf.load(path).data.train]
    assert config.ema is None
    assert config.model.l_max == 2
    assert config.model.elements == []
    assert isinstance(config.schedule, CosineSchedule)
    assert config.schedule.minimum == 1e-4


def test_defaults(write: Callable[..., Path]) -> None:
    config = load_config(write())
    assert isinstance(config.schedule, PlateauSchedule)
    assert config.ema == 0.99
    assert config.reference_energies == "fit"
    assert config.data.keys.energy == "energy"


@pytest.mark.parametrize(
    ("override", "named", "suggested"),
    [
        ("optimiser.learning_rate=0.1", "optimiser", "optimizer"),
        ("optimizer.learningrate=0.1", "optimizer.learningrate", "learning_rate"),
        ("model.hiden_irreps=8x0e", "model.hiden_irreps", "hidden_irreps"),
        ("batch.maxedges=10", "batch.maxedges", "max_edges"),
        ("data.keys.force=F", "data.keys.force", "forces"),
        ("schedule.pateince=3", "schedule.pateince", "patience"),
        ("epoch=3", "epoch", "epochs"),
    ],
)
def test_unknown_key_is_named_with_the_nearest_one(
    write: Callable[..., Path], override: str, named: str, suggested: str
) -> None:
    with pytest.raises(ConfigError) as error:
        load_config(write(schedule={"kind": "plateau"}), [override])
    assert f"'{named}'" in str(error.value)
    assert f"'{suggested}'" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("override", "named", "expected"),
    [
        ("epochs=many", "epochs", "integer"),
        ("epochs=0", "epochs", "greater than 0"),
        ("batch.max_edges=2.5", "batch.max_edges", "integer"),
        ("ema=1.5", "ema", "less than 1"),
        ("loss.kind=hubert", "loss.kind", "'mse' or 'huber'"),
        ("data.validation=1.5", "data.validation", "fraction between 0 and 1"),
        ("dtype=float16", "dtype", "'float32' or 'float64'"),
        ("optimizer.amsgrad=perhaps", "optimizer.amsgrad", "boolean"),
        ("schedule.kind=step", "schedule.kind", "'plateau', 'cosine'"),
        ("reference_energies=[1,2]", "reference_energies", "element symbol"),
        ("model.architecture=schnet", "model.architecture", "'mace', 'nequip'"),
    ],
)
def test_wrong_value_is_named_with_what_was_expected(
    write: Callable[..., Path], override: str, named: str, expected: str
) -> None:
    with pytest.raises(ConfigError) as error:
        load_config(write(), [override])
    assert named in str(error.value)
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_section_is_named(write: Callable[..., Path]) -> None:
    path = write()
    values = OmegaConf.load(path)
    del values["data"]
    OmegaConf.save(values, path)
    with pytest.raises(ConfigError, match=r"'data'.*missing"):
        load_config(path)


@pytest.mark.parametrize("content", ["just words", "a: [1, 2", "- 1\n- 2", "\x00\x01", "a: ${nowhere}"])
def test_what_is_no_mapping_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(content)
    with pytest.raises(ConfigError, match=r"config\.yaml") as error:
        load_config(path)
    assert "\n" not in str(error.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileMissingError, match=r"nowhere\.yaml"):
        load_config(tmp_path / "nowhere.yaml")


@pytest.mark.parametrize("override", ["epochs", "=3"])
def test_override_without_key_or_value(write: Callable[..., Path], override: str) -> None:
    with pytest.raises(ConfigError, match="key=value"):
        load_config(write(), [override])


def test_loss_without_any_weight(write: Callable[..., Path]) -> None:
    with pytest.raises(ConfigError, match="nothing to learn"):
        load_config(write(loss={"energy": 0, "forces": 0, "stress": 0}))


def test_stages_change_the_weights_they_name() -> None:
    loss = LossConfig.model_validate(
        {"energy": 1, "forces": 10, "stages": [{"epoch": 5, "energy": 100}, {"epoch": 8, "forces": 1, "stress": 2}]}
    )
    assert [loss.weights(epoch) for epoch in (1, 4, 5, 7, 8, 99)] == [
        (1, 10, 0, 0, 0, 0),
        (1, 10, 0, 0, 0, 0),
        (100, 10, 0, 0, 0, 0),
        (100, 10, 0, 0, 0, 0),
        (100, 1, 2, 0, 0, 0),
        (100, 1, 2, 0, 0, 0),
    ]
    assert loss.largest_weights() == {"energy": 100, "forces": 10, "stress": 2} | dict.fromkeys(
        ("charges", "dipole", "total_charge"), 0
    )


def test_stages_out_of_order(write: Callable[..., Path]) -> None:
    with pytest.raises(ConfigError, match="order of their epochs"):
        load_config(write(loss={"stages": [{"epoch": 5}, {"epoch": 3}]}))


@pytest.mark.parametrize("long_range", [None, {"charges": "fixed"}])
@pytest.mark.parametrize("name", ["charges", "dipole", "total_charge"])
def test_losses_of_charges_need_charges_that_are_learnt(long_range: Any, name: str) -> None:
    values = {
        "model": {"architecture": "mace", "long_range": long_range},
        "data": {"train": "a.xyz"},
        "loss": {name: 1.0},
    }
    with pytest.raises(ConfigError, match=rf"loss\.{name} has weight and the model's charges are (none|fixed)"):
        parse_config(TrainingConfig, values, "the test")
    values["model"]["long_range"] = {"charges": "predicted"}
    assert parse_config(TrainingConfig, values, "the test").loss.largest_weights()[name] == 1.0
    values["model"]["long_range"] = {"charges": "equilibrated"}
    if name == "total_charge":
        with pytest.raises(ConfigError, match="with predicted charges"):
            parse_config(TrainingConfig, values, "the test")
