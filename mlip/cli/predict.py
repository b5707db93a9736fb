"""`mlip predict`: energies, forces and stress of any number of structures."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlip.cli.console import console, progress
from mlip.cli.files import refuse_same_file
from mlip.cli.options import Device, Dtype, ModelFile
from mlip.errors import DataError

if TYPE_CHECKING:
    from mlip.data.structures import Structure


def predict(
    model: ModelFile,
    structures: Annotated[Path, typer.Argument(help="Structures: a store, or any file that ASE reads.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Extended XYZ (.xyz, .extxyz) or store (.h5).")],
    stress: Annotated[bool, typer.Option("--stress", help="Predict the stress of periodic structures too.")] = False,
    max_edges: Annotated[int, typer.Option(min=1, help="Edges in a batch; bounds the memory.")] = 20_000,
    device: Device = None,
    dtype: Dtype = "float32",
) -> None:
    """Predict energy, forces and any charges of the structures in a file and write them where ASE finds them."""
    refuse_same_file(structures, output)
    from dataclasses import replace

    from mlip.calculators.evaluation import compile_for, evaluate_structures
    from mlip.calculators.loading import load_for_inference
    from mlip.data.labels import PROPERTIES
    from mlip.data.reading import iterate_structures

    potential = load_for_inference(model, device, dtype)
    count = 0
    with _open_writer(output) as write:
        fastest, stream = compile_for(potential, iterate_structures(structures, None))
        with progress("Predicting") as bar:
            for result in evaluate_structures(fastest, stream, max_edges=max_edges, stress=stress):
                predicted = {name: getattr(result, name) for name in PROPERTIES}
                write(replace(result.structure, **predicted))
                count += 1
                bar.advance()
    console.out(f"Structures written to {output}: {count}")


@contextmanager
def _open_writer(path: Path) -> Iterator[Callable[["Structure"], None]]:
    """A function that appends a structure with its labels; the file appears when all of it is written."""
    from ase.io.extxyz import write_xyz

    from mlip.data.files import written_beside
    from mlip.data.store import StoreWriter, is_store

    if is_store(path):
        with StoreWriter(path) as writer:
            yield writer.add
        return
    if path.suffix not in (".xyz", ".extxyz"):
        raise DataError(f"cannot write predictions to '{path}'; use a name that ends in .xyz, .extxyz, .h5 or .hdf5.")
    with written_beside(path) as partial, partial.open("w") as file:
        yield lambda structure: write_xyz(file, [structure.to_atoms()])
