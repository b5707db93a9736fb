"""The operations as a model on water calls them, with the work that each call is.

`CASES` is the registry: a function that makes the cases of one operation for a `KernelProblem`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from mlip.benchmarks.compiled_kernels import harmonics_table
from mlip.benchmarks.kernels import KernelCase, Work, passes
from mlip.nn.contraction import contraction_table
from mlip.nn.convolution import convolution_table
from mlip.nn.layout import canonical_irreps, natural_irreps
from mlip.so3.grids import sphere_grid
from mlip_kernels import (
    channelwise_convolution,
    coulomb_pairs,
    factorised_convolution,
    factorised_product,
    radial_table,
    separable_moments,
    spherical_harmonics,
    symmetric_contraction,
)
from mlip_kernels.channelwise_convolution.cpu_plan import ConvolutionPlan
from mlip_kernels.edges import EdgeTopology
from mlip_kernels.radial_table import KnotGrid, spline_coefficients
from mlip_kernels.symmetric_contraction.cpu_plan import ContractionPlan

_CUTOFF, _INTERVALS = 5.0, 256
# Of electrostatics: inverse length of the screening, 1/Å, and functions of each axis.
_SCREENING, _RANK = coulomb_pairs.Screening(alpha=0.6, cutoff=2.0, width=0.1), 24


@dataclass(frozen=True)
class KernelProblem:
    """Sizes of the operands.

    Attributes:
        atoms: Number of atoms.
        neighbours: Edges to each of them; in water at a cutoff of 5 Å 55 or 56.
        channels: Of the features.
        l_max: Highest degree of harmonics and features.
        dtype: Of all numbers.
    """

    atoms: int
    neighbours: int
    channels: int
    l_max: int
    dtype: torch.dtype

    def __str__(self) -> str:
        real = str(self.dtype).removeprefix("torch.")
        return f"{self.atoms} atoms, {self.edges} edges, {self.channels} channels, degrees up to {self.l_max}, {real}."

    @property
    def edges(self) -> int:
        """Number of edges."""
        return self.atoms * self.neighbours

    @property
    def components(self) -> int:
        """Of harmonics of all degrees."""
        return (self.l_max + 1) ** 2

    @cached_property
    def topology(self) -> EdgeTopology:
        """Edges from random senders."""
        receivers = torch.arange(self.atoms).repeat_interleave(self.neighbours)
        return EdgeTopology(torch.randint(self.atoms, (self.edges,), generator=_generator(0)), receivers, self.atoms)

    def normal(self, seed: int, *shape: int) -> Tensor:
        """Normally distributed numbers."""
        return torch.randn(shape, generator=_generator(seed), dtype=torch.float64).to(self.dtype)

    def bytes(self, *numbers: int) -> int:
        """Of so many numbers altogether."""
        return sum(numbers) * self.dtype.itemsize


def harmonics_cases(problem: KernelProblem) -> Iterator[KernelCase]:
    """Harmonics of all edges and the gradients of the vectors."""
    table = harmonics_table(problem.l_max)
    terms, edges, components = len(table.terms[1]), problem.edges, problem.components
    yield from passes(
        "spherical_harmonics",
        spherical_harmonics.IMPLEMENTATIONS["reference"](table).to(problem.dtype),
        spherical_harmonics.IMPLEMENTATIONS["kernel"](table),
        [problem.normal(1, edges, 3)],
        # Three operations a term; the normalisation, of some ten, is left out.
        Work(3 * terms * edges, problem.bytes(3 * edges, components * edges)),
        Work(6 * terms * edges, problem.bytes(2 * 3 * edges, components * edges)),
    )


def radial_table_cases(problem: KernelProblem) -> Iterator[KernelCase]:
    """Weights of all paths and channels from a table, and its solution."""
    grid = KnotGrid.covering(_CUTOFF, _INTERVALS)
    columns = (3 * problem.l_max + 1) * problem.channels
    edges, table = problem.edges, grid.knots * columns
    coefficients = problem.normal(1, grid.knots, columns)
    distances = _CUTOFF * torch.rand(edges, generator=_generator(2), dtype=torch.float64).to(problem.dtype)
    yield from passes(
        "radial_table",
        radial_table.IMPLEMENTATIONS["reference"](grid),
        radial_table.IMPLEMENTATIONS["kernel"](grid),
        [coefficients, distances],
        Work(7 * edges * columns, problem.bytes(table, edges, edges * columns)),
        # The transpose and the derivative with respect to the distance each read the gradient once.
        Work(17 * edges * columns, problem.bytes(2 * table, 2 * edges, 2 * edges * columns)),
    )
    yield KernelCase(
        "radial_table",
        "solution",
        lambda: lambda: radial_table.reference.spline_coefficients(coefficients),
        lambda: lambda: spline_coefficients(coefficients),
        Work(5 * table, problem.bytes(2 * table)),
    )


def factorised_product_cases(problem: KernelProblem) -> Iterator[KernelCase]:
    """Products of all atoms' features with themselves on a grid that is exact for them."""
    components, rows, channels = problem.components, problem.atoms, problem.channels
    points = grid_points(problem.l_max)
    tables = [problem.normal(seed, points, components) for seed in range(3)]
    implementations = factorised_product.IMPLEMENTATIONS
    reference, kernel = implementations["reference"](), implementations["kernel"]()
    operand = rows * components * channels
    flops = points * rows * channels * (6 * components + 1)
    yield from passes(
        "factorised_product",
        lambda x, y: reference(x, y, *tables),
        lambda x, y: kernel(x, y, *tables),
        [problem.normal(3, rows, components, channels), problem.normal(4, rows, components, channels)],
        Work(flops, problem.bytes(3 * operand, 3 * points * components)),
        Work(2 * flops, problem.bytes(6 * operand, 6 * points * components)),
    )


