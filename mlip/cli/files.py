"""Structure files of the verbs: reading one structure, writing one, writing a trajectory."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mlip.data.files import written_beside
from mlip.errors import DataError, FileMissingError

if TYPE_CHECKING:
    from ase import Atoms


def read_atoms(path: Path) -> "Atoms":
    """The structure in a file that ASE reads, the last one if there are several, with its velocities and constraints.

    Raises:
        FileMissingError, DataError: there is no such file, or it cannot be read.
        StructureError: no calculation makes sense for the structure.
    """
    import ase.io

    from mlip.data.structures import Structure

    if not path.is_file():
        raise FileMissingError(f"structure file '{path}' does not exist; check the path.")
    try:
        atoms = ase.io.read(path)
    except Exception as error:  # ASE's readers raise whatever they stumble over.
        raise DataError(
            f"structure file '{path}' cannot be read ({_reason(error)}); use a format that ASE knows."
        ) from error
    Structure.from_atoms(atoms, where=str(path)).validate(str(path))
    # Charges that a model takes are no results of a calculator, though ASE's readers move them into one; nor may an
    # array of the name stand beside the model's own when the atoms are written.
    charges = atoms.arrays.pop("charges", None)
    if charges is None and atoms.calc is not None:
        charges = atoms.calc.results.get("charges")
    if charges is not None:
        atoms.set_initial_charges(charges)
    atoms.calc = None
    return atoms


def _reason(error: Exception) -> str:
    """An error of another package as part of one line."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def write_atoms(atoms: "Atoms", path: Path) -> None:
    """Write a structure in the format that the file's name tells ASE; an older file stays until the new one is whole.

    Raises:
        DataError: the name tells no format that ASE can write.
    """
    import ase.io
    from ase.io.formats import UnknownFileTypeError, filetype, ioformats

    try:
        file_format = "extxyz" if path.suffix == ".xyz" else filetype(str(path), read=False)
    except UnknownFileTypeError:
        file_format = ""
    if file_format not in ioformats or not ioformats[file_format].can_write:
        raise DataError(f"cannot tell from its name how to write '{path}'; use for example a name that ends in .xyz.")
    with written_beside(path) as partial:
        try:
            ase.io.write(partial, atoms, format=file_format)
        except OSError:
            raise
        except Exception as error:  # Some formats need a cell, others know no cell.
            raise DataError(
                f"cannot write '{path}' as {file_format} ({error}); use a name that ends in .xyz."
            ) from error


@contextmanager
def open_trajectory(path: Path) -> Iterator[Callable[["Atoms"], None]]:
    """A function that appends a structure with its energy and forces to a `.xyz`, `.extxyz` or `.traj` file.

    The file is made with the first frame, so that a run that fails at its start leaves an older one alone. Every frame
    reaches the disk at once, so that a run can be watched and an interrupted one is kept.
    """
    check_trajectory_format(path)
    write: Callable[[Atoms], None] | None = None
    with ExitStack() as resources:

        def append(atoms: "Atoms") -> None:
            nonlocal write
            if write is None:
                write = _create_trajectory(path, resources)
            write(atoms)

        yield append


def _create_trajectory(path: Path, resources: ExitStack) -> Callable[["Atoms"], None]:
    from ase.io.extxyz import write_xyz
    from ase.io.trajectory import TrajectoryWriter

    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".traj":
        trajectory = resources.enter_context(TrajectoryWriter(path))
        return lambda atoms: trajectory.write(atoms)
    file = resources.enter_context(path.open("w", buffering=1))
    return lambda atoms: write_xyz(file, [atoms])


def check_trajectory_format(path: Path) -> None:
    """Raise DataError for a trajectory that cannot be written frame by frame."""
    if path.suffix not in (".xyz", ".extxyz", ".traj"):
        raise DataError(f"cannot write a trajectory to '{path}'; use a name that ends in .xyz, .extxyz or .traj")


def refuse_same_file(source: Path, target: Path) -> None:
    """Raise DataError if writing `target` would destroy `source`."""
    if target.exists() and source.exists() and target.samefile(source):
        raise DataError(f"the output '{target}' is the input itself; choose another name")
