"""`mlip train`: from labelled structures to a model."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from mlip.cli.console import console


def train(
    config: Annotated[Path, typer.Argument(help="Configuration (YAML).", show_default=False)],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="key=value pairs that go before the file, e.g. epochs=50.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in the output folder.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run in the output folder.")] = False,
) -> None:
    """Train a model; several processes by `torchrun --nproc-per-node N -m mlip train ...`."""
    if resume and overwrite:
        raise typer.BadParameter("--resume and --overwrite exclude each other")
    from mlip.training.config import load_config

    settings = load_config(config, overrides or [])
    # Lightning takes seconds to import, which a mistake in the configuration need not wait for.
    from mlip.training.run import Interrupted
    from mlip.training.run import train as run_training

    try:
        run_training(settings, resume=resume, overwrite=overwrite, console=console)
    except Interrupted as interruption:
        if interruption.checkpoint is None:
            console.print("Interrupted before anything could be saved.")
        else:
            command = shlex.join(["mlip", "train", str(config), *(overrides or []), "--resume"])
            message = f"Interrupted; the state is saved in {interruption.checkpoint}. Go on with:\n  {command}"
            console.print(message, soft_wrap=True)
        raise typer.Exit(130) from None
