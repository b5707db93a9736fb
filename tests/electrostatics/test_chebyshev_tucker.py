"""Chebyshev-Tucker fields against direct sums, exact polynomials, finite differences and autograd."""

import math

import numpy as np
import pytest
import torch
from ase import units
from scipy.special import erf

from mlip.electrostatics.format import ChebyshevTucker
from mlip.errors import ConfigError, MLIPError, StructureError

BALL = torch.tensor([0.63, 0.73, 0.27], dtype=torch.float64)
COULOMB = units.Hartree * units.Bohr


def cloud(count: int, length: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    charges = generator.normal(size=count)
    return generator.uniform(0, length, (count, 3)), charges - charges.mean()


def direct_sum(points: np.ndarray, positions: np.ndarray, charges: np.ndarray, alpha: float) -> np.ndarray:
    distances = np.linalg.norm(points[:, None] - positions, axis=2)
    return COULOMB * (erf(alpha * distances) / distances) @ charges


def inside(field: ChebyshevTucker, count: int, seed: int = 9) -> torch.Tensor:
    lower, upper = field.box
    uniform = torch.rand(count, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return lower + uniform * (upper - lower)


def waves(points: torch.Tensor) -> torch.Tensor:
    x, y, z = points.unbind(dim=-1)
    return torch.sin(2 * x + y) * torch.exp(0.5 * z) + torch.cos(x * z)


@pytest.fixture(scope="module")
def field() -> ChebyshevTucker:
    return ChebyshevTucker.from_function(waves, [[-1, -2, 0], [2, 1, 1.5]], tolerance=1e-11)


@pytest.mark.parametrize("tolerance", [1e-4, 1e-7, 1e-10])
@pytest.mark.parametrize(("count", "alpha"), [(1, 0.5), (60, 0.3), (300, 0.6)])
def test_potential_of_charges_is_the_direct_sum(count: int, alpha: float, tolerance: float) -> None:
    positions, charges = cloud(count, 12.0) if count > 1 else (np.array([[1.0, 2.0, 3.0]]), np.array([1.5]))
    field = ChebyshevTucker.from_charges(positions, charges, alpha=alpha, degree=None, tolerance=tolerance)
    points = inside(field, 500)
    exact = direct_sum(points.numpy(), positions, charges, alpha)
    error = np.abs(field(points).numpy() - exact).max()
    assert error < 20 * tolerance * np.abs(exact).max()
    assert error / 6 < field.error_estimate < 6 * error


def test_default_degree_and_box_of_charges() -> None:
    positions, charges = cloud(500, 17.0)
    field = ChebyshevTucker.from_charges(positions, charges, alpha=0.4)
    assert field.degrees == (129, 129, 129)
    np.testing.assert_allclose(field.box, [positions.min(0) - 3, positions.max(0) + 3], rtol=0, atol=1e-12)
    exact = direct_sum(positions + 1e-3, positions, charges, 0.4)
    np.testing.assert_allclose(field(torch.tensor(positions + 1e-3)), exact, rtol=0, atol=1e-6 * np.abs(exact).max())
    parts = sum(degree * rank for degree, rank in zip(field.degrees, field.ranks, strict=True))
    assert field.memory_bytes == 8 * (math.prod(field.ranks) + parts) < 500_000


def test_each_axis_may_have_a_degree_of_its_own() -> None:
    positions, charges = cloud(400, 9.0)
    field = ChebyshevTucker.from_charges(positions, charges, alpha=0.5, degree=(41, 43, 45), tolerance=1e-9)
    assert field.degrees == (41, 43, 45)
    points = inside(field, 300)
    exact = direct_sum(points.numpy(), positions, charges, 0.5)
    np.testing.assert_allclose(field(points), exact, rtol=0, atol=1e-7 * np.abs(exact).max())


def test_charges_of_a_crystal_cancel_without_loss() -> None:
    """Rock salt: the field is a thousandth of the fields of its ions, and is still as accurate as asked."""
    lattice = np.stack(np.meshgrid(*[np.arange(6)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    positions, charges = 2.8 * lattice, (-1.0) ** lattice.sum(axis=1)
    field = ChebyshevTucker.from_charges(positions, charges, alpha=0.5, degree=None, tolerance=1e-7)
    points = inside(field, 300)
    exact = direct_sum(points.numpy(), positions, charges, 0.5)
    assert np.abs(exact).max() < 3 < COULOMB * np.abs(charges).sum() / 100
    np.testing.assert_allclose(field(points), exact, rtol=0, atol=1e-5)
    assert max(field.ranks) <= 10


def test_charges_that_nearly_coincide_leave_the_accurate_field_of_dipoles() -> None:
    """Opposite charges 1e-5 Å apart: what is left of them is 1e-5 of their fields."""
    positions, _ = cloud(100, 6.0)
    pairs = np.concatenate([positions, positions + 1e-5])
    charges = np.repeat([1.0, -1.0], 100)
    field = ChebyshevTucker.from_charges(pairs, charges, alpha=0.3, degree=29, tolerance=1e-7)
    points = inside(field, 300)
    exact = direct_sum(points.numpy(), pairs, charges, 0.3)
    np.testing.assert_allclose(field(points), exact, rtol=0, atol=2e-6 * np.abs(exact).max())


def test_the_field_at_a_charge_and_its_gradient_are_those_of_a_gaussian() -> None:
    field = ChebyshevTucker.from_charges([[0.0, 0.0, 0.0]], [2.0], alpha=0.7, degree=None, tolerance=1e-10)
    centre = torch.zeros(1, 3, dtype=torch.float64)
    assert float(field(centre)) == pytest.approx(2 * COULOMB * 2 * 0.7 / math.sqrt(math.pi), rel=1e-8)
    np.testing.assert_allclose(field.gradient(centre), np.zeros((1, 3)), rtol=0, atol=1e-6)
    place = torch.tensor([[1.0, -2.0, 0.5]], dtype=torch.float64)
    r = float(place.norm())
    slope = 2 * COULOMB * (2 * 0.7 / math.sqrt(math.pi) * math.exp(-((0.7 * r) ** 2)) / r - math.erf(0.7 * r) / r**2)
    np.testing.assert_allclose(field.gradient(place), slope * place / r, rtol=0, atol=1e-6)


def test_a_polynomial_is_exact_and_of_its_ranks() -> None:
    def polynomial(points: torch.Tensor) -> torch.Tensor:
        x, y, z = points.unbind(dim=-1)
        return x**3 * y - 2 * y**2 * z**4 + 5

    field = ChebyshevTucker.from_function(polynomial, [[-1, 0, -2], [2, 3, 1]], tolerance=1e-13)
    assert field.degrees == (4, 3, 5)
    assert field.ranks == (2, 3, 2)
    points = inside(field, 200)
    np.testing.assert_allclose(field(points), polynomial(points), rtol=0, atol=1e-10)
    x, y, z = points.unbind(dim=-1)
    slopes = torch.stack([3 * x**2 * y, x**3 - 4 * y * z**4, -8 * y**2 * z**3], dim=1)
    np.testing.assert_allclose(field.gradient(points), slopes, rtol=0, atol=1e-9)


@pytest.mark.parametrize("tolerance", [1e-4, 1e-8, 1e-12])
def test_functions_are_resolved_by_degrees_of_their_own_along_each_axis(tolerance: float) -> None:
    def function(points: torch.Tensor) -> torch.Tensor:
        x, y, z = points.unbind(dim=-1)
        return torch.sin(9 * x) / (2 + y) + 0 * z

    field = ChebyshevTucker.from_function(function, [[-1, -1, -1], [1, 1, 1]], tolerance=tolerance)
    assert field.degrees[2] == 1 < field.degrees[1] < field.degrees[0]
    assert field.ranks == (1, 1, 1)
    points = inside(field, 300)
    assert (field(points) - function(points)).abs().max() < 10 * tolerance


def test_more_nodes_where_the_lines_looked_at_miss_a_feature() -> None:
    """A narrow Gaussian between the lines: its error at the sampled points asks for more nodes."""
    centre = torch.tensor([0.31, -0.22, 0.17], dtype=torch.float64)

    def function(points: torch.Tensor) -> torch.Tensor:
        return torch.exp(-40 * (points - centre).square().sum(dim=-1)) + 0.1 * points[..., 0]

    field = ChebyshevTucker.from_function(function, [[-1, -1, -1], [1, 1, 1]], tolerance=1e-6)
    points = centre + 0.1 * torch.randn(200, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    assert (field(points) - function(points)).abs().max() < 2e-5


def test_gradient_is_the_difference_of_values_and_what_autograd_gives(field: ChebyshevTucker) -> None:
    points = inside(field, 50) * 0.98 + 0.01
    step = 1e-4
    for axis in range(3):
        shift = torch.zeros(3, dtype=torch.float64)
        shift[axis] = step
        nearest = (field(points + shift) - field(points - shift)) / (2 * step)
        wide = (field(points + 2 * shift) - field(points - 2 * shift)) / (4 * step)
        np.testing.assert_allclose(field.gradient(points)[:, axis], (4 * nearest - wide) / 3, rtol=0, atol=1e-9)
    tracked = points.requires_grad_()
    by_autograd = torch.autograd.grad(field(tracked).sum(), tracked)[0]
    np.testing.assert_allclose(field.gradient(points).detach(), by_autograd, rtol=0, atol=1e-11)


def test_second_derivatives(field: ChebyshevTucker) -> None:
    points = inside(field, 4).requires_grad_()
    assert torch.autograd.gradcheck(field, points)
    assert torch.autograd.gradgradcheck(field, points)
    assert torch.autograd.gradcheck(field.gradient, points)


def test_chunks_change_nothing_and_are_differentiated_twice(
    field: ChebyshevTucker, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = inside(field, 300).requires_grad_()

    def derivatives() -> list[torch.Tensor]:
        values = field(points)
        first = torch.autograd.grad((values**2).sum(), points, create_graph=True)[0]
        return [values, first, torch.autograd.grad(first.square().sum(), points)[0], field.gradient(points)]

    whole = derivatives()
    monkeypatch.setattr("mlip.electrostatics.format.evaluation._CHUNK_BYTES", 1)  # 64 points a chunk
    for parts, expected in zip(derivatives(), whole, strict=True):
        np.testing.assert_allclose(parts.detach(), expected.detach(), rtol=1e-12, atol=1e-12)


def test_shapes_and_dtypes_of_points(field: ChebyshevTucker) -> None:
    points = inside(field, 24)
    assert torch.equal(field(points.reshape(2, 3, 4, 3)).flatten(), field(points))
    assert field.gradient(points.reshape(4, 6, 3)).shape == (4, 6, 3)
    assert field(points[0]).shape == ()
    assert field(points[:0]).shape == (0,)
    assert field.gradient(points[:0]).shape == (0, 3)
    single = field(points.float())
    assert single.dtype == field.gradient(points.float()).dtype == torch.float32
    np.testing.assert_allclose(single, field(points), rtol=1e-5, atol=1e-5)


def test_values_on_a_grid(field: ChebyshevTucker) -> None:
    axes = [
        torch.linspace(float(a), float(b), count, dtype=torch.float64)
        for a, b, count in zip(*field.box, (5, 1, 7), strict=True)
    ]
    points = torch.cartesian_prod(*axes)
    np.testing.assert_allclose(field.on_grid(*axes).flatten(), field(points), rtol=0, atol=1e-13)
    with pytest.raises(StructureError, match="outside the box"):
        field.on_grid(axes[0], axes[1] + 9, axes[2])


@pytest.mark.parametrize("outside", [[2.001, 0.0, 1.0], [0.0, -2.1, 1.0], [0.0, 0.0, math.nan], [0.0, 0.0, math.inf]])
def test_points_outside_the_box_are_refused(field: ChebyshevTucker, outside: list[float]) -> None:
    points = torch.cat([inside(field, 3), torch.tensor([outside], dtype=torch.float64)])
    for evaluate in (field, field.gradient):
        with pytest.raises(StructureError, match=r"Point 3 at .* is outside the box"):
            evaluate(points)
    assert field(field.box).isfinite().all()  # the corners belong to it


def test_algebra(field: ChebyshevTucker) -> None:
    other = ChebyshevTucker.from_function(lambda points: points[:, 0] * points[:, 1] ** 2, field.box, tolerance=1e-12)
    points = inside(field, 100)
    values, others = field(points), other(points)
    np.testing.assert_allclose((field + other)(points), values + others, rtol=0, atol=1e-12)
    np.testing.assert_allclose((2 * field - other * 0.5)(points), 2 * values - others / 2, rtol=0, atol=1e-12)
    np.testing.assert_allclose((-field)(points), -values, rtol=0, atol=0)
    assert (field + field).ranks == field.ranks
    assert (field + other).error_estimate == field.error_estimate + other.error_estimate
    assert (-3 * field).error_estimate == 3 * field.error_estimate
    difference = field - field
    assert float(difference(points).abs().max()) < 1e-13
    with pytest.raises(ConfigError, match="different boxes"):
        field + ChebyshevTucker.from_function(waves, [[0, 0, 0], [1, 1, 1]])
    with pytest.raises(TypeError):
        field + 1.0  # type: ignore[operator]


def test_rounding_lowers_ranks_within_its_tolerance(field: ChebyshevTucker) -> None:
    rounded = field.round(1e-4)
    # Along y the field is sin, cos and 1, of which none can be left out.
    assert rounded.ranks[0] < field.ranks[0]
    assert rounded.ranks[1] == field.ranks[1] == 3
    assert rounded.ranks[2] < field.ranks[2]
    points = inside(field, 300)
    error = float((rounded(points) - field(points)).abs().max())
    assert error < 1e-3 * float(field(points).abs().max())
    assert error / 4 < rounded.error_estimate < 4 * error
    first = field.singular_values[0]
    assert (first.diff() < 0).all()
    assert float(first.norm()) == pytest.approx(field.tensor.norm, rel=1e-12)


def test_canonical_vectors_on_a_grid_of_their_own_along_each_axis() -> None:
    generator = torch.Generator().manual_seed(2)
    grids = [torch.linspace(-2, 2, 120), torch.linspace(0, 3, 100) ** 1.2, torch.linspace(5, 6, 80)]
    grids = [grid.double() for grid in grids]
    rates = torch.rand(3, 30, dtype=torch.float64, generator=generator) * 2
    weights = torch.randn(30, dtype=torch.float64, generator=generator)
    vectors = [torch.cos(rate * grid[:, None]) for rate, grid in zip(rates, grids, strict=True)]
    field = ChebyshevTucker.from_canonical(weights, vectors, grids, degree=None, tolerance=1e-6)
    np.testing.assert_allclose(field.box, [[-2, 0, 5], [2, 3**1.2, 6]], rtol=1e-6)
    points = inside(field, 300)
    exact = torch.cos(rates[:, None] * points.T[:, :, None]).prod(dim=0) @ weights
    assert float((field(points) - exact).abs().max()) < 3e-5 * float(exact.abs().max())
    assert max(field.ranks) <= 6 < min(field.degrees)
    assert max(field.degrees) < 20


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"charges": [1.0, -1.0, 2.0]}, r"\[2, 3\] and charges of shape \[3\] do not fit"),
        ({"positions": [[0.0, 0.0]], "charges": [1.0]}, "do not fit"),
        ({"positions": np.zeros((0, 3)), "charges": []}, "do not fit"),
        ({"positions": [[0.0, 0.0, 0.0], [1.0, math.nan, 0.0]]}, "position of charge 1 is .*nan"),
        ({"charges": [math.inf, 1.0]}, "charge of charge 0 is .*inf"),
        ({"positions": "water"}, "positions are no array of numbers but str"),
        ({"alpha": 0.0}, "alpha is 0.0"),
        ({"alpha": math.nan}, "alpha is nan"),
        ({"tolerance": 0.5}, "tolerance is 0.5"),
        ({"tolerance": math.nan}, "tolerance is nan"),
        ({"degree": 0}, "degree is one or three whole numbers from 1 to 4097, not 0"),
        ({"degree": 12.5}, "not 12.5"),
        ({"degree": [9, 9]}, r"not \[9, 9\]"),
        ({"box": [[0, 0, 0], [1, 1, 1]]}, "Point 1 at .* outside the box"),
        ({"box": [[0, 0, 0], [0, 1, 1]]}, "lower first"),
        ({"box": [1, 2, 3]}, "lower and an upper corner"),
        ({"box": "large"}, "lower and an upper corner"),
        ({"alpha": 1e4, "degree": None}, "too large for alpha"),
    ],
)
def test_bad_charges_and_arguments_are_refused(changes: dict[str, object], message: str) -> None:
    arguments = {"positions": [[0.0, 0.0, 0.0], [1.0, 2.0, 3.0]], "charges": [1.0, -1.0], "alpha": 0.5, "degree": 17}
    with pytest.raises(MLIPError, match=message):
        ChebyshevTucker.from_charges(**(arguments | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda points: points, r"has to return a tensor \[\d+\], not \(\d+, 3\)"),
        (lambda points: 1.0, "not float"),
        (lambda points: 1 / (points[:, 0] - 0.5), r"not finite at \[0.5"),
        (lambda points: (points[:, 1] - 0.3).abs(), "along axis 1 do not resolve"),
        # A kink round a small ball, which no line looked at meets.
        (lambda points: torch.relu(0.01 - (points - BALL).square().sum(dim=1)) + points[:, 0], "the error is still"),
        (lambda points: torch.sin(900 * points[:, 0] * points[:, 1] * points[:, 2] ** 2), "do not resolve|GiB"),
    ],
)
def test_bad_functions_are_refused(function: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ChebyshevTucker.from_function(function, [[0, 0, 0], [1, 1, 1]], tolerance=1e-8)  # type: ignore[arg-type]


def test_too_large_an_interpolation_is_refused_with_its_memory() -> None:
    with pytest.raises(ConfigError, match=r"takes 7.5 GiB, more than 2"):
        ChebyshevTucker.from_function(waves, [[0, 0, 0], [1, 1, 1]], degree=1001)


@pytest.mark.parametrize(
    ("weights", "vectors", "grids", "message"),
    [
        ([1.0], [np.ones((5, 1))] * 2, [np.arange(5)] * 3, "three axes, not 2, 3"),
        ([1.0, 2.0], [np.ones((5, 1))] * 3, [np.arange(5)] * 3, r"vectors \[5, 1\] .* of axis x do not fit"),
        ([1.0], [np.ones((3, 1))] * 3, [np.arange(3)] * 3, "n at least 4"),
        ([1.0], [np.ones((5, 1))] * 3, [np.arange(5)] * 2 + [-np.arange(5)], "axis z does not ascend"),
        ([math.nan], [np.ones((5, 1))] * 3, [np.arange(5)] * 3, "finite numbers"),
        ([], [np.ones((5, 0))] * 3, [np.arange(5)] * 3, "at least one term"),
    ],
)
def test_bad_canonical_tensors_are_refused(weights: object, vectors: object, grids: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ChebyshevTucker.from_canonical(weights, vectors, grids, degree=9)  # type: ignore[arg-type]


@pytest.mark.parametrize("points", [[[0.0, 0.0, 0.0]], torch.zeros(4, 2), torch.tensor(1.0)])
def test_points_of_another_shape_are_refused(field: ChebyshevTucker, points: object) -> None:
    with pytest.raises(ConfigError, match="evaluated at a tensor of points"):
        field(points)  # type: ignore[arg-type]


def test_zero_charges_give_a_zero_field() -> None:
    field = ChebyshevTucker.from_charges([[0.0, 0.0, 0.0]], [0.0], alpha=0.5, degree=17)
    assert field.ranks == (1, 1, 1)
    assert not field(inside(field, 10)).any()
