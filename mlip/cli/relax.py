"""`mlip relax`: the nearest minimum of the energy, of the atoms alone or of the cell too."""

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mlip.cli.console import console, progress
from mlip.cli.files import check_trajectory_format, open_trajectory, read_atoms, refuse_same_file, write_atoms
from mlip.cli.options import Device, Dtype, ModelFile, StructureFile

if TYPE_CHECKING:
    from mlip.calculators.relaxation import Progress


def relax(
    model: ModelFile,
    structure: StructureFile,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Relaxed structure, in the format that its name tells ASE.")
    ] = Path("relaxed.xyz"),
    fmax: Annotated[float, typer.Option(min=0.0, help="Largest force left on any atom, eV/Å.")] = 0.01,
    steps: Annotated[int, typer.Option(min=1, help="Largest number of steps.")] = 500,
    cell: Annotated[bool, typer.Option("--cell", help="Relax the cell too.")] = False,
    optimizer: Annotated[
        Literal["fire", "lbfgs", "bfgs"],
        typer.Option(help="fire always goes downhill; the others take fewer steps near a minimum."),
    ] = "fire",
    trajectory: Annotated[Path | None, typer.Option(help="Write the way there (.xyz, .extxyz or .traj).")] = None,
    device: Device = None,
    dtype: Dtype = "float32",
) -> None:
    """Relax a structure; exit code 1 if it has not converged after the last step."""
    refuse_same_file(structure, output)
    if trajectory is not None:
        check_trajectory_format(trajectory)
        refuse_same_file(structure, trajectory)
    atoms = read_atoms(structure)
    from mlip.calculators import MLIPCalculator
    from mlip.calculators.relaxation import relax_structure

    atoms.calc = MLIPCalculator(model, device=device, dtype=dtype)
    before = atoms.get_potential_energy()
    writer = open_trajectory(trajectory) if trajectory is not None else nullcontext(lambda atoms: None)
    with writer as append, progress("Relaxing", steps) as bar:

        def observe(state: "Progress") -> None:
            append(atoms)
            bar.note(f"{state.energy:.4f} eV  {state.largest_force:.4f} eV/Å")
            if state.steps:
                bar.advance()

        end = relax_structure(atoms, optimizer=optimizer, fmax=fmax, steps=steps, cell=cell, observe=observe)
    write_atoms(atoms, output)
    console.out(
        f"{'Converged' if end.converged else 'Not converged'} after {end.steps} steps: largest force "
        f"{end.largest_force:.2g} eV/Å, energy {end.energy:.6f} eV ({end.energy - before:+.6f} eV)"
    )
    console.out(f"Wrote the structure to {output}")
    if not end.converged:
        raise typer.Exit(1)
