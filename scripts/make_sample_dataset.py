"""Make the sample data set in `data/`: ethanol in vacuum and a periodic box of water, by dynamics with GFN1-xTB.

    pip install tblite
    python scripts/make_sample_dataset.py            # about a quarter of an hour on two cores

Writes the training, validation and test frames, the isolated atoms, and the card `README.md` that describes them. Every
file is written beside its place and renamed once all of them are complete.

Method: GFN1-xTB (Grimme, Bannwarth, Shushkov, J. Chem. Theory Comput. 2017, 13, 1989, doi 10.1021/acs.jctc.7b00118) in
tblite. One method for both systems lets one potential describe them together.
"""

import argparse
import hashlib
import multiprocessing
import os
import platform
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms, units
from ase.build import molecule
from ase.calculators.calculator import Calculator
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixCom
from ase.md.langevin import Langevin
from ase.optimize import FIRE
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from scipy.spatial.transform import Rotation

METHOD = "GFN1-xTB"
ACCURACY = 0.01  # of tblite's self-consistency; a hundred times tighter than its default and no slower
TIME_STEP = 0.5  # fs, short enough for the vibrations of hydrogen
FRICTION = 0.02  # 1/fs
RELAXATION_STEPS = 20
WATER_DENSITY = 0.997  # g/cm³, at 298 K
WATER_MOLECULES = (2, 2, 2)  # on a simple cubic lattice
MULTIPLICITIES = {"H": 2, "C": 3, "O": 3}  # ground states of the free atoms
SPLITS = ("train", "validation", "test")
ISOLATED_ATOMS = "isolated_atoms"

CalculatorFactory = Callable[..., Calculator]


@dataclass(frozen=True)
class Trajectory:
    """One run of Langevin dynamics; all frames of a run belong to one split, so that held-out frames are held out.

    `seed` draws the starting orientations, velocities and the thermostat's noise. `volume` multiplies that of a box
    at WATER_DENSITY and has no meaning without a cell. `equilibration` and `interval` count steps of TIME_STEP.
    """

    config_type: str
    split: str
    temperature: int  # K
    seed: int
    frames: int
    interval: int
    equilibration: int
    volume: float = 1.0

    @property
    def name(self) -> str:
        return f"{self.config_type}-{self.temperature}K-seed{self.seed}"


ethanol = partial(Trajectory, "ethanol", interval=100, equilibration=2000)
water = partial(Trajectory, "water", interval=20, equilibration=1000)
# Water costs the time: its runs come first so that none is left over when the cores run dry.
TRAJECTORIES = (
    water("train", 300, seed=1, frames=36, volume=0.97),
    water("train", 400, seed=2, frames=36, volume=1.0),
    water("train", 300, seed=3, frames=36, volume=1.03),
    water("validation", 300, seed=4, frames=20, volume=0.985),
    water("test", 300, seed=5, frames=18, volume=1.015),
    water("test", 400, seed=6, frames=18, volume=0.99),
    ethanol("train", 300, seed=11, frames=150),
    ethanol("train", 500, seed=12, frames=150),
    ethanol("validation", 300, seed=13, frames=30),
    ethanol("validation", 500, seed=14, frames=30),
    ethanol("test", 300, seed=15, frames=40),
    ethanol("test", 500, seed=16, frames=40),
)


def gfn1_xtb(**settings: object) -> Calculator:
    """A GFN1-xTB calculator; leaves with one sentence where tblite is not installed."""
    try:
        from tblite.ase import TBLite
    except ImportError as error:
        raise SystemExit(f"Error: the sample data set needs tblite ({error}); run `pip install tblite`.") from None
    return TBLite(method=METHOD, accuracy=ACCURACY, verbosity=0, **settings)


def water_box(rng: np.random.Generator, volume: float = 1.0) -> Atoms:
    """Water molecules on a cubic lattice in random orientations, in `volume` times the cell of WATER_DENSITY."""
    single = molecule("H2O")
    count = int(np.prod(WATER_MOLECULES))
    grams_per_cm3 = units.kg / 1000 / (1e8 * units.Ang) ** 3
    edge = np.cbrt(volume * count * single.get_masses().sum() / (WATER_DENSITY * grams_per_cm3))
    sites = (np.array(list(np.ndindex(WATER_MOLECULES))) + 0.5) / WATER_MOLECULES * edge
    orientations = Rotation.from_quat(rng.standard_normal((count, 4)))  # normal quaternions turn uniformly
    centred = single.positions - single.get_center_of_mass()
    positions = np.concatenate([turn.apply(centred) + site for turn, site in zip(orientations, sites, strict=True)])
    return Atoms(single.get_chemical_symbols() * count, positions, cell=[round(edge, 6)] * 3, pbc=True)


