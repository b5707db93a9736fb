"""`mlip data`: import structures into a store, say what a data set holds, split one at random."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlip.cli.console import console, progress
from mlip.errors import ConfigError, DataError

if TYPE_CHECKING:
    from mlip.data.labels import LabelKeys
    from mlip.data.summary import DatasetSummary

app = typer.Typer(
    name="data",
    help="Import labelled structures into a store, inspect a data set, split it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

KeyOptions = Annotated[
    list[str] | None,
    typer.Option("--key", metavar="PROPERTY=NAME", help="Name of a label in the file, such as energy=Energy."),
]
Force = Annotated[bool, typer.Option("--force", help="Replace an output that exists.")]


@app.command("import")
def import_(
    inputs: Annotated[list[Path], typer.Argument(help="Files that ASE reads, or stores.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="Store to write (.h5 or .hdf5).", show_default=False)],
    key: KeyOptions = None,
    append: Annotated[bool, typer.Option("--append", help="Add to a store that exists.")] = False,
    force: Force = False,
) -> None:
    """Read structures with their labels, check them, and write them into one HDF5 store."""
    from mlip.data.labels import LabelKeys
    from mlip.data.reading import iterate_structures
    from mlip.data.store import StoreWriter, StructureStore, is_store
    from mlip.data.summary import DatasetSummary

    keys = LabelKeys.from_options(key or [])
    if not is_store(output):
        raise ConfigError(f"the output {output} is no store; give it a name that ends in .h5 or .hdf5")
    if append and force:
        raise ConfigError("--append keeps the structures in the store and --force replaces them; give one of the two")
    if not append:
        _refuse_existing([output], force, "or --append to add to it")
    summary = DatasetSummary()
    with StoreWriter(output, append=append) as writer, progress("Importing") as bar:
        for path in inputs:
            part = DatasetSummary()
            for structure in summary.watch(part.watch(iterate_structures(path, keys))):
                writer.add(structure)
                bar.advance()
            _check_labels(path, keys, key or [], part)
            writer.add_source(str(path), None if is_store(path) else keys, part.frames)
    _print_summary(f"imported into {output}", summary)
    if append:
        console.out(f"{output} now holds {len(StructureStore(output))} structures")


@app.command()
def info(
    file: Annotated[Path, typer.Argument(help="A store, or a file that ASE reads.", show_default=False)],
    key: KeyOptions = None,
) -> None:
    """Say what a data set holds: structures, elements, labels, ranges, duplicates."""
    from mlip.data.labels import LabelKeys
    from mlip.data.reading import iterate_structures
    from mlip.data.summary import DatasetSummary

    keys = LabelKeys.from_options(key or [])
    summary = DatasetSummary()
    with progress("Reading") as bar:
        for _ in summary.watch(iterate_structures(file, keys)):
            bar.advance()
    _check_labels(file, keys, key or [], summary)
    _print_summary(str(file), summary)


@app.command()
def split(
    file: Annotated[Path, typer.Argument(help="A store, or a file that ASE reads.", show_default=False)],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Start of the names: PREFIX_train, PREFIX_validation, PREFIX_test.")
    ],
    fractions: Annotated[
        tuple[float, float, float], typer.Option(help="Shares of training, validation and test; they add up to 1.")
    ] = (0.8, 0.1, 0.1),
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same split.")] = 0,
    force: Force = False,
) -> None:
    """Split a data set at random into training, validation and test files of its own format."""
    from mlip.data.splitting import split_file, split_names

    names = split_names(file, output, fractions)
    _refuse_existing(names, force, "or another prefix")
    with progress("Splitting") as bar:
        counts = split_file(file, names, fractions, seed, bar.advance)
    for name, count in zip(names, counts, strict=True):
        console.out(f"{name}: {count} structures")


def _refuse_existing(paths: list[Path], force: bool, alternative: str) -> None:
    for path in paths:
        if path.exists() and not force:
            raise ConfigError(f"{path} exists already; give --force to replace it, {alternative}")


def _check_labels(path: Path, keys: "LabelKeys", options: list[str], summary: "DatasetSummary") -> None:
    """Refuse a key that was named and that no frame has; point at a likely key where a usual one is absent."""
    from mlip.data.labels import PROPERTIES
    from mlip.data.reading import key_hint, similar_key

    named = {option.partition("=")[0] for option in options}
    for name in PROPERTIES:
        if summary.labels[name]:
            continue
        if name in named:
            hint = key_hint(path, name, keys) or "leave the key option out"
            raise DataError(f"no frame of {path} has the key '{keys[name]}' for {name}; {hint}")
        if similar_key(path, name, keys) is not None:
            hint = key_hint(path, name, keys)
            typer.echo(f"Note: no frame of {path} has the key '{keys[name]}' for {name}; {hint}.", err=True)


def _print_summary(title: str, summary: "DatasetSummary") -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title), show_header=False, title_justify="left")
    for label, value in _summary_rows(summary):
        table.add_row(label, Text(value))  # as it is: names may hold what rich takes for markup
    console.print(table)


def _summary_rows(summary: "DatasetSummary") -> list[tuple[str, str]]:
    elements = ", ".join(f"{symbol} {count}" for symbol, count in summary.elements.most_common())
    kinds = ", ".join(f"{kind or '(none)'} {count}" for kind, count in summary.config_types.most_common())
    directions = ("none", "one", "two", "all three")
    periodicity = ", ".join(f"{directions[axes]} in {count}" for axes, count in sorted(summary.periodicity.items()))
    rows = [
        ("structures", str(summary.frames)),
        ("atoms", f"{summary.atoms} ({summary.size.low:g} to {summary.size.high:g} in a structure)"),
        (f"{len(summary.elements)} elements, atoms of each", elements),
        ("periodic directions", periodicity),
        ("kinds of configuration", kinds),
        ("duplicates", str(summary.duplicates)),
        ("total charges", ", ".join(f"{charge:g} e in {n}" for charge, n in sorted(summary.total_charges.items()))),
    ]
    ranges = {
        "energy": ("{0.low:.6g} to {0.high:.6g} eV/atom", summary.energy),
        "forces": ("norm {0.low:.4g} to {0.high:.4g} eV/Å", summary.force),
        "stress": ("components {0.low:.4g} to {0.high:.4g} eV/Å³", summary.stress),
        "charges": ("{0.low:.4g} to {0.high:.4g} e", summary.charge),
        "dipole": ("components {0.low:.4g} to {0.high:.4g} e Å", summary.dipole),
    }
    for name, count in summary.labels.items():
        text, extent = ranges[name]
        rows.append((f"{name} labels", f"{count}, {text.format(extent)}" if count else "none"))
    return rows
