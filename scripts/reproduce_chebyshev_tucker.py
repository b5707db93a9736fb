"""Reproduces the figures of the paper on the Chebyshev-Tucker format (Benner et al. 2025, arXiv 2503.01696).

    python scripts/reproduce_chebyshev_tucker.py DATA_FOLDER -o OUT

DATA_FOLDER holds the authors' canonical tensors (`n256_Pn500.mat`, `Lattice_n960_….mat`, `Newt_canon_….mat`). Tables
are printed as Markdown, plots are written to the folder OUT. One thread, some two minutes.

Errors are the largest absolute ones against the canonical tensor: on the middle slice z = const, as in the paper, and
on all slices, of which at most 129, evenly spread, are looked at.
"""

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from rich.console import Console
from rich.progress import track
from scipy.io import loadmat

from mlip.benchmarks.figure_style import PALETTE, STYLE
from mlip.data.files import written_beside
from mlip.electrostatics.format import ChebyshevTucker
from mlip.electrostatics.format.tucker import alternating_least_squares, left_singular

DEGREES = (17, 33, 49, 65, 97, 129, 193, 257)
PAPER_DEGREES = (33, 65, 129, 257)
TOLERANCES = tuple(10.0**-power for power in range(2, 10))
NEWTON_SIZES = (256, 512, 1024, 2048)
CHARGE_COUNTS = (62, 125, 250, 500, 1000, 2000, 4000, 8000)
DENSITY, ALPHA = 0.1, 0.4  # charges per Å³, and the range separation in 1/Å of the random charges
REPEATS = 5


@dataclass(frozen=True)
class Canonical:
    """Σ_k w_k u_k(x) v_k(y) w_k(z) on a grid of cell centres of [−1, 1]³."""

    name: str
    weights: torch.Tensor
    vectors: list[torch.Tensor]

    @property
    def size(self) -> int:
        return len(self.vectors[0])

    @property
    def grid(self) -> torch.Tensor:
        return -1 + (1 + 2 * torch.arange(self.size, dtype=torch.float64)) / self.size

    @property
    def middle(self) -> int:
        return self.size // 2 - 1

    @property
    def memory_bytes(self) -> int:
        return 8 * len(self.weights) * (3 * self.size + 1)

    def slab(self, place: int) -> torch.Tensor:
        """The values at one z, `[n, n]`."""
        x, y, z = self.vectors
        return (x * (self.weights * z[place])) @ y.mT

    def field(self, degree: int, tolerance: float = 1e-7) -> ChebyshevTucker:
        return ChebyshevTucker.from_canonical(self.weights, self.vectors, [self.grid] * 3, degree, tolerance)


def read_biomolecule(folder: Path) -> Canonical:
    """Long-range part of 500 charges of a biomolecule, reduced by the authors to 743 terms, n = 256."""
    data = loadmat(folder / "n256_Pn500.mat", squeeze_me=True, struct_as_record=False)
    reduced, step = data["LRed"], float(data["Hunif"])
    vectors = [torch.from_numpy(np.array(values)) for values in (reduced.CU1, reduced.CU2, reduced.CU3)]
    return Canonical("biomolecule", torch.from_numpy(reduced.LAM1C / step**3), vectors)


def read_lattice(folder: Path) -> Canonical:
    """Long-range part of 24 × 24 × 4 charges and 23 × 23 × 4 opposite ones between them, n = 960.

    25 vectors for either sign, sharpest last; the first 14 are the long-range part.
    """
    file = "Lattice_n960_ParticlesNumber_2304_Rank_50.mat"
    data = loadmat(folder / file, squeeze_me=True, struct_as_record=False)
    both, lattice = data["Ldip"], data["Lat"]
    chosen = [*range(14), *range(25, 39)]
    scales = (lattice.x[-1] / 2, lattice.y[-1] / 2, lattice.z[-1])
    vectors = [
        torch.from_numpy(values[:, chosen] * scale)
        for values, scale in zip((both.Ut1, both.Ut2, both.Ut3), scales, strict=True)
    ]
    return Canonical("lattice", torch.tensor([1.0] * 14 + [-1.0] * 14, dtype=torch.float64), vectors)


