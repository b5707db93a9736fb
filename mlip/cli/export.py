"""`mlip export`: a model for another package."""

from pathlib import Path
from typing import Annotated

import typer

from mlip.cli.console import console
from mlip.cli.files import refuse_same_file
from mlip.cli.options import ModelFile


def export(
    model: ModelFile,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="mace-torch file to write (.model).", show_default=False)
    ],
) -> None:
    """Write a mace model as mace-torch's, where that package is installed."""
    refuse_same_file(model, output)
    from mlip.interop.mace_torch_export import export_mace_torch
    from mlip.models import load

    export_mace_torch(load(model), output)
    console.print(f"Model written to {output}", soft_wrap=True)
