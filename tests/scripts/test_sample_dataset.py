"""The sample data set that ships, checked against its card and recomputed with xTB, and the script that makes it."""

import hashlib
import importlib.util
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.emt import EMT

SPLITS = ("train", "validation", "test")
COUNTS = {
    "train": {"ethanol": 300, "water": 108},
    "validation": {"ethanol": 60, "water": 20},
    "test": {"ethanol": 80, "water": 36},
}
ROUNDING = 0.5e-6  # eV/Å, half the last digit of a force in the files


@pytest.fixture(scope="module")
def folder(repository: Path) -> Path:
    return repository / "data"


@pytest.fixture(scope="module")
def frames(folder: Path) -> dict[str, list[Atoms]]:
    return {split: ase.io.read(folder / f"sample_{split}.xyz", index=":") for split in SPLITS}


@pytest.fixture(scope="module")
def every_frame(frames: dict[str, list[Atoms]]) -> list[Atoms]:
    return [frame for split in SPLITS for frame in frames[split]]


@pytest.fixture(scope="module")
def script(repository: Path) -> ModuleType:
    """The script as a module; it is no part of the package."""
    path = repository / "scripts" / "make_sample_dataset.py"
    spec = importlib.util.spec_from_file_location("make_sample_dataset", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module


def sorted_distances(frame: Atoms) -> np.ndarray:
    """Interatomic distances, in order: the same for a copy that was moved, turned or renumbered."""
    distances = frame.get_all_distances(mic=bool(frame.pbc.any()))
    return np.sort(distances[np.triu_indices(len(frame), 1)])


@pytest.mark.parametrize("split", SPLITS)
def test_counts_and_split(frames: dict[str, list[Atoms]], split: str) -> None:
    assert Counter(frame.info["config_type"] for frame in frames[split]) == COUNTS[split]
    assert {frame.info["split"] for frame in frames[split]} == {split}


def test_structures(every_frame: list[Atoms]) -> None:
    for frame in every_frame:
        if frame.info["config_type"] == "ethanol":
            assert frame.get_chemical_formula() == "C2H6O"
            assert not frame.pbc.any()
        else:
            assert frame.get_chemical_formula() == "H16O8"
            assert frame.pbc.all()
            density = frame.get_masses().sum() / frame.get_volume() * 1.66053907
            assert 0.95 < density < 1.05  # g/cm³


def test_labels_are_finite_and_forces_sum_to_zero(every_frame: list[Atoms]) -> None:
    for frame in every_frame:
        forces = frame.get_forces()
        assert np.isfinite(frame.get_potential_energy())
        assert np.isfinite(forces).all()
        assert np.abs(forces).max() < 20
        assert np.abs(forces.sum(axis=0)).max() <= len(frame) * ROUNDING


def test_stress_only_for_water_and_symmetric(folder: Path) -> None:
    for split in SPLITS:
        comments = [line for line in (folder / f"sample_{split}.xyz").read_text().splitlines() if "Properties=" in line]
        for comment in comments:
            if "config_type=ethanol" in comment:
                assert "stress" not in comment
                continue
            numbers = comment.split('stress="')[1].split('"')[0].split()
            stress = np.array(numbers, dtype=float).reshape(3, 3)
            np.testing.assert_array_equal(stress, stress.T)
            assert np.isfinite(stress).all()
            assert 0 < np.abs(stress).max() < 0.2


def test_molecules_stay_whole(every_frame: list[Atoms]) -> None:
    for frame in every_frame:
        distances = frame.get_all_distances(mic=bool(frame.pbc.any()))
        hydrogen = frame.numbers == 1
        assert distances[np.ix_(hydrogen, ~hydrogen)].min(axis=1).max() < 1.4
        if frame.info["config_type"] == "ethanol":
            assert sorted(np.sum(distances[np.ix_(~hydrogen, hydrogen)] < 1.4, axis=1)) == [1, 2, 3]
        else:
            assert set(np.sum(distances[np.ix_(~hydrogen, hydrogen)] < 1.4, axis=1)) == {2}


def test_held_out_frames_are_held_out(frames: dict[str, list[Atoms]]) -> None:
    trajectories = [{frame.info["trajectory"] for frame in frames[split]} for split in SPLITS]
    assert sum(map(len, trajectories)) == len(set().union(*trajectories))
    for config_type in ("ethanol", "water"):
        chosen = [
            np.array([sorted_distances(f) for f in frames[s] if f.info["config_type"] == config_type]) for s in SPLITS
        ]
        everything = np.concatenate(chosen)
        apart = np.abs(everything[:, None] - everything[None]).max(axis=-1)
        np.fill_diagonal(apart, np.inf)
        assert apart.min() > 0.01  # Å: no frame occurs twice, not even turned


def test_isolated_atoms(folder: Path) -> None:
    atoms = ase.io.read(folder / "sample_isolated_atoms.xyz", index=":")
    assert [frame.get_chemical_formula() for frame in atoms] == ["H", "C", "O"]
    for frame in atoms:
        assert frame.info["config_type"] == "isolated_atom"
        assert frame.get_potential_energy() < 0
        np.testing.assert_array_equal(frame.get_forces(), 0)


def test_molecules_are_bound(folder: Path, every_frame: list[Atoms]) -> None:
    atoms = ase.io.read(folder / "sample_isolated_atoms.xyz", index=":")
    energies = {frame.get_chemical_formula(): frame.get_potential_energy() for frame in atoms}
    for frame in every_frame:
        atomisation = sum(energies[symbol] for symbol in frame.symbols) - frame.get_potential_energy()
        assert 3 < atomisation / len(frame) < 6  # eV


def test_card_names_the_files_and_their_checksums(folder: Path) -> None:
    card = (folder / "README.md").read_text(encoding="utf-8")
    names = [f"sample_{name}.xyz" for name in (*SPLITS, "isolated_atoms")]
    for name in names:
        line = next(line for line in card.splitlines() if line.startswith(f"| `{name}`"))
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() in line
    assert sum((folder / name).stat().st_size for name in names) <= 5_000_000
    assert "CC0" in card


def test_labels_agree_with_xtb(script: ModuleType, frames: dict[str, list[Atoms]]) -> None:
    pytest.importorskip("tblite")
    chosen = [frames["train"][0], frames["test"][0], frames["test"][-1]]
    assert {frame.info["config_type"] for frame in chosen} == {"ethanol", "water"}
    for frame in chosen:
        again = frame.copy()
        again.calc = script.gfn1_xtb()
        assert again.get_potential_energy() == pytest.approx(frame.get_potential_energy(), abs=1e-6)
        np.testing.assert_allclose(again.get_forces(), frame.get_forces(), atol=5e-6)
        if frame.pbc.all():
            np.testing.assert_allclose(again.get_stress(), frame.get_stress(), atol=1e-7)


def test_labels_are_derivatives_of_the_energy(script: ModuleType, frames: dict[str, list[Atoms]]) -> None:
    pytest.importorskip("tblite")
    frame = frames["test"][0]
    assert frame.info["config_type"] == "water"
    atom, axis, step = 4, 1, 1e-3
    energies = []
    for sign in (1, -1):
        moved = frame.copy()
        moved.positions[atom, axis] += sign * step
        moved.calc = script.gfn1_xtb()
        energies.append(moved.get_potential_energy())
    assert frame.get_forces()[atom, axis] == pytest.approx((energies[1] - energies[0]) / (2 * step), abs=5e-4)
    strained_energies = []
    for sign in (1, -1):
        strained = frame.copy()
        strained.set_cell(frame.cell.array @ np.diag([1 + sign * step, 1, 1]), scale_atoms=True)
        strained.calc = script.gfn1_xtb()
        strained_energies.append(strained.get_potential_energy())
    slope = (strained_energies[0] - strained_energies[1]) / (2 * step) / frame.get_volume()
    assert frame.get_stress()[0] == pytest.approx(slope, abs=5e-6)


def test_missing_tblite_gives_one_sentence(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tblite.ase", None)
    with pytest.raises(SystemExit, match="pip install tblite") as caught:
        script.gfn1_xtb()
    assert "\n" not in str(caught.value)


def test_trajectory_repeats_with_its_seed(script: ModuleType) -> None:
    def frames_of(seed: int) -> list[Atoms]:
        short = script.ethanol("train", 300, seed=seed, frames=2, interval=3, equilibration=5)
        return script.run(short, EMT)

    first, again, other = frames_of(1), frames_of(1), frames_of(2)
    assert len(first) == 2
    for one, two, three in zip(first, again, other, strict=True):
        np.testing.assert_array_equal(one.positions, two.positions)
        np.testing.assert_array_equal(one.get_forces(), two.get_forces())
        assert not np.array_equal(one.positions, three.positions)
    assert not np.array_equal(first[0].positions, first[1].positions)


def test_labels_belong_to_the_rounded_positions(script: ModuleType) -> None:
    frame = script.labelled(script.water_box(np.random.default_rng(0)), EMT(), config_type="water")
    np.testing.assert_array_equal(frame.positions, frame.positions.round(6))
    again = frame.copy()
    again.calc = EMT()
    np.testing.assert_allclose(frame.get_forces(), again.get_forces(), atol=ROUNDING * 1.01)
    np.testing.assert_allclose(frame.get_stress(), again.get_stress(), atol=1e-9)


def test_water_box_has_the_density_asked_for(script: ModuleType) -> None:
    box = script.water_box(np.random.default_rng(0), volume=1.02)
    assert box.get_volume() == pytest.approx(1.02 * 8 * 18.015 / 0.997 / 0.602214076, rel=1e-4)
    oxygen = box.positions[box.numbers == 8]
    hydrogen = box.positions[box.numbers == 1].reshape(8, 2, 3)
    np.testing.assert_allclose(np.linalg.norm(hydrogen - oxygen[:, None], axis=-1), 0.9686, atol=1e-3)


def test_write_leaves_complete_files_and_a_card(script: ModuleType, tmp_path: Path) -> None:
    kinds = [script.ethanol, script.water]
    runs = tuple(kind(split, 300, seed=1, frames=1, interval=1, equilibration=1) for split in SPLITS for kind in kinds)
    frames = [frame for run in runs for frame in script.run(run, EMT)]
    atoms = [script.labelled(Atoms(symbol), EMT(), config_type="isolated_atom", split="train") for symbol in "HCO"]
    script.write(tmp_path, frames, atoms, runs)
    names = {f"sample_{name}.xyz" for name in (*SPLITS, "isolated_atoms")}
    assert {path.name for path in tmp_path.iterdir()} == names | {"README.md"}
    written = ase.io.read(tmp_path / "sample_test.xyz", index=":")
    assert [frame.info["config_type"] for frame in written] == ["ethanol", "water"]
    for frame, original in zip(written, frames[-2:], strict=True):
        np.testing.assert_allclose(frame.positions, original.positions, atol=1e-8)
        assert frame.get_potential_energy() == original.get_potential_energy()
        np.testing.assert_allclose(frame.get_forces(), original.get_forces(), atol=1e-8)
