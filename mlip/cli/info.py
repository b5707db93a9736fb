"""`mlip info`: what a model is."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlip.cli.console import console
from mlip.cli.options import ModelFile

if TYPE_CHECKING:
    from mlip.models import Potential


def info(model: ModelFile) -> None:
    """Show what a model is: architecture, elements, size, reference energies, what it was trained on."""
    from rich.table import Table
    from rich.text import Text

    from mlip.models import load, read_header

    header = read_header(model)
    potential = load(model)
    table = Table(title=Text(str(model)), show_header=False)
    for name, value in _rows(model, header, potential):
        table.add_row(name, Text(value))  # what a file says is no markup
    console.print(table)


def _rows(path: Path, header: dict[str, Any], model: "Potential") -> list[tuple[str, str]]:
    # As read, so that a file that is older than a key shows its default.
    config = model.config.model_dump(mode="json")
    main = ("architecture", "elements", "hidden_irreps", "cutoff", "reference_energies", "tensor_product")
    details = {name: value for name, value in config.items() if name not in main}
    # The whole training configuration is for programs; it is in the file's header and in the report.
    history = {name: value for name, value in header["provenance"].items() if name != "config"}
    return [
        ("architecture", config["architecture"]),
        ("elements", ", ".join(header["elements"])),
        ("cutoff", f"{config['cutoff']:g} Å"),
        ("hidden irreps", config["hidden_irreps"]),
        *((name.replace("_", " "), _text(value)) for name, value in details.items()),
        *_product_rows(config["tensor_product"]),
        ("reference energies", _text({symbol: f"{e:.6g} eV" for symbol, e in header["reference_energies"].items()})),
        *_parameter_rows(model),
        ("dtype", header["dtype"]),
        ("units", _text(header["units"])),
        *((f"trained: {name.replace('_', ' ')}", _text(value)) for name, value in history.items()),
        ("written by", f"mlip {header['package_version']}"),
        ("file size", f"{path.stat().st_size / 1e6:.2f} MB"),
    ]


def _product_rows(products: dict[str, dict[str, Any]]) -> list[tuple[str, str]]:
    """What the tensor products compute and how, one row each."""
    rows = []
    for name, product in products.items():
        options = [f"{option} {product[option]}" for option in ("rank", "algorithm") if product[option] is not None]
        options += ["trainable factors"] if product["trainable"] else []
        parts = [f"{product['coupling']} by {product['backend']}", f"weights {product['weights']}", *options]
        rows.append((f"product of the {name}", ", ".join(parts)))
    return rows


def _parameter_rows(model: "Potential") -> list[tuple[str, str]]:
    """The number of trainable parameters, and how it is shared out among the parts of the model."""
    modules = dict(model.network.named_children())
    if model.long_range is not None:
        modules["long_range"] = model.long_range
    parts = {
        name.replace("_", " "): sum(parameter.numel() for parameter in part.parameters())
        for name, part in modules.items()
    }
    total = sum(parameter.numel() for parameter in model.parameters())
    return [
        ("parameters", f"{total:,}"),
        *((f"  in {name}", f"{count:,}") for name, count in parts.items() if count),
    ]


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_text(item)}" for key, item in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(_text(item) for item in value) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