def starting_structure(trajectory: Trajectory, rng: np.random.Generator) -> Atoms:
    return water_box(rng, trajectory.volume) if trajectory.config_type == "water" else molecule("CH3CH2OH")


def labelled(atoms: Atoms, calculator: Calculator, **info: object) -> Atoms:
    """A copy with energy (eV), forces (eV/Å) and, in a periodic cell, stress (eV/Å³) computed for it.

    Positions are rounded to what the file holds before the labels are computed, so that these belong to the written
    structure and not to one nearby.
    """
    frame = Atoms(atoms.numbers, atoms.positions.round(6), cell=atoms.cell, pbc=atoms.pbc, info=info)
    frame.calc = calculator
    results = {"energy": round(float(frame.get_potential_energy()), 8), "forces": frame.get_forces().round(6) + 0.0}
    if frame.pbc.all():
        results["stress"] = frame.get_stress().round(9)
    frame.calc = SinglePointCalculator(frame, **results)
    return frame


def run(trajectory: Trajectory, make_calculator: CalculatorFactory = gfn1_xtb) -> list[Atoms]:
    """Relax briefly, equilibrate, and return the labelled frames of a trajectory."""
    rng = np.random.default_rng(trajectory.seed)
    atoms = starting_structure(trajectory, rng)
    atoms.calc = make_calculator()
    FIRE(atoms, logfile=None).run(fmax=0.05, steps=RELAXATION_STEPS)
    atoms.set_constraint(FixCom())
    thermal = np.sqrt(units.kB * trajectory.temperature * atoms.get_masses())[:, None]
    atoms.set_momenta(thermal * rng.standard_normal((len(atoms), 3)))
    dynamics = Langevin(
        atoms,
        TIME_STEP * units.fs,
        temperature_K=trajectory.temperature,
        friction=FRICTION / units.fs,
        fixcm=False,
        rng=rng,
    )
    dynamics.run(trajectory.equilibration)
    info = {"config_type": trajectory.config_type, "split": trajectory.split, "trajectory": trajectory.name}
    frames = []
    for _ in range(trajectory.frames):
        dynamics.run(trajectory.interval)
        # A fresh calculator each time: the label must not depend on the electron density of the step before.
        frames.append(labelled(atoms, make_calculator(), **info))
    return frames


def isolated_atoms(make_calculator: CalculatorFactory = gfn1_xtb) -> list[Atoms]:
    """Free H, C and O in their ground states, spin-polarised.

    The electrons are kept cold: at tblite's default of 300 K the entropy of the half-filled p shells of C and O would
    enter the energy, while in closed-shell molecules neither the temperature nor the spin polarisation changes it.
    """
    return [
        labelled(
            Atoms(symbol),
            make_calculator(multiplicity=multiplicity, spin_polarization=1.0, electronic_temperature=1.0),
            config_type="isolated_atom",
            split="train",
        )
        for symbol, multiplicity in MULTIPLICITIES.items()
    ]


