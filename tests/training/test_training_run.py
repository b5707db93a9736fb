"""Whole runs: what they leave behind, what they take from the data, and what stops them."""

import csv
import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from rich.console import Console

from mlip.data.labels import LabelKeys
from mlip.data.reading import read_structures
from mlip.data.splitting import split_indices
from mlip.data.store import StoreWriter
from mlip.errors import ConfigError, DataError, FileMissingError, TrainingError, UnknownElementError
from mlip.models import load
from mlip.training.config import TrainingConfig, load_config
from mlip.training.evaluation import evaluate
from mlip.training.run import Run, train

Config = Callable[..., TrainingConfig]


def quiet_train(config: TrainingConfig, **options: Any) -> Run:
    return train(config, console=Console(file=io.StringIO()), **options)


def read_rows(folder: Path) -> list[dict[str, float]]:
    with (folder / "metrics.csv").open() as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def finished(frames_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One run with a test file, in float64."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "config.yaml").write_text(
        f"""
model: {{architecture: mace, hidden_irreps: 4x0e+4x1o, l_max: 1, correlation: 2, layers: 2, cutoff: 3.0}}
data: {{train: {frames_file}, validation: 0.2, test: [{frames_file}]}}
loss: {{energy: 1.0, forces: 10.0, stress: 1.0, stages: [{{epoch: 4, energy: 50.0}}]}}
batch: {{max_edges: 160}}
dtype: float64
epochs: 5
seed: 3
output: {folder / "run"}
"""
    )
    return quiet_train(load_config(folder / "config.yaml"))


def test_folder_holds_what_it_should_and_nothing_else(finished: Run) -> None:
    names = {path.name for path in finished.folder.path.iterdir()}
    assert names - {"tensorboard"} == {"model.mlip", "last.ckpt", "metrics.csv", "report.html", "config.yaml"}


def test_rows_are_finite_and_the_loss_falls(finished: Run) -> None:
    rows = read_rows(finished.folder.path)
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4, 5]
    assert all(np.isfinite(list(row.values())).all() for row in rows)
    assert rows[-1]["validation_loss"] < 0.7 * rows[0]["validation_loss"]


def test_saved_model_has_the_averaged_weights_that_were_validated(finished: Run, frames_file: Path) -> None:
    """Its errors on the validation frames, computed frame by frame, are those that the best row of the table tells."""
    rows = read_rows(finished.folder.path)
    best = min(rows, key=lambda row: row["validation_loss"])
    structures = read_structures(frames_file)
    _, aside = split_indices(len(structures), 0.2, 3)
    errors = evaluate(load(finished.folder.model), [structures[i] for i in aside], max_edges=1000, stress=True).errors
    for name, column in (("energy per atom", "energy_per_atom"), ("forces", "forces"), ("stress", "stress")):
        row = next(row for row in errors.rows if (row.kind, row.property) == ("all", name))
        assert row.rmse == pytest.approx(1000 * best[f"{column}_rmse"], rel=1e-9)
        assert row.mae == pytest.approx(1000 * best[f"{column}_mae"], rel=1e-9)


def test_model_takes_its_constants_from_the_training_frames(finished: Run, frames_file: Path) -> None:
    structures = read_structures(frames_file)
    kept, _ = split_indices(len(structures), 0.2, 3)
    training = [structures[i] for i in kept]
    counts = np.array([[(s.numbers == z).sum() for z in (1, 8)] for s in training])
    energies = np.array([s.energy for s in training])
    fitted, *_ = np.linalg.lstsq(counts, energies, rcond=None)
    model = load(finished.folder.model)
    assert model.elements == ["H", "O"]
    np.testing.assert_allclose(list(model.config.reference_energies.values()), fitted, rtol=1e-9)
    forces = np.concatenate([s.forces.ravel() for s in training if s.forces is not None])
    assert model.config.scale == pytest.approx(np.sqrt((forces**2).mean()), rel=1e-12)
    assert model.config.shift == 0.0
    assert model.config.seed == 3


def test_provenance_tells_where_the_model_comes_from(finished: Run, frames_file: Path) -> None:
    provenance = load(finished.folder.model).provenance
    assert provenance["training_files"] == [str(frames_file)]
    assert (provenance["training_frames"], provenance["validation_frames"]) == (24, 6)
    assert provenance["seed"] == 3
    assert provenance["epoch"] == 5
    assert provenance["config"]["batch"] == {"max_edges": 160}


