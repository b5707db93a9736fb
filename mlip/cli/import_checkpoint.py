"""`mlip import`: a model of another package as one of ours."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from mlip.cli.console import console
from mlip.cli.files import refuse_same_file

if TYPE_CHECKING:
    from mlip.models import Potential


class ElementsCommand(TyperCommand):
    """A command whose option `--elements` takes several symbols, as in `--elements H C O`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Repeat the option before each symbol, which is how it is parsed."""
        spread: list[str] = []
        listing = False
        for argument in args:
            listing = listing and bool(re.fullmatch("[A-Z][a-z]?", argument))
            if listing and spread[-1] != "--elements":
                spread.append("--elements")
            spread.append(argument)
            listing = listing or argument == "--elements"
        return super().parse_args(ctx, spread)


def import_checkpoint(
    checkpoint: Annotated[
        Path, typer.Argument(help="Model of mace-torch (.model) or checkpoint of SevenNet (.pth).", show_default=False)
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Model file to write (.mlip).", show_default=False)],
    elements: Annotated[
        list[str] | None,
        typer.Option("--elements", help="Elements to keep, as H C O or H,C,O; all by default.", show_default=False),
    ] = None,
    head: Annotated[
        str | None, typer.Option("--head", help="Which head to keep, of models with several.", show_default=False)
    ] = None,
) -> None:
    """Read a checkpoint of mace-torch or SevenNet, without running anything in it, and write it as a model file."""
    refuse_same_file(checkpoint, output)
    from mlip import interop
    from mlip.models import save

    wanted = [symbol for each in elements or () for symbol in each.replace(",", " ").split()]
    model = interop.import_checkpoint(checkpoint, wanted or None, head)
    save(model, output, {**model.provenance, "checkpoint": checkpoint.name})
    for line in _summary(model):
        console.out(line)
    console.print(f"Model written to {output}", soft_wrap=True)


def _summary(model: "Potential") -> list[str]:
    config = model.config
    shown = model.elements if len(model.elements) <= 12 else [*model.elements[:10], "…", model.elements[-1]]
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return [
        f"From {', '.join(str(value) for value in model.provenance.values())}",
        f"architecture: {config.architecture}, {config.layers} layers, hidden irreps {config.hidden_irreps}",
        f"elements: {len(model.elements)} ({', '.join(shown)})",
        f"parameters: {parameters:,}",
        f"cutoff: {config.cutoff:g} Å",
    ]
