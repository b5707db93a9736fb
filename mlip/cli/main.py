"""The command `mlip`: registers the verbs and turns a user's mistake into one sentence and an exit code.

Verb modules import torch, ASE and Lightning inside their functions only, so that `mlip --help` answers at once.
"""

import errno
import warnings
from typing import Annotated, Any, TextIO

import typer
from typer.core import TyperGroup

from mlip._version import __version__
from mlip.cli.bench import app as bench
from mlip.cli.convert import convert
from mlip.cli.data import app as data
from mlip.cli.electrostatics import app as electrostatics
from mlip.cli.evaluate import evaluate
from mlip.cli.export import export
from mlip.cli.import_checkpoint import ElementsCommand, import_checkpoint
from mlip.cli.info import info
from mlip.cli.md import md
from mlip.cli.predict import predict
from mlip.cli.quickstart import quickstart
from mlip.cli.relax import relax
from mlip.cli.train import train
from mlip.errors import MLIPError

# What the operating system refuses for a reason that the user can mend, as opposed to a defect of ours.
_USER_ERRNOS = {
    errno.EACCES,
    errno.EDQUOT,
    errno.EEXIST,
    errno.EFBIG,
    errno.EISDIR,
    errno.ENOENT,
    errno.ENOSPC,
    errno.ENOTDIR,
    errno.EPERM,
    errno.EROFS,
}


class _Application(TyperGroup):
    """A command group in which errors of the user end with `Error: sentence` on stderr and exit code 2."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Accept `--debug` anywhere on the line, since it is added at the end of a command that has just failed."""
        rest = [argument for argument in args if argument != "--debug"]
        return super().parse_args(ctx, ["--debug", *rest] if len(rest) < len(args) else rest)

    def invoke(self, ctx: Any) -> Any:
        """Run the verb; with `--debug` errors pass through with their traceback."""
        if ctx.params.get("debug"):
            return super().invoke(ctx)
        try:
            return super().invoke(ctx)
        except MLIPError as error:
            _fail(str(error))
        except KeyboardInterrupt:
            typer.echo("Interrupted.", err=True)
            raise typer.Exit(130) from None
        except OSError as error:
            if error.errno not in _USER_ERRNOS:
                raise
            where = f"'{error.filename}': " if error.filename else ""
            _fail(f"{where}{error.strerror}; make room or choose another path and run the command again.")


def _fail(sentence: str) -> None:
    typer.echo(f"Error: {sentence}", err=True)
    raise typer.Exit(2)


app = typer.Typer(
    cls=_Application,
    name="mlip",
    help="Machine-learned interatomic potentials: train them, test them, run them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mlip {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the full traceback of an error.")] = False,
) -> None:
    pass


app.add_typer(data)
app.add_typer(bench)
app.add_typer(electrostatics)
app.command()(train)
app.command("eval")(evaluate)
app.command("import", cls=ElementsCommand)(import_checkpoint)
for _verb in (predict, info, convert, export, md, relax, quickstart):
    app.command()(_verb)


def main() -> None:
    """Entry point of the console script."""
    warnings.showwarning = _show_warning
    app()


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """One line, without the code that warns."""
    typer.echo(f"Warning: {message}", err=True)