def test_resolved_configuration_trains_the_same_model(finished: Run, tmp_path: Path, no_report: None) -> None:
    again = load_config(finished.folder.config, [f"output={tmp_path / 'again'}"])
    quiet_train(again)
    for first, second in zip(read_rows(finished.folder.path), read_rows(tmp_path / "again"), strict=True):
        assert {**first, "seconds": 0} == {**second, "seconds": 0}


def test_console_shows_the_table_and_no_noise(config: Config, capfd: pytest.CaptureFixture[str]) -> None:
    console = Console(file=(text := io.StringIO()), width=100)
    with warnings.catch_warnings(record=True) as caught:
        train(config(epochs=2), console=console)
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""
    assert caught == []
    lines = text.getvalue().splitlines()
    assert lines[2].split()[:4] == ["epoch", "train", "loss", "val."]
    assert [line.split()[0] for line in lines[3:5]] == ["1", "2"]
    assert not (Path.cwd() / "lightning_logs").exists()


def test_other_run_is_not_overwritten(config: Config, no_report: None) -> None:
    quiet_train(config(epochs=1))
    model = Path(config().output, "model.mlip")
    before = model.read_bytes()
    with pytest.raises(TrainingError, match=r"--resume.*--overwrite.*output="):
        quiet_train(config(epochs=1, seed=5))
    assert model.read_bytes() == before
    quiet_train(config(epochs=1, seed=5), overwrite=True)
    assert load(model).config.seed == 5


def test_failing_start_leaves_the_old_run_alone(config: Config, tmp_path: Path, no_report: None) -> None:
    quiet_train(config(epochs=1))
    folder = Path(config().output)
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    with pytest.raises(FileMissingError):
        quiet_train(config(data={"train": str(tmp_path / "nowhere.xyz")}), overwrite=True)
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before


def test_lost_patience_ends_the_run(config: Config, no_report: None) -> None:
    # With so small a rate float32 weights stand still, and the loss never improves after the first epoch.
    run = quiet_train(config(epochs=50, patience=3, ema=None, optimizer={"learning_rate": 1e-30}))
    assert len(read_rows(run.folder.path)) == 4


@pytest.mark.parametrize(("prop", "frames"), [("stress", "cluster"), ("forces", "none")])
def test_weighted_loss_without_labels_is_refused(
    config: Config, frames_file: Path, tmp_path: Path, prop: str, frames: str
) -> None:
    path = tmp_path / "few.xyz"
    kept = [a for a in ase.io.read(frames_file, ":") if a.info["config_type"] == "cluster"]
    if frames == "none":
        for atoms in kept:
            atoms.calc = SinglePointCalculator(atoms, energy=atoms.get_potential_energy())
    ase.io.write(path, kept)
    with pytest.raises(DataError, match=prop) as error:
        quiet_train(config(data={"train": str(path)}))
    assert "few.xyz" in str(error.value)
    assert not Path(config().output).exists()


def test_energies_alone_can_be_learnt(config: Config, no_report: None) -> None:
    run = quiet_train(config(loss={"forces": 0.0, "stress": 0.0}, epochs=2))
    row = read_rows(run.folder.path)[-1]
    assert "energy_per_atom_rmse" in row
    assert "forces_rmse" not in row


def test_stress_alone_is_reported_as_stress(config: Config, no_report: None) -> None:
    run = quiet_train(config(loss={"energy": 0.0, "forces": 0.0, "stress": 1.0}, epochs=1))
    row = read_rows(run.folder.path)[-1]
    assert "forces_rmse" not in row
    assert row["stress_rmse"] < 1.0


def test_nequip_trains_too(config: Config, settings: Callable[..., Any], no_report: None) -> None:
    model = {"architecture": "nequip", "hidden_irreps": "4x0e+4x1o", "l_max": 1, "layers": 2, "cutoff": 3.0}
    values = {**settings(epochs=2), "model": model}
    run = quiet_train(TrainingConfig.model_validate(values))
    rows = read_rows(run.folder.path)
    assert rows[1]["train_loss"] < rows[0]["train_loss"]