def read_newton(folder: Path, size: int) -> Canonical:
    """Long-range part of 1/r: of R terms, sharpest last, the first ⌈R/2⌉ − 3."""
    vectors = torch.from_numpy(loadmat(folder / f"Newt_canon_{size}.mat")["U1r"] * size / 2)
    long_range = vectors[:, : (vectors.shape[1] + 1) // 2 - 3]
    return Canonical(f"1/r, n = {size}", torch.ones(long_range.shape[1], dtype=torch.float64), [long_range] * 3)


def largest_errors(tensor: Canonical, fields: Sequence[ChebyshevTucker]) -> list[tuple[float, float]]:
    """Of every field, on the middle slice and on all that are looked at."""
    places = sorted({*range(0, tensor.size, max(1, tensor.size // 128)), tensor.middle})
    middle, overall = np.zeros(len(fields)), np.zeros(len(fields))
    for start in track(range(0, len(places), 16), description=f"Errors, {tensor.name}", console=Console(stderr=True)):
        chosen = places[start : start + 16]
        values = [field.on_grid(tensor.grid, tensor.grid, tensor.grid[chosen]) for field in fields]
        for index, place in enumerate(chosen):
            exact = tensor.slab(place)
            errors = np.array([float((value[:, :, index] - exact).abs().max()) for value in values])
            overall = np.maximum(overall, errors)
            if place == tensor.middle:
                middle = errors
    return list(zip(middle.tolist(), overall.tolist(), strict=True))


def median_seconds(build: Callable[[], object], repeats: int = REPEATS) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        build()
        times.append(time.perf_counter() - start)
    return sorted(times)[repeats // 2]


def print_table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    print(f"{title}\n")
    for line in (head, ["---"] * len(head), *rows):
        print("| " + " | ".join(line) + " |")
    print(flush=True)


def ranks_of(field: ChebyshevTucker) -> str:
    return ", ".join(map(str, field.ranks))


@dataclass(frozen=True)
class Curve:
    """Errors on all slices, memory and building times of fields, against degree or mean rank."""

    x: list[float]
    errors: list[float]
    megabytes: list[float]
    seconds: list[float]


def against_degree(tensors: Sequence[Canonical], tolerance: float) -> dict[str, Curve]:
    """Tables of the paper's degrees, and what is drawn of all."""
    curves = {}
    for tensor in tensors:
        fields = [tensor.field(degree, tolerance) for degree in DEGREES]
        times = [median_seconds(partial(tensor.field, degree, tolerance)) for degree in DEGREES]
        errors = largest_errors(tensor, fields)
        curves[tensor.name] = Curve(
            [float(degree) for degree in DEGREES],
            [overall for _, overall in errors],
            [field.memory_bytes / 1e6 for field in fields],
            times,
        )
        rows = [
            [
                str(degree),
                ranks_of(field),
                f"{middle:.2e}",
                f"{overall:.2e}",
                f"{seconds:.3f}",
                f"{field.memory_bytes / 1e3:.0f}",
            ]
            for degree, field, (middle, overall), seconds in zip(DEGREES, fields, errors, times, strict=True)
            if degree in PAPER_DEGREES
        ]
        title = (
            f"### {tensor.name}, tolerance {tolerance:.0e}: {len(tensor.weights)} terms, n = {tensor.size}, "
            f"canonical tensor {tensor.memory_bytes / 1e6:.1f} MB, full tensor {8 * tensor.size**3 / 1e6:.0f} MB"
        )
        head = ["degree", "ranks", "error, middle slice", "error, all slices", "build, s", "memory, kB"]
        print_table(title, head, rows)
    return curves


def print_newton(folder: Path) -> None:
    rows = []
    for size in NEWTON_SIZES:
        tensor = read_newton(folder, size)
        cells = [str(size), str(len(tensor.weights))]
        fields = [tensor.field(129, tolerance) for tolerance in (1e-7, 1e-9)]
        for field, (middle, overall) in zip(fields, largest_errors(tensor, fields), strict=True):
            cells += [ranks_of(field), f"{middle:.1e}", f"{overall:.1e}"]
        rows.append([*cells, f"{median_seconds(partial(tensor.field, 129)):.3f}"])
    head = ["n", "terms"]
    for tolerance in ("1e-7", "1e-9"):
        head += [f"ranks at {tolerance}", "middle slice", "all slices"]
    print_table("### Long-range part of 1/r, degree 129", [*head, "build, s"], rows)


def against_rank(tensors: Sequence[Canonical]) -> dict[str, Curve]:
    """Error against rank (tolerance), and what alternating least squares gain over truncation at the same ranks."""
    curves, rows = {}, []
    for tensor in tensors:
        fields = [tensor.field(257, tolerance) for tolerance in TOLERANCES]
        errors = [overall for _, overall in largest_errors(tensor, fields)]
        curves[tensor.name] = Curve(
            [float(np.mean(field.ranks)) for field in fields],
            errors,
            [field.memory_bytes / 1e6 for field in fields],
            [median_seconds(partial(tensor.field, 257, tolerance)) for tolerance in TOLERANCES],
        )
        whole = tensor.field(257, 1e-12).tensor.core
        for axis in range(3):
            vectors, _ = left_singular(whole.movedim(axis, 0).flatten(1))
            whole = torch.tensordot(vectors, whole, dims=([0], [axis])).movedim(0, axis)
        for tolerance, field, error in zip(TOLERANCES, fields, errors, strict=True):
            truncated = whole.clone()
            a, b, c = field.ranks
            truncated[:a, :b, :c] = 0
            refined = alternating_least_squares(whole, field.ranks)[2]
            norm = float(whole.norm())
            cells = [f"{float(truncated.norm()) / norm:.3e}", f"{refined / norm:.3e}", f"{error:.1e}"]
            rows.append([tensor.name, f"{tolerance:.0e}", ranks_of(field), *cells])
    head = ["", "tolerance", "ranks", "truncated", "least squares", "largest error, all slices"]
    print_table("### Tolerance and ranks, degree 257 (relative errors of the coefficients in the norm)", head, rows)
    return curves


def random_charges(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(count)
    positions = torch.rand(count, 3, dtype=torch.float64, generator=generator) * (count / DENSITY) ** (1 / 3)
    charges = torch.randn(count, dtype=torch.float64, generator=generator)
    return positions, charges - charges.mean()


def against_count() -> list[tuple[int, ChebyshevTucker, float]]:
    results, rows = [], []
    for count in track(CHARGE_COUNTS, description="Random charges", console=Console(stderr=True)):
        positions, charges = random_charges(count)
        build = partial(ChebyshevTucker.from_charges, positions, charges, alpha=ALPHA, degree=None, tolerance=1e-7)
        field, seconds = build(), median_seconds(build, 3)
        results.append((count, field, seconds))
        scale = float(field(positions).abs().max())
        cells = [f"{field.error_estimate / scale:.1e}", f"{seconds:.2f}", f"{field.memory_bytes / 1e3:.0f}"]
        rows.append([str(count), str(field.degrees[0]), ranks_of(field), *cells])
    title = f"### Random charges, {DENSITY} per Å³, α = {ALPHA} 1/Å, tolerance 1e-7, degree chosen"
    print_table(title, ["N", "degree", "ranks", "error / largest potential", "build, s", "memory, kB"], rows)
    return results


def singular_values(tensor: Canonical) -> Iterator[np.ndarray]:
    """Of the unfolded Chebyshev coefficients of degree 257 along each axis, relative to the largest."""
    core = tensor.field(257, 2e-14).tensor.core
    for axis in range(3):
        _, values = left_singular(core.movedim(axis, 0).flatten(1))
        yield (values / values[0]).numpy()


def save(figure: Figure, path: Path) -> None:
    with written_beside(path) as unfinished:
        figure.savefig(unfinished, dpi=110, format="png", bbox_inches="tight")
    print(f"{path}", flush=True)


def draw_errors(
    degrees: dict[str, Curve], ranks: dict[str, Curve], counts: list[tuple[int, ChebyshevTucker, float]]
) -> Figure:
    """Above errors, or ranks against N; below memory and time: against degree, rank and N."""
    figure = Figure(figsize=(12, 6.5), layout="constrained")
    panels = figure.subplots(2, 3)
    for column, (label, curves) in enumerate((("degree", degrees), ("mean rank", ranks))):
        for (name, curve), colour, marker in zip(curves.items(), PALETTE, "osD^", strict=False):
            panels[0, column].semilogy(curve.x, curve.errors, marker + "-", color=colour, label=name)
            panels[1, column].semilogy(curve.x, curve.megabytes, marker + "-", color=colour, label=f"{name}, MB")
            panels[1, column].semilogy(curve.x, curve.seconds, marker + "--", color=colour, label=f"{name}, s")
        panels[0, column].set(xlabel=label, title=f"Largest error against {label}")
        panels[1, column].set(xlabel=label, title=f"Memory and building time against {label}")
        panels[1, column].margins(y=0.35)  # room for the legend
    numbers = [count for count, _, _ in counts]
    rank = [float(np.mean(field.ranks)) for _, field, _ in counts]
    panels[0, 2].semilogx(numbers, [field.degrees[0] for _, field, _ in counts], "s-", color=PALETTE[1], label="degree")
    panels[0, 2].semilogx(numbers, rank, "o-", color=PALETTE[0], label="mean rank")
    panels[0, 2].set(xlabel="random charges N", title="Degree and rank against N at 1e-7", ylim=(0, None))
    memory = [field.memory_bytes / 1e6 for _, field, _ in counts]
    panels[1, 2].loglog(numbers, memory, "o-", color=PALETTE[0], label="memory, MB")
    panels[1, 2].loglog(numbers, [seconds for _, _, seconds in counts], "s--", color=PALETTE[1], label="building, s")
    panels[1, 2].loglog(numbers, memory[0] * np.array(numbers) / numbers[0], "k:", linewidth=1, label="∝ N")
    panels[1, 2].set(xlabel="random charges N", title="Memory and building time against N")
    for axes in panels.flat:
        axes.legend(fontsize=8, ncols=2 if len(axes.lines) > 3 else 1)
    return figure


def draw_singular_values(tensors: Sequence[Canonical]) -> Figure:
    figure = Figure(figsize=(4 * len(tensors), 3.4), layout="constrained")
    for axes, tensor in zip(figure.subplots(1, len(tensors), sharey=True), tensors, strict=True):
        # Hollow marks, each smaller than the one before, since axes may have the same values.
        for index, values in enumerate(singular_values(tensor)):
            style: Any = {"color": PALETTE[index], "markersize": 7 - 2 * index, "fillstyle": "none"}
            axes.semilogy(np.arange(1, len(values) + 1), values, "osD"[index], label="xyz"[index], **style)
        axes.set(title=tensor.name, xlabel="index", ylim=(1e-15, 3))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(title="axis")
    figure.axes[0].set_ylabel("singular value, relative")
    return figure


def draw_slices(tensors: Sequence[Canonical]) -> Figure:
    """The middle slice: original, the field of degree 129, and its error."""
    figure = Figure(figsize=(11, 3.1 * len(tensors)), layout="constrained")
    for row, tensor in zip(figure.subplots(len(tensors), 3, squeeze=False), tensors, strict=True):
        exact = tensor.slab(tensor.middle)
        value = tensor.field(129).on_grid(tensor.grid, tensor.grid, tensor.grid[[tensor.middle]])[:, :, 0]
        lowest, highest, colours = float(exact.min()), float(exact.max()), "cividis"
        if lowest < 0 < highest:
            lowest, highest, colours = -highest, highest, "RdBu_r"
        error = (value - exact).abs().clamp(min=1e-16).log10()
        least = float(np.quantile(error.numpy(), 0.02))
        pictures: list[tuple[str, torch.Tensor, str, float, float]] = [
            (f"{tensor.name}: potential", exact, colours, lowest, highest),
            ("Chebyshev-Tucker, degree 129", value, colours, lowest, highest),
            ("log₁₀ of the absolute error", error, "magma", least, float(error.max())),
        ]
        for axes, (title, values, scale, low, high) in zip(row, pictures, strict=True):
            image = axes.imshow(values.mT, origin="lower", extent=(-1, 1, -1, 1), cmap=scale, vmin=low, vmax=high)
            axes.set(title=title, xlabel="x", ylabel="y")
            axes.grid(False)
            figure.colorbar(image, ax=axes, shrink=0.85)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path, help="folder of the authors' .mat files")
    parser.add_argument("-o", "--out", type=Path, default=Path("results/chebyshev_tucker"), help="folder for the plots")
    arguments = parser.parse_args()
    if not (arguments.data / "n256_Pn500.mat").is_file():
        parser.error(f"there is no n256_Pn500.mat in {arguments.data}: give the folder of the authors' data")
    torch.set_num_threads(1)
    biomolecule, lattice = read_biomolecule(arguments.data), read_lattice(arguments.data)
    newton = read_newton(arguments.data, 1024)
    degrees = against_degree([biomolecule, lattice], 1e-7)
    against_degree([lattice], 1e-9)
    print_newton(arguments.data)
    ranks = against_rank([biomolecule, lattice])
    counts = against_count()
    mpl.use("Agg")
    with mpl.rc_context(STYLE):
        save(draw_errors(degrees, ranks, counts), arguments.out / "errors.png")
        save(draw_singular_values([biomolecule, lattice, newton]), arguments.out / "singular_values.png")
        save(draw_slices([biomolecule, lattice]), arguments.out / "slices.png")


if __name__ == "__main__":
    main()