def factorised_convolution_cases(problem: KernelProblem) -> Iterator[KernelCase]:
    """Convolutions on such a grid with a weight for each degree of the harmonics; the reference is the streamed one."""
    points, rows, edges, channels = grid_points(problem.l_max), problem.l_max + 1, problem.edges, problem.channels
    values, messages = problem.atoms * points * channels, edges * points * channels
    filters, weights = edges * rows * points, edges * rows * channels
    implementations = factorised_convolution.IMPLEMENTATIONS
    reference, kernel = implementations["streamed"](), implementations["kernel"]()
    yield from passes(
        "factorised_convolution",
        lambda *operands: reference(*operands, problem.topology),
        lambda *operands: kernel(*operands, problem.topology),
        [
            problem.normal(1, problem.atoms, points, channels),
            problem.normal(2, edges, rows, points),
            problem.normal(3, edges, rows, channels),
        ],
        Work((2 * rows + 2) * messages, problem.bytes(2 * values, filters, weights)),
        Work((6 * rows + 3) * messages, problem.bytes(3 * values, 3 * filters, 3 * weights)),
    )


def channelwise_convolution_cases(problem: KernelProblem) -> Iterator[KernelCase]:
    """Convolutions of scalars and vectors with a weight per path and channel."""
    channels, edges = problem.channels, problem.edges
    irreps = canonical_irreps(f"{channels}x0e+{channels}x1o")
    targets = {irrep for _, irrep in natural_irreps(1, problem.l_max)}
    table, _ = convolution_table(irreps, problem.l_max, targets)
    implementations = channelwise_convolution.IMPLEMENTATIONS
    reference, kernel = implementations["reference"](table).to(problem.dtype), implementations["kernel"](table)
    plan = ConvolutionPlan(table, lanes=1, registers=32)
    inputs = sum(path.coefficients.shape[0] for path in table.paths)
    filters = sum(len(of_path) for of_path in plan.filters)
    couplings = sum(len({(i, j) for i, j, _, _ in entries}) for entries in plan.entries)
    atoms = problem.atoms * (table.input_dim + table.output_dim)
    given = edges * (table.weight_dim + table.harmonics_dim)
    yield from passes(
        "channelwise_convolution",
        lambda *operands: reference(*operands, problem.topology),
        lambda *operands: kernel(*operands, problem.topology),
        [
            problem.normal(1, problem.atoms, table.input_dim),
            problem.normal(2, edges, table.harmonics_dim),
            problem.normal(3, edges, table.weight_dim),
        ],
        Work((inputs + 2 * filters) * edges * channels, problem.bytes(atoms, given)),
        Work((5 * inputs + 4 * couplings) * edges * channels, problem.bytes(2 * atoms, 2 * given)),
    )


def symmetric_contraction_cases(problem: KernelProblem) -> Iterator[KernelCase]:
    """Products of up to three factors that give scalars and vectors, with weights for three elements."""
    channels, elements = problem.channels, 3
    table = contraction_table(problem.l_max, canonical_irreps("0e+1o"), correlation=3)
    plan = ContractionPlan(table)
    kinds = torch.arange(problem.atoms) % elements
    implementations = symmetric_contraction.IMPLEMENTATIONS
    reference, kernel = (implementations[name](table).to(problem.dtype) for name in ("monomials", "kernel"))
    rows, inner = len(plan.rows), sum(len(factors) for factors in plan.children.values())
    atoms = problem.atoms * channels * (problem.components + plan.num_outputs)
    coefficients = elements * rows * channels
    yield from passes(
        "symmetric_contraction",
        lambda features, weights: reference(features, weights, kinds),
        lambda features, weights: kernel(features, weights, kinds),
        [
            problem.normal(1, problem.atoms, problem.components, channels),
            problem.normal(2, elements, table.num_weights, channels),
        ],
        Work(2 * rows * problem.atoms * channels, problem.bytes(atoms, coefficients)),
        Work((4 * rows + 5 * inner) * problem.atoms * channels, problem.bytes(2 * atoms, 2 * coefficients)),
    )


