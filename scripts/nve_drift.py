"""Dynamics at constant energy with compiled models in float32: does the total energy stay?

    python scripts/nve_drift.py water --model sevennet_0.mlip --picoseconds 10
    python scripts/nve_drift.py ethanol --model runs/quickstart/model.mlip --picoseconds 100

Water is a periodic box of 192 atoms, ethanol the first of the sample's test set; both are relaxed a little, brought to
300 K for 2 ps by a Langevin thermostat and then left alone. The drift is the slope of a straight line through the total
energy of all steps. A picture and the numbers go to results/nve_<system>.png and .json.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from ase import Atoms
from ase.optimize import FIRE
from rich.console import Console
from rich.progress import track

from mlip import MLIPCalculator
from mlip.benchmarks.water import water_box
from mlip.calculators.dynamics import Step, run_dynamics
from mlip.data.files import written_beside
from mlip.data.reading import iterate_structures

TIMESTEP = 0.5  # fs
TEMPERATURE = 300.0  # K
EQUILIBRATION = 4000  # steps
RELAXATION = 200  # steps
INTERVAL = 20  # steps between recorded moments


def start_of(system: str) -> Atoms:
    """The structure that a system's dynamics start from."""
    if system == "water":
        return water_box(192, ["H", "O"])
    frames = iterate_structures(Path("data/sample_test.xyz"), None)
    return next(each for each in frames if each.config_type == system).to_atoms()


def simulate(atoms: Atoms, steps: int) -> dict[str, Any]:
    """Equilibrate, then record total energies at constant energy, meV/atom relative to the start, and temperatures."""
    FIRE(atoms, logfile=None).run(fmax=0.1, steps=RELAXATION)
    run_dynamics(atoms, ensemble="nvt", temperature=TEMPERATURE, timestep=TIMESTEP, steps=EQUILIBRATION)
    times, energies, temperatures = [], [], []
    progress = iter(track(range(steps + 1), description="Constant energy", console=Console(stderr=True)))

    def observe(step: Step) -> None:
        next(progress)
        if step.number % INTERVAL == 0:
            times.append(step.time)
            energies.append(step.energy)
            temperatures.append(step.temperature)

    summary = run_dynamics(
        atoms, ensemble="nve", temperature=TEMPERATURE, timestep=TIMESTEP, steps=steps, observe=observe
    )
    return {
        "atoms": len(atoms),
        "picoseconds": summary.duration,
        "drift_mev_per_atom": summary.total_drift,
        "mean_temperature": summary.mean_temperature,
        "milliseconds_per_step": 1e3 * summary.wall_time / steps,
        "threads": torch.get_num_threads(),
        "time_ps": times,
        "energy_mev_per_atom": (1e3 * (np.array(energies) - energies[0]) / len(atoms)).tolist(),
        "temperature": temperatures,
    }


def plot(run: dict[str, Any], title: str, path: Path) -> None:
    """Total energy and temperature against time."""
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 1, figsize=(7.0, 5.0), sharex=True, layout="constrained")
    axes[0].plot(run["time_ps"], run["energy_mev_per_atom"], color="#2c6e9b", linewidth=0.7)
    axes[0].axhline(0.0, color="0.6", linewidth=0.8)
    axes[0].set_ylabel("total energy − start, meV/atom")
    axes[0].set_title(title, fontsize="medium")
    axes[1].plot(run["time_ps"], run["temperature"], color="#c0643c", linewidth=0.5)
    axes[1].set_ylabel("temperature, K")
    axes[1].set_xlabel("time, ps")
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    with written_beside(path) as partial:
        figure.savefig(partial, format="png", dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("system", choices=["water", "ethanol"])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--picoseconds", type=float, default=10.0)
    parser.add_argument("-o", "--output", type=Path, default=Path("results"), help="folder")
    arguments = parser.parse_args()
    atoms = start_of(arguments.system)
    atoms.calc = MLIPCalculator(arguments.model, dtype="float32")
    run = simulate(atoms, round(arguments.picoseconds * 1e3 / TIMESTEP))
    name = arguments.output / f"nve_{arguments.system}"
    with written_beside(name.with_suffix(".json")) as partial:
        partial.write_text(json.dumps(run))
    title = (
        f"{arguments.model.stem}, {arguments.system}, {run['atoms']} atoms, float32, {TIMESTEP} fs: "
        f"drift {run['drift_mev_per_atom']:+.4f} meV/atom in {run['picoseconds']:g} ps"
    )
    plot(run, title, name.with_suffix(".png"))
    print(
        f"drift {run['drift_mev_per_atom']:+.4f} meV/atom in {run['picoseconds']:g} ps at "
        f"{run['mean_temperature']:.0f} K, {run['milliseconds_per_step']:.2f} ms a step on {run['threads']} threads"
    )


if __name__ == "__main__":
    main()
