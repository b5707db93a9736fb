"""Arguments and options that several verbs share."""

from pathlib import Path
from typing import Annotated, Literal

import typer

ModelFile = Annotated[Path, typer.Argument(help="Model file (.mlip).", show_default=False)]
StructureFile = Annotated[
    Path, typer.Argument(help="Structure in any format that ASE reads; of several the last.", show_default=False)
]
Device = Annotated[
    str | None, typer.Option("--device", help="cpu, cuda or cuda:N; by default the GPU if there is one.")
]
Dtype = Annotated[Literal["float32", "float64"], typer.Option("--dtype", help="Precision of the model.")]