def test_loss_that_is_no_number_names_the_frame(config: Config, frames_file: Path, tmp_path: Path) -> None:
    frames = ase.io.read(frames_file, ":")
    forces = 1e150 * frames[11].positions
    frames[11].calc = SinglePointCalculator(frames[11], energy=frames[11].get_potential_energy(), forces=forces)
    path = tmp_path / "broken.xyz"
    ase.io.write(path, frames)
    settings = config(
        data={"train": str(path), "validation": str(frames_file)},
        model={"scale": 1.0},
        loss={"kind": "mse"},
        batch={"max_edges": 1},
    )
    with pytest.raises(TrainingError, match=r"epoch 1, batch \d+, which holds frame 11 \(cluster\) of broken.xyz"):
        quiet_train(settings)


def test_exploding_weights_stop_the_run(config: Config) -> None:
    with pytest.raises(TrainingError, match=r"epoch \d.*learning_rate"):
        quiet_train(config(optimizer={"learning_rate": 1e30}, epochs=5))


def test_element_of_the_test_file_has_to_be_known(config: Config, tmp_path: Path) -> None:
    atoms = Atoms("CO", [[0, 0, 0], [0, 0, 1.2]])
    atoms.calc = SinglePointCalculator(atoms, energy=1.0, forces=np.zeros((2, 3)))
    ase.io.write(tmp_path / "co.xyz", atoms)
    with pytest.raises(UnknownElementError, match="C"):
        quiet_train(config(data={"test": str(tmp_path / "co.xyz")}))
    assert not Path(config().output).exists()


def test_gpu_that_is_not_there(config: Config) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(ConfigError, match="no GPU"):
        quiet_train(config(device="cuda"))


@pytest.mark.parametrize(
    ("source", "error", "said"),
    [
        ("isolated_atoms", DataError, "isolated atom of H"),
        ("nowhere.xyz", ConfigError, "'nowhere.xyz'"),
        ({"H": -13.0}, DataError, "isolated atom of O"),
    ],
)
def test_reference_energies_that_are_not_there(config: Config, source: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        quiet_train(config(reference_energies=source))


def test_reference_energies_of_a_file_of_isolated_atoms(config: Config, tmp_path: Path, no_report: None) -> None:
    atoms = []
    for symbol, energy in (("H", -13.6), ("O", -432.5)):
        atoms.append(Atoms(symbol, [[0, 0, 0]]))
        atoms[-1].calc = SinglePointCalculator(atoms[-1], energy=energy)
    ase.io.write(tmp_path / "atoms.xyz", atoms)
    run = quiet_train(config(reference_energies=str(tmp_path / "atoms.xyz"), epochs=1))
    assert run.config.model.reference_energies == {"H": -13.6, "O": -432.5}
    structures = read_structures(Path(config().data.train[0]))
    kept, _ = split_indices(len(structures), 0.2, 0)
    left = [(structures[i].energy - sum({1: -13.6, 8: -432.5}[z] for z in structures[i].numbers)) for i in kept]
    assert run.config.model.shift == pytest.approx(np.mean(left / np.array([len(structures[i]) for i in kept])))


def test_values_that_are_given_stay(config: Config, no_report: None) -> None:
    given = {
        "scale": 2.0,
        "shift": -500.0,
        "average_neighbours": 3.0,
        "reference_energies": {"H": 0.0, "O": 0.0},
        "seed": 9,
    }
    run = quiet_train(config(model=given, epochs=1))
    assert run.config.model.model_dump().items() >= given.items()


def test_store_gives_the_same_run_as_its_file(
    config: Config, frames_file: Path, tmp_path: Path, no_report: None
) -> None:
    store = tmp_path / "frames.h5"
    with StoreWriter(store) as writer:
        for structure in read_structures(frames_file, LabelKeys()):
            writer.add(structure)
    quiet_train(config(output=str(tmp_path / "a")))
    quiet_train(config(data={"train": str(store)}, output=str(tmp_path / "b")))
    for first, second in zip(read_rows(tmp_path / "a"), read_rows(tmp_path / "b"), strict=True):
        assert {**first, "seconds": 0} == {**second, "seconds": 0}
