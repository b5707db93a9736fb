"""Make the tables of CP decompositions that ship with the package, in `mlip/tensor_products/cp_tables/`.

    python scripts/make_cp_tables.py            # about a quarter of an hour on one core

`exact.safetensors` holds, for all degrees 1 ≤ l1 ≤ l2 ≤ l3 ≤ 4 that satisfy the triangle inequality, an exact
decomposition of the Clebsch-Gordan tensor of all degrees up to them: "full" of all paths, "even" of those whose degrees
have an even sum. Where its terms cancel much, it is the best of a few in that. `truncated.safetensors` holds, for all
paths between all degrees up to L = 1 … 4, the best fit found of rank 7 L², that of tensor decomposition networks (Lin
et al. 2025, arXiv 2507.01131).

RANKS are the lowest at which some of a few dozen fits from different starts became exact. Every decomposition is made
anew, and the script fails if one that should be exact is not.
"""

import argparse
import sys
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from safetensors.numpy import save

from mlip.tensor_products.cp_fit import CPFactors, fit
from mlip.tensor_products.cp_target import CPTarget

FOLDER = Path(__file__).resolve().parent.parent / "mlip" / "tensor_products" / "cp_tables"
# Lowest known exact ranks (of all paths, of even sums of degrees) by degrees.
RANKS = {
    (1, 1, 1): (8, 6),
    (1, 1, 2): (12, 9),
    (1, 2, 2): (17, 13),
    (1, 2, 3): (23, 17),
    (1, 3, 3): (31, 32),
    (1, 3, 4): (41, 42),
    (1, 4, 4): (50, 52),
    (2, 2, 2): (30, 18),
    (2, 2, 3): (41, 31),
    (2, 2, 4): (53, 37),
    (2, 3, 3): (60, 47),
    (2, 3, 4): (76, 70),
    (2, 4, 4): (102, 100),
    (3, 3, 3): (90, 52),
    (3, 3, 4): (118, 87),
    (3, 4, 4): (158, 115),
    (4, 4, 4): (216, 121),
}
EXACT = 1e-12
STARTS, TRUNCATED_STARTS = 64, 32
# In float32 rounding errors are larger by this factor than where no term cancels another.
MUCH_CANCELLATION = 6.0
CANDIDATES = 4


@dataclass(frozen=True)
class Job:
    """A decomposition to be made: of which tensor, of which rank, under which name in which table."""

    table: str
    name: str
    target: CPTarget
    rank: int


def jobs(highest_degree: int) -> list[Job]:
    """All decompositions of degrees up to the given one, the quick ones first."""
    found = []
    for degrees, ranks in RANKS.items():
        if max(degrees) > highest_degree:
            continue
        for kind, rank in zip(("full", "even"), ranks, strict=True):
            first, second, third = (tuple(range(degree + 1)) for degree in degrees)
            target = CPTarget("clebsch_gordan", (first, second, third), 0, even_only=kind == "even")
            name = "".join(map(str, degrees))
            found.append(Job("exact", f"{kind}.{name}", target, rank))
            l_max = degrees[0]
            if kind == "full" and degrees == (l_max, l_max, l_max) and l_max > 0:
                found.append(Job("truncated", f"{kind}.{l_max}.{7 * l_max**2}", target, 7 * l_max**2))
    return found


def make(job: Job) -> CPFactors:
    """Fit one decomposition; where the terms of an exact one cancel much, the best of a few.

    Raises:
        RuntimeError: it should be exact and is not.
    """
    tensor = job.target.tensor
    if job.table == "truncated":
        return fit(tensor, job.rank, seed=0, restarts=TRUNCATED_STARTS)
    factors = fit(tensor, job.rank, seed=0, restarts=STARTS)
    if factors.error > EXACT:
        raise RuntimeError(f"none of {STARTS} fits of {job.name} at rank {job.rank} is exact")
    if cancellation(factors) <= MUCH_CANCELLATION * np.linalg.norm(tensor):
        return factors
    others = (fit(tensor, job.rank, seed, restarts=1) for seed in range(STARTS))
    exact = islice((each for each in others if each.error <= EXACT), CANDIDATES)
    return min([factors, *exact], key=cancellation)


def cancellation(factors: CPFactors) -> float:
    """Norm of the terms if none cancelled another, to which rounding errors are proportional."""
    norms = [np.linalg.norm(factor, axis=0) for factor in factors.factors]
    return float(np.linalg.norm(norms[0] * norms[1] * norms[2]))


def main(arguments: list[str] | None = None) -> int:
    """Make the tables; returns the exit code."""
    parser = argparse.ArgumentParser(description="Make the CP tables that ship with the package.")
    parser.add_argument("--highest-degree", type=int, default=4, choices=range(1, 5), help="leave out higher degrees")
    parser.add_argument("--output", type=Path, default=FOLDER, help="folder for the tables")
    chosen = parser.parse_args(arguments)
    # One thread, so that the order of summation does not depend on the machine's number of cores.
    torch.set_num_threads(1)
    tables: dict[str, dict[str, np.ndarray]] = {"exact": {}, "truncated": {}}
    console = Console()
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console) as progress:
        todo = jobs(chosen.highest_degree)
        task = progress.add_task("", total=len(todo))
        for job in todo:
            progress.update(task, description=f"{job.table} {job.name}")
            factors = make(job)
            for letter, factor in zip("abc", factors.factors, strict=True):
                tables[job.table][f"{job.name}.{letter}"] = np.ascontiguousarray(factor)
            console.print(
                f"{job.table:9} {job.name:10} rank {factors.rank:3}  error {factors.error:.1e}  "
                f"largest factor {factors.largest:.2f}  cancellation {cancellation(factors):.1f}  seed {factors.seed}",
                highlight=False,
                soft_wrap=True,
            )
            progress.advance(task)
    chosen.output.mkdir(parents=True, exist_ok=True)
    for table, arrays in tables.items():
        (chosen.output / f"{table}.safetensors").write_bytes(save(arrays))
    return 0


if __name__ == "__main__":
    sys.exit(main())
