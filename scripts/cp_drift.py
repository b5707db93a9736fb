"""What a truncated CP product does to dynamics: energy and angular momentum against time, for ranks up to the exact.

    mlip train configs/cp_drift.yaml
    python scripts/cp_drift.py runs/cp_drift/model.mlip --ranks 16 20 24 28 exact -o results/cp_drift

The weights are those trained with the exact rank; only the decomposition is truncated. All runs start from one state
of ethanol, equilibrated at 300 K with the exact model, and go on at constant energy. Forces are gradients of an energy
at any rank, so that a sound integrator keeps the energy; a truncated energy depends on orientation, which exerts a
torque, so that the angular momentum is not kept.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from ase import Atoms, units
from rich.console import Console
from rich.progress import track

from mlip import MLIPCalculator
from mlip.calculators.dynamics import Step, run_dynamics
from mlip.data.files import written_beside
from mlip.data.reading import iterate_structures
from mlip.models import Potential, build_model, load, parse_model_config
from mlip.tensor_products import Backend

TIMESTEP = 0.5  # fs
INTERVAL = 20  # steps between recorded moments


def with_rank(exact: Potential, rank: str) -> Potential:
    """The model with its products truncated to a rank, all other weights kept."""
    if rank == "exact":
        return exact
    values = exact.config.model_dump()
    values["tensor_product"]["convolution"]["rank"] = int(rank)
    model = build_model(parse_model_config(values))
    model.load_state_dict(model.state_dict() | exact.state_dict())
    return model.eval()


def largest_error(model: Potential) -> float:
    """Largest relative error of the products of a model."""
    return max(module.error for module in model.modules() if isinstance(module, Backend))


def simulate(model: Potential, start: Atoms, steps: int, name: str) -> dict[str, Any]:
    """Dynamics at constant energy; total energy in meV/atom and angular momentum in ħ, relative to the start."""
    atoms = start.copy()
    atoms.calc = MLIPCalculator(model)
    times, energies, momenta = [], [], []

    with_progress = iter(track(range(steps + 1), description=f"Rank {name}", console=Console(stderr=True)))

    def observe(step: Step) -> None:
        next(with_progress)
        if step.number % INTERVAL == 0:
            times.append(step.time)
            energies.append(step.energy)
            momenta.append(atoms.get_angular_momentum() / (units._hbar * units.J * units.second))

    summary = run_dynamics(atoms, ensemble="nve", temperature=300.0, timestep=TIMESTEP, steps=steps, observe=observe)
    turned = np.linalg.norm(np.array(momenta) - momenta[0], axis=1)
    return {
        "rank": name,
        "error": largest_error(model),
        "time_ps": times,
        "energy_mev_per_atom": (1e3 * (np.array(energies) - energies[0]) / len(atoms)).tolist(),
        "angular_momentum_hbar": turned.tolist(),
        "drift_mev_per_atom_ps": summary.drift,
        "mean_temperature": summary.mean_temperature,
    }


def plot(runs: list[dict[str, Any]], path: Path) -> None:
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 1, figsize=(7.0, 6.0), sharex=True, layout="constrained")
    colours = plt.get_cmap("viridis")(np.linspace(0.0, 0.85, len(runs)))
    for each, colour in zip(runs, colours, strict=True):
        label = f"rank {each['rank']}, error {each['error']:.0e}"
        axes[0].plot(each["time_ps"], each["energy_mev_per_atom"], color=colour, linewidth=0.8, label=label)
        axes[1].plot(each["time_ps"], each["angular_momentum_hbar"], color=colour, linewidth=1.2)
    axes[0].set_ylabel("total energy − start, meV/atom")
    axes[1].set_ylabel("|L − L at the start|, ħ")
    axes[1].set_yscale("log")
    axes[1].set_xlabel("time, ps")
    axes[0].legend(frameon=False, fontsize="small", ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    with written_beside(path) as partial:
        figure.savefig(partial, format="png", dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, help="trained with rank: exact")
    parser.add_argument("--ranks", nargs="+", default=["16", "20", "24", "28", "exact"])
    parser.add_argument("--steps", type=int, default=10_000, help="of 0.5 fs")
    parser.add_argument("-o", "--output", type=Path, default=Path("results/cp_drift"), help="name without ending")
    arguments = parser.parse_args()
    exact = load(arguments.model)
    frames = iterate_structures(Path("data/sample_test.xyz"), None)
    atoms = next(each for each in frames if each.config_type == "ethanol").to_atoms()
    atoms.calc = MLIPCalculator(exact)
    run_dynamics(atoms, ensemble="nvt", temperature=300.0, timestep=TIMESTEP, steps=2000)
    runs = [simulate(with_rank(exact, rank), atoms, arguments.steps, rank) for rank in arguments.ranks]
    with written_beside(arguments.output.with_suffix(".json")) as partial:
        partial.write_text(json.dumps(runs))
    plot(runs, arguments.output.with_suffix(".png"))
    print(
        "| rank | error of the products | energy drift, meV/atom/ps | change of angular momentum, ħ | temperature, K |"
    )
    print("| --- | --- | --- | --- | --- |")
    for each in runs:
        print(
            f"| {each['rank']} | {each['error']:.1e} | {each['drift_mev_per_atom_ps']:+.4f} | "
            f"{each['angular_momentum_hbar'][-1]:.2g} | {each['mean_temperature']:.0f} |"
        )


if __name__ == "__main__":
    main()
