"""`mlip electrostatics`: how the Coulomb energy of a structure would be computed."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mlip.cli.console import console
from mlip.errors import ConfigError

if TYPE_CHECKING:
    from mlip.electrostatics import Plan

app = typer.Typer(
    name="electrostatics",
    help="Plan the electrostatics of a structure.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

_GIB = 2**30


@app.callback()
def _group() -> None:
    pass


@app.command("plan")
def plan(
    structure: Annotated[
        Path | None, typer.Argument(help="Structure that ASE reads, instead of --charges, --box and --pbc.")
    ] = None,
    charges: Annotated[int | None, typer.Option(help="Number of charges.")] = None,
    box: Annotated[str | None, typer.Option(help="Lengths in Å, as 20,20,40, or nine numbers: cell vectors.")] = None,
    pbc: Annotated[
        str | None, typer.Option(help="Periodic directions: of a, b, c, or none.", show_default="none")
    ] = None,
    tolerance: Annotated[float, typer.Option(help="Relative error of forces.")] = 1e-6,
    cutoff: Annotated[float | None, typer.Option(help="Of the short-range part, Å; by default the cheapest.")] = None,
    method: Annotated[
        Literal["auto", "direct", "ewald", "chebyshev_tucker"], typer.Option(help="How to compute.")
    ] = "auto",
    memory: Annotated[float, typer.Option(help="GiB that may be used.")] = 4.0,
) -> None:
    """Show method, parameters, error, memory and time of the electrostatics of a structure."""
    from mlip.electrostatics import CoulombSolver

    solver = CoulombSolver(tolerance, cutoff, method, memory * _GIB)
    if structure is not None:
        if charges is not None or box is not None or pbc is not None:
            raise ConfigError(
                "a structure has its own charges, box and periodic directions; give the structure, or --charges, --box "
                "and --pbc."
            )
        _show(solver.plan(*_size_of(structure)))
        return
    if charges is None:
        raise ConfigError("there is nothing to plan for; give a structure, or --charges and --box.")
    _show(solver.plan(None if box is None else _cell(box), _periodicity(pbc or "none"), charges))


def _size_of(path: Path) -> tuple[list[list[float]], list[bool], int]:
    """Cell, periodic directions and number of charges of a structure; along open directions the cell is its extent."""
    import numpy as np
    from ase.geometry import complete_cell

    from mlip.cli.files import read_atoms

    atoms = read_atoms(path)
    periodic = np.array(atoms.pbc)
    # Vectors of open directions become of unit length and perpendicular to the others.
    cell = np.array(complete_cell(np.where(periodic[:, None], atoms.cell.array, 0.0)))
    extents = np.maximum(np.ptp(atoms.positions @ np.linalg.inv(cell), axis=0), 1.0)
    cell[~periodic] *= extents[~periodic, None]
    return cell.tolist(), periodic.tolist(), len(atoms)


def _cell(text: str) -> list[list[float]]:
    try:
        numbers = [float(part) for part in text.replace(",", " ").split()]
    except ValueError:
        numbers = []
    if not all(map(math.isfinite, numbers)):
        raise ConfigError(f"the box '{text}' holds what is no number; write it as 20,20,40.")
    if len(numbers) == 3:
        if min(numbers) <= 0.0:
            raise ConfigError(f"the box '{text}' has a length that is not positive; give lengths in Å, as 20,20,40.")
        return [[length if row == column else 0.0 for column in range(3)] for row, length in enumerate(numbers)]
    if len(numbers) == 9:
        return [numbers[0:3], numbers[3:6], numbers[6:9]]
    raise ConfigError(f"the box '{text}' is not three lengths or nine numbers; write it as 20,20,40.")


def _periodicity(text: str) -> list[bool]:
    letters = "" if text == "none" else text.replace(",", "")
    if not set(letters) <= set("abc"):
        raise ConfigError(f"the periodic directions are '{text}'; name some of a, b, c, such as ab, or none.")
    return [letter in letters for letter in "abc"]


def _show(plan: "Plan") -> None:
    from rich.table import Table

    table = Table(title="Electrostatics", show_header=False)
    for name, value in _rows(plan):
        table.add_row(name, value)
    console.print(table)


def _rows(plan: "Plan") -> list[tuple[str, str]]:
    periodic = ", ".join(name for name, flag in zip("abc", plan.pbc, strict=True) if flag) or "none"
    rows = [
        ("method", plan.method),
        ("reason", plan.reason),
        ("charges", f"{plan.charges:,}"),
        ("periodic directions", periodic),
    ]
    if plan.cutoff is not None and plan.alpha is not None:
        rows += [("cutoff", f"{plan.cutoff:g} Å"), ("range separation", f"{plan.alpha:.4f} 1/Å")]
        rows += [("degrees", " × ".join(map(str, plan.degrees)))]
    if plan.method == "chebyshev_tucker":
        rows += [("ranks", " × ".join(map(str, plan.ranks)))]
        rows += [("Gaussians", str(plan.nodes) if plan.nodes else "none, the kernel is diagonal")]
    return [
        *rows,
        ("error of forces", f"{plan.predicted_error:.0e}"),
        ("memory", f"{plan.memory_bytes / 2**20:.3g} MiB"),
        ("operations", f"{plan.flops:.3g}"),
        ("time, one thread", f"{plan.seconds * 1e3:.3g} ms"),
    ]