def coulomb_cases(problem: KernelProblem) -> Iterator[KernelCase]:
    """Screened potentials of charges over the list, and bare ones over all pairs."""
    atoms = problem.atoms
    senders, offsets, starts = _two_way_list(problem)
    edges, structure = len(senders), torch.tensor([0, atoms])
    positions, charges = problem.normal(1, atoms, 3), problem.normal(2, atoms, 1)
    # About, for two complementary error functions by polynomials of degree 22 or 11.
    screening = 235 if problem.dtype == torch.float64 else 145
    numbers, read = 4 * atoms, 3 * edges
    indices = 8 * edges
    listed = passes(
        "coulomb_pairs",
        lambda positions, offsets, charges: coulomb_pairs.reference.potential(
            positions, offsets, charges, senders, starts, _SCREENING
        ),
        lambda positions, offsets, charges: coulomb_pairs.screened_potential(
            positions, offsets, charges, _SCREENING, senders, starts
        ),
        [positions, offsets, charges],
        Work(screening * edges, indices + problem.bytes(numbers, read, atoms)),
        Work((screening + 25) * edges, indices + problem.bytes(2 * numbers, 2 * read, atoms)),
    )
    everything = passes(
        "coulomb_pairs",
        lambda positions, charges: coulomb_pairs.reference.potential(positions, None, charges, None, structure, ()),
        lambda positions, charges: coulomb_pairs.direct_potential(positions, charges, structure),
        [positions, charges],
        Work(20 * atoms**2, problem.bytes(numbers, atoms)),
        Work(33 * atoms**2, problem.bytes(2 * numbers, atoms)),
    )
    for name, cases in (("list", listed), ("all pairs", everything)):
        for case in cases:
            yield replace(case, measured=f"{name}, {case.measured}")


def separable_moments_cases(problem: KernelProblem) -> Iterator[KernelCase]:
    """Moments of all atoms in products of three bases of equal rank; the reference is chunked matrix products."""
    atoms, structure = problem.atoms, torch.tensor([0, problem.atoms])
    products, numbers = atoms * _RANK**3, problem.bytes(atoms * (3 * _RANK + 1))
    yield from passes(
        "separable_moments",
        lambda charges, x, y, z: separable_moments.reference.moments(charges, x, y, z, structure),
        lambda charges, x, y, z: separable_moments.separable_moments(charges, x, y, z, structure),
        [problem.normal(1, atoms, 1), *(problem.normal(seed, atoms, _RANK) for seed in (2, 3, 4))],
        Work(2 * products, numbers + problem.bytes(_RANK**3)),
        Work(4 * products, 2 * numbers + problem.bytes(_RANK**3)),
    )


def grid_points(l_max: int) -> int:
    """Nodes of the smallest grid that is exact for products of three functions of degrees up to l_max."""
    grid = sphere_grid(3 * l_max)
    return grid.theta_count * grid.phi_count


# What `mlip bench kernels` measures, in this order.
CASES: list[Callable[[KernelProblem], Iterator[KernelCase]]] = [
    harmonics_cases,
    radial_table_cases,
    channelwise_convolution_cases,
    symmetric_contraction_cases,
    factorised_product_cases,
    factorised_convolution_cases,
    coulomb_cases,
    separable_moments_cases,
]


def all_cases(problem: KernelProblem) -> Iterator[KernelCase]:
    """The cases of all operations, each made when it is asked for."""
    for make in CASES:
        yield from make(problem)


def _two_way_list(problem: KernelProblem) -> tuple[Tensor, Tensor, Tensor]:
    """Senders, offsets and starts of a list in which every pair has its reverse: atoms on a ring, random offsets."""
    atoms, steps = torch.arange(problem.atoms)[:, None], torch.arange(1, 1 + -(-problem.neighbours // 2))
    ahead, behind = (atoms + steps) % problem.atoms, (atoms - steps) % problem.atoms
    offsets = problem.normal(3, *ahead.shape, 3)
    reverse = -offsets[behind, steps - 1]
    starts = 2 * len(steps) * torch.arange(problem.atoms + 1)
    return torch.cat([ahead, behind], 1).flatten(), torch.cat([offsets, reverse], 1).flatten(0, 1), starts


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