def run_all(trajectories: tuple[Trajectory, ...]) -> list[list[Atoms]]:
    """Run the trajectories in processes of one thread each, with a progress bar; their order is kept."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    console = Console(stderr=True)
    # Spawned, not forked: the workers load tblite afresh and its OpenMP reads the thread count from the environment.
    pool = ProcessPoolExecutor(min(len(trajectories), os.cpu_count() or 1), multiprocessing.get_context("spawn"))
    with pool, Progress(*columns, console=console) as progress:
        task = progress.add_task("trajectories", total=len(trajectories))
        futures = [pool.submit(run, trajectory) for trajectory in trajectories]
        try:
            for future in as_completed(futures):
                future.result()
                progress.advance(task)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [future.result() for future in futures]


def files_of(frames: list[Atoms], atoms: list[Atoms]) -> dict[str, list[Atoms]]:
    """Frames by file name."""
    files = {f"sample_{split}.xyz": [f for f in frames if f.info["split"] == split] for split in SPLITS}
    return files | {f"sample_{ISOLATED_ATOMS}.xyz": atoms}


def table(header: tuple[str, ...], rows: Sequence[tuple[object, ...]]) -> str:
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join("| " + " | ".join(str(entry) for entry in line) + " |" for line in lines)


def ranges(frames: list[Atoms]) -> Sequence[tuple[object, ...]]:
    """One row per config_type: counts and the ranges of the labels."""
    rows = []
    for config_type in ("ethanol", "water"):
        chosen = [f for f in frames if f.info["config_type"] == config_type]
        energies = np.array([f.get_potential_energy() for f in chosen])
        forces = np.concatenate([f.get_forces() for f in chosen])
        stress = "none"
        if chosen[0].pbc.all():
            values = np.array([f.get_stress() for f in chosen])
            stress = f"{values.min():.4f} … {values.max():.4f}"
        rms = np.sqrt(np.mean(forces**2))
        rows.append(
            (
                config_type,
                len(chosen),
                len(chosen[0]),
                f"{energies.min():.3f} … {energies.max():.3f} (σ {energies.std():.3f})",
                f"{rms:.3f}, {np.abs(forces).max():.3f}",
                stress,
            )
        )
    return rows


def installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def card(files: dict[str, list[Atoms]], folder: Path, trajectories: tuple[Trajectory, ...]) -> str:
    """The data card: how the set was made and what is in it. `folder` holds the files, still as NAME.partial."""
    frames = [frame for name, content in files.items() if ISOLATED_ATOMS not in name for frame in content]
    checksums = []
    for name, content in files.items():
        data = (folder / f"{name}.partial").read_bytes()
        counts = {t: sum(f.info["config_type"] == t for f in content) for t in ("ethanol", "water", "isolated_atom")}
        checksums.append((f"`{name}`", *counts.values(), len(data), f"`{hashlib.sha256(data).hexdigest()}`"))
    runs = [
        (
            f"`{t.name}`",
            t.split,
            f"{t.volume:g}" if t.config_type == "water" else "–",
            f"{t.equilibration * TIME_STEP / 1000:g}",
            t.frames,
            f"{t.interval * TIME_STEP:g}",
        )
        for t in trajectories
    ]
    atoms = [
        (a.get_chemical_formula(), MULTIPLICITIES[a.get_chemical_formula()], f"{a.get_potential_energy():.8f}")
        for a in files[f"sample_{ISOLATED_ATOMS}.xyz"]
    ]
    template = Path(__file__).with_name("sample_dataset_card.md").read_text(encoding="utf-8")
    return template.format(
        files=table(("file", "ethanol", "water", "isolated atoms", "bytes", "SHA-256"), checksums),
        ranges=table(
            (
                "config_type",
                "frames",
                "atoms",
                "energy, eV",
                "force component: RMS, largest, eV/Å",
                "stress components, eV/Å³",
            ),
            ranges(frames),
        ),
        atoms=table(("atom", "2S + 1", "energy, eV"), atoms),
        trajectories=table(
            ("trajectory", "split", "volume", "equilibration, ps", "frames", "fs between frames"),
            runs,
        ),
        versions=", ".join(f"{name} {installed(name)}" for name in ("tblite", "ase", "numpy", "scipy"))
        + f", Python {platform.python_version()}, {platform.system()} {platform.machine()}",
    )


def write(folder: Path, frames: list[Atoms], atoms: list[Atoms], trajectories: tuple[Trajectory, ...]) -> None:
    """Write the data files and the card beside their places, then rename all of them."""
    files = files_of(frames, atoms)
    for name, content in files.items():
        ase.io.write(folder / f"{name}.partial", content, format="extxyz")
    (folder / "README.md.partial").write_text(card(files, folder, trajectories), encoding="utf-8")
    for name in [*files, "README.md"]:
        os.replace(folder / f"{name}.partial", folder / name)


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the sample data set by molecular dynamics with GFN1-xTB.")
    default = Path(__file__).resolve().parent.parent / "data"
    parser.add_argument("-o", "--output", type=Path, default=default, help="folder to write to (default: data/)")
    folder = parser.parse_args().output
    # More threads make these small systems a hundred times slower; the cores are used by whole trajectories instead.
    os.environ["OMP_NUM_THREADS"] = "1"
    folder.mkdir(parents=True, exist_ok=True)
    atoms = isolated_atoms()
    frames = [frame for trajectory in run_all(TRAJECTORIES) for frame in trajectory]
    write(folder, frames, atoms, TRAJECTORIES)
    print(f"Wrote {len(frames)} frames and {len(atoms)} isolated atoms to {folder}", file=sys.stderr)


if __name__ == "__main__":
    main()
