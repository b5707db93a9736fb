"""Print the error of CP decompositions of the Clebsch-Gordan tensor against their rank, as a Markdown table.

    python scripts/cp_rank_table.py --l-max 3 -o cp_ranks.json

All paths between all degrees up to L are decomposed. The error is that of the coupling tensor in the Frobenius norm,
relative; the equivariance error is `TensorProduct.equivariance_error`, the largest relative deviation of a batch of
normal operands under random rotations and reflections. Fits are cached: a second run is quick.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from mlip.tensor_products import TensorProduct

# Fractions of 7 L², the rank of tensor decomposition networks; the exact rank comes last. No fits at L = 4, which would
# take many minutes: what is shipped.
FRACTIONS = {1: (4 / 7, 5 / 7, 6 / 7, 1.0), 2: (0.25, 0.5, 0.75, 1.0), 3: (0.25, 0.5, 0.75, 1.0, 1.25), 4: (1.0,)}


@dataclass(frozen=True)
class Row:
    """One decomposition: of all degrees up to l_max, and how well it does."""

    l_max: int
    rank: int
    error: float
    equivariance_error: float
    exact: bool


def rows(l_max: int) -> Iterator[Row]:
    """Decompositions of all degrees up to l_max, 1 to 4, of growing rank."""
    for rank in [*(round(fraction * 7 * l_max**2) for fraction in FRACTIONS[l_max]), "exact"]:
        irreps = "+".join(f"{degree}e" for degree in range(l_max + 1))
        product = TensorProduct(irreps, irreps, irreps, backend="cp", weights="none", rank=rank)
        terms = product.get_buffer("products.0.factor_in1").shape[0]
        yield Row(l_max, terms, product.error, product.equivariance_error(), exact=product.exact)


def markdown(table: list[Row]) -> str:
    """The rows as a Markdown table."""
    lines = ["| L | rank | error | equivariance error | exact |", "|---|---|---|---|---|"]
    for row in table:
        exact = "yes" if row.exact else "no"
        lines.append(f"| {row.l_max} | {row.rank} | {row.error:.1e} | {row.equivariance_error:.1e} | {exact} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Print the table; returns the exit code."""
    parser = argparse.ArgumentParser(description="Print the error of CP decompositions against their rank.")
    parser.add_argument("--l-max", type=int, default=4, choices=sorted(FRACTIONS), help="highest degree of the table")
    parser.add_argument("-o", "--output", type=Path, help="JSON file for the rows")
    chosen = parser.parse_args(arguments)
    table: list[Row] = []
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=sum(len(FRACTIONS[l_max]) + 1 for l_max in range(1, chosen.l_max + 1)))
        for l_max in range(1, chosen.l_max + 1):
            progress.update(task, description=f"L = {l_max}")
            for row in rows(l_max):
                table.append(row)
                progress.advance(task)
    print(markdown(table))
    if chosen.output is not None:
        chosen.output.write_text(json.dumps([asdict(row) for row in table], indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
