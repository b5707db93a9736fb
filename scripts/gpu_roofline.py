"""Estimates what the kernels would take on an H100, from counts of operations and bytes. Nothing here was measured.

    python scripts/gpu_roofline.py > results/gpu_roofline.md

A kernel is given the longest of four times: arithmetic and load instructions issued, loads through the first-level
cache, bytes from the second-level cache, bytes from memory; each at 70 % of what the hardware can do.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from e3nn.o3 import Irreps

from mlip.benchmarks.kernel_cases import grid_points
from mlip.nn.contraction import contraction_table
from mlip.nn.convolution import convolution_table
from mlip.nn.layout import natural_irreps
from mlip_kernels.channelwise_convolution import ConvolutionTable
from mlip_kernels.symmetric_contraction import ContractionTable

# H100 SXM, data sheet: 132 multiprocessors of 128 lanes, 67 TF/s in float32, 3.35 TB/s; an L1 cache line of 128 bytes a
# clock and multiprocessor. The bandwidth of the second-level cache is what microbenchmarks of others report.
MULTIPROCESSORS, FLOPS, MEMORY, SECOND_LEVEL = 132, 67e12, 3.35e12, 5.5e12
CLOCK = FLOPS / (MULTIPROCESSORS * 128 * 2)
ISSUED = MULTIPROCESSORS * 128 * CLOCK
LOADED = MULTIPROCESSORS * 32 * CLOCK
SECOND_LEVEL_SIZE = 50e6
REACHED = 0.7
# Share of the reads of a radial table that a multiprocessor finds in its first-level cache, where it keeps the slice of
# 32 channels of a table of 256 knots: an assumption.
TABLE_HITS = 0.8

CHANNELS, L_MAX, CORRELATION, REAL = 128, 3, 3, 4
COMPONENTS = (L_MAX + 1) ** 2
# The exact grid of Gaunt products of degrees up to 3, and the degrees that weigh their harmonics apart.
POINTS, ROWS = grid_points(L_MAX), L_MAX + 1
EDGES_PER_ATOM = 10_672 / 192
# Of electrostatics: neighbours within 6 Å in water, and functions of each axis.
PAIRS_PER_ATOM, RANK = 90, 32


@dataclass(frozen=True)
class Kernel:
    """What all programs of a kernel do together.

    Attributes:
        name: Shown in the table.
        fused: Multiplications fused with additions, and other arithmetic, one for each lane.
        loads: Loads and stores of each lane.
        cached: Bytes from the second-level cache.
        memory: Bytes from or to memory, every array once.
    """

    name: str
    fused: float
    loads: float
    cached: float
    memory: float

    def limits(self, fits: bool) -> dict[str, float]:
        """Seconds by what limits it; arrays that fit the second-level cache need no memory traffic."""
        return {
            "instructions": (self.fused + self.loads) / ISSUED,
            "loads": self.loads / LOADED,
            "L2": self.cached / SECOND_LEVEL,
            "memory": 0.0 if fits else self.memory / MEMORY,
        }


def numbers(count: float) -> float:
    """Bytes of so many numbers."""
    return REAL * count


def geometry(edges: float) -> Iterator[Kernel]:
    """Harmonics of all edges and the way back; a recursion of 35 terms, a lane an edge."""
    terms = 35
    ends = 8 * edges + numbers(3 * edges)
    yield Kernel("harmonics", edges * (2 * terms + 20), edges * (3 + COMPONENTS), 2 * ends, ends + numbers(16 * edges))
    back = numbers((COMPONENTS + 3 + 3) * edges)
    yield Kernel("harmonics, gradients", edges * (4 * terms + 40), edges * (COMPONENTS + 6), back, back)


def convolution(layer: int, table: ConvolutionTable, atoms: float, edges: float) -> Iterator[Kernel]:
    """Weights from a radial table of four B-splines, then all paths; and all gradients in one pass."""
    couplings = [np.abs(path.coefficients) > 1e-9 for path in table.paths]
    paths = len(couplings)
    inputs = sum(coupling.shape[0] for coupling in couplings)
    pairs = sum(int(coupling.any(1).sum()) for coupling in couplings)
    kept = sum(int(coupling.any(2).sum()) for coupling in couplings)
    terms = sum(int(coupling.sum()) for coupling in couplings)
    sent, output, lanes = table.input_dim, table.output_dim, edges * CHANNELS
    components = sent / CHANNELS
    radial = numbers(4 * paths * lanes) * (1 - TABLE_HITS)
    shared = numbers((COMPONENTS + 2) * edges) * (CHANNELS / 32)
    yield Kernel(
        f"convolution {layer}",
        lanes * (4 * paths + inputs + terms + pairs),
        lanes * (4 * paths + components + COMPONENTS) + atoms * output,
        numbers(edges * sent + atoms * output) + radial + shared,
        numbers(atoms * (sent + output) + (COMPONENTS + 2) * edges),
    )
    shuffles = COMPONENTS
    yield Kernel(
        f"convolution {layer}, gradients",
        lanes * (8 * paths + 3 * inputs + terms + pairs + kept + shuffles) + atoms * CHANNELS * terms,
        lanes * (4 * paths + 2 * components + COMPONENTS) + atoms * output,
        numbers(2 * edges * sent + atoms * output) + radial + shared,
        numbers(atoms * (sent + output) + 2 * edges * sent + 2 * (COMPONENTS + 2) * edges),
    )
    # The gradients of the senders' features, written by edge, are summed in the order of the senders.
    summed = numbers(edges * sent)
    yield Kernel(f"sum over senders {layer}", edges * sent, edges * sent, summed, summed)


def contraction(layer: int, table: ContractionTable, atoms: float) -> Iterator[Kernel]:
    """One coefficient for each monomial and output component that it occurs in, the weights folded in."""
    monomials = {tuple(row) for term in table.terms for row in term.monomials.tolist() if len(row) > 1}
    occurring = [np.abs(term.coefficients).sum(0) > 1e-9 for term in table.terms]
    coefficients = sum(int(each.sum()) for each in occurring)
    outputs, lanes = sum(table.output_components), atoms * CHANNELS
    ends = numbers(lanes * (COMPONENTS + outputs))
    folded = numbers(lanes * coefficients) * (1 - TABLE_HITS)
    forward = coefficients + len(monomials)
    loads = coefficients + COMPONENTS + outputs
    yield Kernel(f"contraction {layer}", lanes * forward, lanes * loads, ends + folded, ends)
    back = ends + numbers(lanes * COMPONENTS)
    loads += COMPONENTS
    yield Kernel(f"contraction {layer}, gradients", 2 * lanes * forward, lanes * loads, back + folded, back)


def linear(layer: int, channels_in: int, atoms: float, forms: int) -> Iterator[Kernel]:
    """A linear map of all components, forward and back: matrix products of a library, without tensor cores."""
    macs = atoms * channels_in * CHANNELS
    ends = numbers(atoms * (channels_in + COMPONENTS * CHANNELS))
    # In tiles of 128 by 128 every number that is loaded takes part in 128 multiplications.
    yield Kernel(f"linear map {layer}, both ways", forms * macs, forms * macs / 128, forms * ends, forms * ends)


def factorised(atoms: float, edges: float) -> Iterator[Kernel]:
    """The product and the convolution on a grid, which other tensor products take."""
    lanes = atoms * CHANNELS
    ends = numbers(3 * lanes * COMPONENTS)
    macs = lanes * POINTS * (3 * COMPONENTS + 1)
    yield Kernel("grid product", macs, macs / 8, ends, ends)
    messages = edges * POINTS * CHANNELS
    filters = numbers(edges * ROWS * (POINTS + CHANNELS))
    values = numbers(atoms * POINTS * CHANNELS)
    tiles = numbers(edges * ROWS * (POINTS * CHANNELS / 32 + CHANNELS * POINTS / 16))
    yield Kernel(
        "grid convolution",
        messages * (ROWS + 1),
        messages * (1 + ROWS / 16 + ROWS / 32),
        numbers(messages) + tiles,
        2 * values + filters,
    )
    yield Kernel(
        "grid convolution, gradients of the edges",
        messages * (1 + 2 * ROWS),
        messages * (2 + ROWS / 8),
        numbers(2 * messages) + 2 * filters,
        2 * values + 2 * filters,
    )


def radial(edges: float, paths: int) -> Iterator[Kernel]:
    """Weights of all paths written for every edge, as training does."""
    columns = paths * CHANNELS
    written = numbers(edges * columns)
    read = 4 * written * (1 - TABLE_HITS)
    yield Kernel("radial table", 4 * edges * columns, 5 * edges * columns, written + read, written)
    yield Kernel("radial table, gradients", 9 * edges * columns, 10 * edges * columns, 2 * written + read, 2 * written)


def electrostatics(atoms: float) -> Iterator[Kernel]:
    """Energies and forces of charges: short range by a list, long range by moments; and instead of both all pairs."""
    pairs, r = PAIRS_PER_ATOM * atoms, RANK
    # A root or a division is counted as ten instructions.
    screening = (30 + 11 + 15) + (20 + 11 + 15)  # of the potential, and of the factor that ends the list
    listed = pairs * (8 + numbers(3))
    yield Kernel("screened sum", pairs * (12 + screening), 8 * pairs, listed + numbers(4 * pairs), listed)
    yield Kernel("screened sum, gradients", pairs * (25 + screening), 9 * pairs, listed + numbers(5 * pairs), listed)
    products, tiles = atoms * r**3, r**2 / 64
    factors, slices = numbers(atoms * (3 * r + 1)), 2 * numbers(16 * r**3)
    # Of tiles of 32 by 64 numbers, whose right side is a product; and of 64 particles by 32, twice.
    cached = numbers(atoms * tiles * (r + 2 * 64)) + slices
    yield Kernel("moments", products * (1 + 1 / r), products * (1 / 8 + 1 / 4), cached, factors + slices)
    cached = 2 * numbers(atoms / 64 * r**3) + 3 * factors
    yield Kernel("moments, gradients", 2 * products * (1 + 3 / r), 2 * products * (1 / 8 + 1 / 4), cached, 3 * factors)


def all_pairs(atoms: float) -> Iterator[Kernel]:
    """Energies and forces by the bare sum, in which four receivers share what is read of a sender."""
    pairs, root = atoms**2, 20
    yield Kernel("bare sum", pairs * (7 + root), pairs, numbers(pairs), numbers(5 * atoms))
    yield Kernel("bare sum, gradients", pairs * (17 + root), 5 / 4 * pairs, numbers(5 / 4 * pairs), numbers(9 * atoms))


def model(atoms: float) -> Iterator[Kernel]:
    """Energy and forces of a MACE of two layers."""
    edges = EDGES_PER_ATOM * atoms
    wanted = {irrep for _, irrep in natural_irreps(1, L_MAX)}
    scalars, vectors = Irreps(f"{CHANNELS}x0e"), Irreps(f"{CHANNELS}x0e+{CHANNELS}x1o")
    yield from geometry(edges)
    for layer, (features, hidden) in enumerate([(scalars, vectors), (vectors, scalars)], 1):
        table, _ = convolution_table(features, L_MAX, wanted)
        yield from convolution(layer, table, atoms, edges)
        yield from linear(layer, table.output_dim, atoms, 2)
        yield from contraction(layer, contraction_table(L_MAX, hidden, CORRELATION), atoms)


def other(atoms: float) -> Iterator[Kernel]:
    """Kernels that this model's forces do not take."""
    edges = EDGES_PER_ATOM * atoms
    yield from radial(edges, 3 * L_MAX + 1)
    yield from factorised(atoms, edges)


