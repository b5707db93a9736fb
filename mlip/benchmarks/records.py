"""What a benchmark leaves behind: records with the machine they were measured on, as JSON and CSV."""

import csv
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Self

import torch

import mlip
from mlip.benchmarks.roofline import Roofline
from mlip.data.files import written_beside
from mlip.errors import MLIPError
from mlip.training.provenance import commit, machine

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


@dataclass(frozen=True)
class Environment:
    """Where and with what the numbers were measured.

    Attributes:
        device: The processor or GPU, in words.
        threads: Threads that torch uses.
        peak_gflops: 1e9 flops a second of a large matrix product; None where it was not measured.
        copy_gbytes: 1e9 bytes a second of a large copy, read and written; None where it was not measured.
    """

    device: str
    threads: int
    date: str
    mlip_version: str
    commit: str | None
    torch_version: str
    peak_gflops: float | None
    copy_gbytes: float | None

    @classmethod
    def now(cls, device: torch.device, roofline: Roofline | None = None) -> Self:
        """The machine, versions and time of this moment."""
        return cls(
            device=machine(device.type),
            threads=torch.get_num_threads(),
            date=datetime.now(UTC).isoformat(timespec="seconds"),
            mlip_version=mlip.__version__,
            commit=commit(),
            torch_version=torch.__version__,
            peak_gflops=None if roofline is None else roofline.flops / 1e9,
            copy_gbytes=None if roofline is None else roofline.bandwidth / 1e9,
        )


@dataclass(frozen=True)
class Record:
    """A pass of a contender on a problem, measured, or skipped for a reason.

    Attributes:
        contender: Backend with its options.
        measured: What was timed: a pass of a product; "" where the contender was skipped altogether.
        reason: Why it was not measured; "" if it was.
        differs: In what it is not the Clebsch-Gordan product with all paths, or not of the same form.
        exact: Whether it claims to compute its coupling to rounding.
        paths: Number of paths.
        expressivity: Dimension of the family of maps that the weights reach.
        interactions: Number of triples of degrees that can be non-zero.
        error: Deviation from the definition of its coupling, ‖difference‖ / ‖reference‖.
        equivariance_error: Deviation from equivariance, in float64.
        median_ms, p20_ms, p80_ms: Of `rounds` rounds.
        flops, bytes: Counted for a forward product, see `mlip.tensor_products.Work`.
        gflops, gbytes: 1e9 of these a second, reached by the median forward pass.
        roofline_fraction: `gflops` over what the roofline model allows for these flops and bytes.
        peak_memory_mb: Of forward and backward, 1e6 bytes, see `mlip.benchmarks.memory`.
        construction_s: To build the contender, its tables included.
    """

    setting: str
    degree: int
    coupling: str
    weights: str
    mode: str
    channels: int
    batch: int
    dtype: str
    contender: str
    measured: str = ""
    reason: str = ""
    differs: str = ""
    exact: bool | None = None
    paths: int | None = None
    expressivity: int | None = None
    interactions: int | None = None
    error: float | None = None
    equivariance_error: float | None = None
    median_ms: float | None = None
    p20_ms: float | None = None
    p80_ms: float | None = None
    rounds: int | None = None
    flops: int | None = None
    bytes: int | None = None
    gflops: float | None = None
    gbytes: float | None = None
    roofline_fraction: float | None = None
    peak_memory_mb: float | None = None
    construction_s: float | None = None


def write_json(path: Path, environment: Environment, records: "Sequence[DataclassInstance]") -> None:
    """Write everything; an older file stays until the new one is whole."""
    content = {"environment": asdict(environment), "records": [asdict(record) for record in records]}
    with written_beside(path) as partial:
        partial.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def write_csv(path: Path, environment: Environment, records: "Sequence[DataclassInstance]") -> None:
    """Write one line for each record, which repeats the environment so that files can be put together."""
    rows = [asdict(record) | asdict(environment) for record in records]
    with written_beside(path) as partial, partial.open("w", newline="") as file:
        table = csv.DictWriter(file, fieldnames=list(rows[0]))
        table.writeheader()
        table.writerows(rows)


def failure(error: Exception) -> str:
    """Why something was not measured, in one line: our own sentence, or another error with its name."""
    lines = str(error).strip().splitlines()
    if isinstance(error, MLIPError):
        return lines[0]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
