"""`mlip eval`: the errors of a model on labelled structures."""

import json
from pathlib import Path
from typing import Annotated

import typer

from mlip.cli.console import console, progress
from mlip.cli.options import Device, Dtype, ModelFile


def evaluate(
    model: ModelFile,
    data: Annotated[Path, typer.Argument(help="Labelled structures: a store, or any file that ASE reads.")],
    keys: Annotated[
        list[str] | None, typer.Option("--key", help="Name of a label in the file, e.g. energy=REF_energy; repeatable.")
    ] = None,
    stress: Annotated[bool, typer.Option("--stress", help="Compare the stress of periodic structures too.")] = False,
    json_path: Annotated[Path | None, typer.Option("--json", help="Also write the table to this JSON file.")] = None,
    max_edges: Annotated[int, typer.Option(min=1, help="Edges in a batch; bounds the memory.")] = 20_000,
    device: Device = None,
    dtype: Dtype = "float32",
) -> None:
    """Print the errors of a model on labelled structures, per property and config_type."""
    from mlip.calculators.evaluation import compile_for, evaluate_structures
    from mlip.calculators.loading import load_for_inference
    from mlip.data.files import written_beside
    from mlip.data.labels import LabelKeys
    from mlip.data.reading import iterate_structures, key_hint
    from mlip.errors import DataError
    from mlip.training.metrics import ErrorTable

    labels = LabelKeys.from_options(keys or [])
    potential = load_for_inference(model, device, dtype)
    fastest, stream = compile_for(potential, iterate_structures(data, labels))
    # Charges that structures bring are no predictions.
    brought = potential.config.long_range is not None and potential.config.long_range.brought
    errors = ErrorTable()
    with progress("Evaluating") as bar:
        for result in evaluate_structures(fastest, stream, max_edges=max_edges, stress=stress):
            charges = None if brought else result.charges
            errors.add(result.structure, result.energy, result.forces, result.stress, charges, result.dipole)
            bar.advance()
    if not errors.rows:
        hint = key_hint(data, "energy", labels)
        raise DataError(f"{data} has no labels to compare with; name them with --key{f' ({hint})' if hint else ''}")
    console.print(errors.render(f"Errors of {model} on {data}"))
    if json_path is not None:
        with written_beside(json_path) as partial:
            partial.write_text(json.dumps(errors.to_dict(), indent=2, ensure_ascii=False) + "\n")