def report(title: str, kernels: list[Kernel], atoms: int) -> list[str]:
    """A table of the kernels, and the sum of their times."""
    fits = atoms * 40 * CHANNELS * REAL < SECOND_LEVEL_SIZE
    lines = [
        f"### {title}",
        "",
        "| kernel | Gflop | L2, MB | memory, MB | µs | limit |",
        "|---|---:|---:|---:|---:|---|",
    ]
    total = 0.0
    for kernel in kernels:
        limits = kernel.limits(fits)
        limit = max(limits, key=lambda name: limits[name])
        seconds = limits[limit] / REACHED
        total += seconds
        cells = [f"{2 * kernel.fused / 1e9:.3g}", f"{kernel.cached / 1e6:.3g}", f"{kernel.memory / 1e6:.3g}"]
        lines.append(f"| {kernel.name} | {' | '.join(cells)} | {1e6 * seconds:.3g} | {limit} |")
    return [*lines, f"| sum | | | | {1e6 * total:.3g} | |", ""]


HEAD = """# What the kernels would take on an H100: an estimate

**Nothing here was measured.** No kernel of this package has run on a GPU. These are counts of operations and bytes,
divided by 70 % of what the data sheet of an H100 SXM allows (67 TF/s in float32, 3.35 TB/s, 5.5 TB/s from the
second-level cache), by `python scripts/gpu_roofline.py`, whose formulas say what is counted. The largest of four times
stands in the table, and what it comes from: instructions issued, loads through the first-level cache, bytes from the
second-level cache, bytes from memory. Memory counts only where the widest arrays do not fit the second-level cache.

Assumed, not known: that {hits:.0%} of the reads of radial tables and folded weights hit the first-level cache, that
every multiprocessor is busy, and that launches cost nothing. The last is wrong for small systems: a launch takes a few
microseconds from Python unless CUDA graphs are used, so that 192 atoms would be bound by latency.

What compilation says of the kernels, registers and spills, is measured: `mlip bench kernels --compile-only
sm_80,sm_90,gfx942`.

The model is a MACE of two layers, 128x0e + 128x1o, harmonics up to degree 3, correlation 3, with 55.6 edges an atom.

The kernels of the moments read the values of the basis functions, 96 numbers of a particle at rank 32, where they
multiply 33 000 times for it: to form these values in the same kernels would save a few per cent at most.
"""


def main() -> None:
    """Print the report."""
    print(HEAD.format(hits=TABLE_HITS))
    for atoms in (192, 10_000):
        edges = round(EDGES_PER_ATOM * atoms)
        print(f"## {atoms} atoms, {edges} edges\n")
        print("\n".join(report("Energy and forces", list(model(atoms)), atoms)))
        print("\n".join(report("Other operations, one call each", list(other(atoms)), atoms)))
        title = f"Electrostatics, {PAIRS_PER_ATOM} neighbours, rank {RANK}"
        print("\n".join(report(title, list(electrostatics(atoms)), atoms)))
        print("\n".join(report("Electrostatics by all pairs", list(all_pairs(atoms)), atoms)))


if __name__ == "__main__":
    main()
