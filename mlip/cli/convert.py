"""`mlip convert`: another backend for a trained model's tensor products."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from mlip.cli.console import console
from mlip.cli.files import refuse_same_file
from mlip.cli.options import ModelFile


def convert(
    model: ModelFile,
    output: Annotated[Path, typer.Option("--output", "-o", help="Model file to write (.mlip).", show_default=False)],
    backend: Annotated[str, typer.Option("--backend", help="Backend of the products, or auto.", show_default=False)],
    part: Annotated[
        Literal["convolution", "contraction"] | None,
        typer.Option("--part", help="Which products; by default all that the backend computes."),
    ] = None,
) -> None:
    """Write a model with the same weights whose tensor products another backend computes: energies stay the same."""
    refuse_same_file(model, output)
    from mlip.models import load, save, with_backend
    from mlip.models.conversion import largest_energy_difference

    original = load(model)
    converted = with_backend(original, backend, [part] if part else [])
    difference = largest_energy_difference(original, converted)
    save(converted, output)
    before, after = original.config.tensor_product, converted.config.tensor_product
    for name in type(after).model_fields:
        old, new = getattr(before, name), getattr(after, name)
        change = f"{old.backend} -> {new.backend}" if old.backend != new.backend else f"{old.backend}, unchanged"
        console.out(f"{name} ({new.coupling}, {new.weights}): {change}")
    console.out(f"Largest difference of an atom's energy in float64, on a random structure: {difference:.1e} eV")
    console.print(f"Model written to {output}", soft_wrap=True)
