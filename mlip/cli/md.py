"""`mlip md`: molecular dynamics with a trajectory, a progress bar and a verdict on energy conservation."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mlip.cli.console import console, progress
from mlip.cli.files import check_trajectory_format, open_trajectory, read_atoms, refuse_same_file
from mlip.cli.options import Device, Dtype, ModelFile, StructureFile

if TYPE_CHECKING:
    from mlip.calculators.dynamics import Step, Summary


def md(
    model: ModelFile,
    structure: StructureFile,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Trajectory (.xyz, .extxyz or .traj); replaced if it exists.")
    ] = Path("trajectory.xyz"),
    ensemble: Annotated[
        Literal["nve", "nvt"], typer.Option(help="nve: velocity Verlet; nvt: Langevin thermostat.")
    ] = "nve",
    temperature: Annotated[float, typer.Option(help="K, of the first velocities and the thermostat.")] = 300.0,
    timestep: Annotated[float, typer.Option(help="fs.")] = 0.5,
    steps: Annotated[int, typer.Option(help="Number of time steps.")] = 1000,
    friction: Annotated[float, typer.Option(help="1/fs, of the thermostat.")] = 0.01,
    seed: Annotated[int, typer.Option(help="Of the first velocities and the thermostat.")] = 0,
    interval: Annotated[int, typer.Option(min=1, help="Steps from one frame of the trajectory to the next.")] = 10,
    device: Device = None,
    dtype: Dtype = "float32",
) -> None:
    """Run molecular dynamics from a structure, with its velocities or with new ones."""
    check_trajectory_format(output)
    refuse_same_file(structure, output)
    atoms = read_atoms(structure)
    from mlip.calculators import MLIPCalculator
    from mlip.calculators.dynamics import run_dynamics

    atoms.calc = MLIPCalculator(model, device=device, dtype=dtype)
    atoms.get_forces()  # What is compiled is compiled now, and not in front of a bar that stands still.
    frames = 0
    try:
        with open_trajectory(output) as append, progress("Simulating", steps) as bar:

            def observe(step: "Step") -> None:
                nonlocal frames
                if step.number % interval == 0:
                    append(atoms)
                    frames += 1
                if step.number:
                    bar.advance()
                    bar.note(f"{step.temperature:.0f} K  {step.energy:.3f} eV  {step.time:.2f} ps")

            summary = run_dynamics(
                atoms,
                ensemble=ensemble,
                temperature=temperature,
                timestep=timestep,
                steps=steps,
                friction=friction,
                seed=seed,
                observe=observe,
            )
    except BaseException:
        if frames:
            typer.echo(f"Frames kept in {output}: {frames}.", err=True)
        raise
    console.out(f"Frames written to {output}: {frames}")
    print_summary(summary, ensemble)


def print_summary(summary: "Summary", ensemble: str) -> None:
    """Print what one wants to know of a simulation; the energy's drift only where the energy should be constant."""
    from rich.table import Table

    table = Table(title=f"Molecular dynamics, {ensemble.upper()}", show_header=False)
    table.add_row("simulated time", f"{summary.duration:.4g} ps in {summary.steps} steps")
    table.add_row("mean temperature", f"{summary.mean_temperature:.1f} K")
    if ensemble == "nve":
        table.add_row("energy drift", f"{summary.total_drift:.3g} meV/atom, {summary.drift:.3g} meV/atom/ps")
    table.add_row("wall time", f"{summary.wall_time:.1f} s")
    table.add_row(
        "speed", f"{summary.nanoseconds_per_day:.3g} ns/day, {1e3 * summary.wall_time / summary.steps:.3g} ms/step"
    )
    console.print(table)
