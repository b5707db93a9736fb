"""Products on the grid against coupling tensors, their derivatives and counts; grids that alias are refused."""

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import numpy as np
import pytest
import torch
from e3nn.o3 import Irrep
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from mlip.errors import ConfigError
from mlip.so3 import SphereGrid, spherical_harmonics_with_gradients
from mlip.tensor_products import ProductSpec, TensorProduct, spherical_grid_product
from mlip.tensor_products.couplings import Coupling
from mlip.tensor_products.spec import WeightStructure
from mlip.tensor_products.spherical_grid import SEPARABLE_FROM_DEGREE, SphericalGrid
from mlip.tensor_products.spherical_grid_tables import GridPart, meridian_harmonics, waves

COUPLINGS: tuple[Coupling, ...] = SphericalGrid.couplings
TRANSFORMS = ("dense", "separable")
MIXED = ("1o+0e+1e+1o+2e", "1e+0o+1e+2o+1o", "1o+0o+1e+2e+2o+1o+3e")


def spec_of(in1: str, in2: str, out: str, coupling: Coupling, weights: WeightStructure = "none") -> ProductSpec:
    """The spec with those entries of the result that are reached."""
    first, second, third = (tuple(Irrep(each) for each in irreps.split("+")) for irreps in (in1, in2, out))
    whole = ProductSpec(first, second, third, coupling, weights)
    reached = {path.out for path in whole.paths}
    kept = tuple(irrep for place, irrep in enumerate(third) if place in reached)
    return ProductSpec(first, second, kept, coupling, weights)


def natural(l_max: int) -> str:
    return "+".join(f"{degree}{'eo'[degree % 2]}" for degree in range(l_max + 1))


def unnatural(l_max: int) -> str:
    return "+".join(f"{degree}{'oe'[degree % 2]}" for degree in range(l_max + 1))


def operands(spec: ProductSpec, batch: int = 2, channels: int = 2, channels_in2: int = 2) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return normal(batch, spec.dims[0], channels), normal(batch, spec.dims[1], channels_in2)


def by_definition(spec: ProductSpec, x: Tensor, y: Tensor) -> Tensor:
    return torch.einsum("bic,bjc,ijk->bkc", x, y.expand(-1, -1, x.shape[2]), torch.tensor(spec.tensor()))


def error(found: Tensor, expected: Tensor) -> float:
    assert found.shape == expected.shape
    return float((found - expected).detach().norm() / expected.detach().norm())


def rows(part: GridPart) -> int:
    """Values of a function on a part's grid, those of every sector."""
    return len(part.tables[0][0].profiles) * part.grid.phi_count


@contextmanager
def chunks_of(numbers: int) -> Iterator[None]:
    """Small chunks, so that a small batch needs several, where kernels do not take the whole."""
    before = spherical_grid_product._CACHED_BYTES
    spherical_grid_product._CACHED_BYTES = 8 * numbers
    try:
        with patch.dict(os.environ, MLIP_KERNELS="reference"):
            yield
    finally:
        spherical_grid_product._CACHED_BYTES = before


@pytest.mark.parametrize("l1", range(7))
@pytest.mark.parametrize("coupling", COUPLINGS)
def test_all_degrees_up_to_6_follow_the_coupling_tensors(coupling: Coupling, l1: int) -> None:
    for l2, l3 in itertools.product(range(7), repeat=2):
        out = {
            "gaunt": natural(l3),
            "bracket": unnatural(l3),
            "gaunt+bracket": f"{natural(l3)}+{unnatural(l3)}",
        }[coupling]
        spec = spec_of(natural(l1), natural(l2), out, coupling)
        if not spec.irreps_out:
            continue
        x, y = operands(spec, channels_in2=1)
        expected = by_definition(spec, x, y)
        for transform in TRANSFORMS:
            assert error(SphericalGrid(spec, transform=transform)(x, y, None), expected) <= 1e-12, (l1, l2, l3)


@pytest.mark.parametrize("channels_in2", [1, 3])
@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("coupling", COUPLINGS)
def test_entries_of_both_parities_that_stand_twice(coupling: Coupling, transform: str, channels_in2: int) -> None:
    spec = spec_of(*MIXED, coupling)
    x, y = operands(spec, 5, 3, channels_in2)
    backend = SphericalGrid(spec, transform=transform)
    assert error(backend(x, y, None), by_definition(spec, x, y)) <= 1e-12


def test_parts_of_a_sum_hold_their_entries_only() -> None:
    # Products of true functions are true, brackets are not: with their own entries neither needs two sectors.
    gaunt, bracket = SphericalGrid(spec_of(natural(2), natural(2), "0e+1o+1e+2o", "gaunt+bracket")).parts
    assert [places.tolist() for places in gaunt.components] == [[*range(9)], [*range(9)], [0, 1, 2, 3]]
    assert [places.tolist() for places in bracket.components] == [[*range(1, 9)], [*range(1, 9)], [*range(4, 12)]]
    assert (gaunt.grid.degree, bracket.grid.degree) == (2 + 2 + 1, 2 + 2 + 2 - 1)
    for part in (gaunt, bracket):
        assert all(len(table.profiles) == part.grid.theta_count for tables in part.tables for table in tables)
    # A coupling that has only one of the parts needs only that one.
    assert len(SphericalGrid(spec_of("0e", natural(2), natural(2), "gaunt+bracket")).parts) == 1
    assert len(SphericalGrid(spec_of("1o", "1o", "1e", "gaunt+bracket")).parts) == 1


@pytest.mark.parametrize(
    ("coupling", "out", "counts"), [("gaunt", "0e+1o+2e+3o", (5, 9)), ("bracket", "1e+2o+3e", (4, 8))]
)
def test_the_smallest_grid_is_exact_and_one_node_fewer_is_refused(
    coupling: Coupling, out: str, counts: tuple[int, int]
) -> None:
    spec = spec_of(natural(3), natural(2), out, coupling)
    default = SphericalGrid(spec).parts[0].grid
    assert (default.theta_count, default.phi_count) == counts
    theta, phi = counts
    x, y = operands(spec)
    for larger in (counts, (theta + 2, phi), (theta, phi + 3)):
        for transform in TRANSFORMS:
            backend = SphericalGrid(spec, grid=larger, transform=transform)
            assert error(backend(x, y, None), by_definition(spec, x, y)) <= 1e-12
    for smaller in ((theta - 1, phi), (theta, phi - 1)):
        with pytest.raises(ConfigError, match=f"at least {theta} in θ and {phi} in φ"):
            SphericalGrid(spec, grid=smaller)
    # What is refused would be wrong indeed.
    assert aliasing_error(spec, theta - 1, phi) > 0.01
    assert aliasing_error(spec, theta, phi - 1) > 0.01


def aliasing_error(spec: ProductSpec, theta: int, phi: int) -> float:
    """Relative error of the coupling tensor on a grid of any size, by derivatives in Cartesian coordinates."""
    grid = SphereGrid(0, theta, phi)
    columns = [
        np.concatenate([np.arange(irrep.l**2, (irrep.l + 1) ** 2) for irrep in irreps]) for irreps in spec.operands
    ]
    values, gradients = spherical_harmonics_with_gradients(max(spec.l_max), torch.tensor(grid.nodes), "orthonormal")
    first, second, third = (values.numpy()[:, each] for each in columns)
    pairs = np.einsum("ni,nj->nij", first, second)
    if spec.coupling == "bracket":
        turned = np.cross(grid.nodes[:, None], gradients.numpy()[:, columns[0]])
        pairs = np.einsum("nix,njx->nij", turned, gradients.numpy()[:, columns[1]])
    tensor = np.einsum("n,nij,nk->ijk", grid.weights, pairs, third)
    return float(np.linalg.norm(tensor - spec.tensor()) / np.linalg.norm(spec.tensor()))


def test_the_sum_needs_both_grids_to_be_exact() -> None:
    # The Gaunt part needs degree 2 + 2 + 0, the bracket 2 + 2 + 3 − 1.
    spec = spec_of(natural(2), natural(2), f"0e+{unnatural(3)}", "gaunt+bracket")
    needed = [(part.grid.theta_count, part.grid.phi_count) for part in SphericalGrid(spec).parts]
    assert needed == [(3, 5), (4, 7)]
    with pytest.raises(ConfigError, match="at least 4 in θ and 7 in φ"):
        SphericalGrid(spec, grid=(3, 6))
    x, y = operands(spec)
    assert error(SphericalGrid(spec, grid=(4, 7))(x, y, None), by_definition(spec, x, y)) <= 1e-12


@pytest.mark.parametrize("grid", [(4,), (4, 7, 1), (4.0, 7), "47", 4])
def test_a_grid_that_is_not_two_counts_is_refused(grid: object) -> None:
    with pytest.raises(ConfigError, match="give two whole numbers"):
        TensorProduct("0e+1o", "0e+1o", "0e+1o", backend="spherical_grid", weights="none", grid=grid)


def test_what_cannot_be_computed_is_refused() -> None:
    with pytest.raises(ConfigError, match="unknown transform 'separate': did you mean 'separable'"):
        TensorProduct("0e+1o", "0e+1o", "0e+1o", backend="spherical_grid", weights="none", transform="separate")
    with pytest.raises(ConfigError, match="no path"):
        SphericalGrid(ProductSpec((Irrep("0e"),), (Irrep("0e"),), (Irrep("0e"),), "bracket", "none"))
    with pytest.raises(ConfigError, match="no path"):
        SphericalGrid(ProductSpec((Irrep("0e"),), (Irrep("0e"),), (Irrep("0o"),), "gaunt+bracket", "none"))


def test_the_transform_follows_the_degree() -> None:
    degrees = [natural(l_max) for l_max in (5, 6, 7)]
    grids = [SphericalGrid(spec_of(each, each, each, "gaunt")) for each in degrees]
    assert [grid.parts[0].grid.degree >= SEPARABLE_FROM_DEGREE for grid in grids] == [False, False, True]
    assert [grid.transforms for grid in grids] == [["dense"], ["dense"], ["separable"]]


def test_profiles_and_waves_are_the_harmonics_and_their_gradients() -> None:
    grid = SphereGrid(0, 6, 11)
    values, gradients = spherical_harmonics_with_gradients(5, torch.tensor(grid.nodes), "orthonormal")
    orders = np.concatenate([np.arange(-degree, degree + 1) for degree in range(6)])
    profiles, of_theta, of_phi = meridian_harmonics(grid, 5)

    def on_grid(profile: np.ndarray, order: np.ndarray) -> np.ndarray:
        return (profile[:, None] * waves(order, grid.phi)).reshape(66, 36)

    x, _, z = grid.nodes.T
    across = np.hypot(x, z)
    east = np.stack([z / across, np.zeros(66), -x / across], 1)
    south = np.cross(east, grid.nodes)
    np.testing.assert_allclose(on_grid(profiles, orders), values, rtol=0, atol=1e-14)
    for found, direction in ((on_grid(of_theta, orders), south), (on_grid(of_phi, -orders), east)):
        np.testing.assert_allclose(found, np.einsum("ndx,nx->nd", gradients, direction), rtol=0, atol=1e-13)


@pytest.mark.parametrize("channels_in2", [1, 2])
@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("coupling", COUPLINGS)
def test_derivatives_are_those_of_the_plain_product(coupling: Coupling, transform: str, channels_in2: int) -> None:
    spec = spec_of(natural(2), natural(1), f"{natural(1)}+1e+2o", coupling)
    backend = SphericalGrid(spec, transform=transform)
    given = [each.requires_grad_() for each in operands(spec, 5, 2, channels_in2)]
    derivatives = []
    for result in (backend(*given, None), by_definition(spec, *given)):
        first = torch.autograd.grad(result.pow(3).sum(), given, create_graph=True)
        second = torch.autograd.grad(sum(each.pow(3).sum() for each in first), given, create_graph=True)
        third = torch.autograd.grad(sum(each.square().sum() for each in second), given)
        derivatives.append([*first, *second, *third])
    for found, expected in zip(*derivatives, strict=True):
        assert error(found, expected) <= 1e-12


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("coupling", COUPLINGS)
def test_gradients_pass_finite_differences(coupling: Coupling, transform: str) -> None:
    spec = spec_of("1o+0e+1o", "1o+1e", "1o+0e+1e", coupling)
    backend = SphericalGrid(spec, transform=transform)
    for channels_in2 in (1, 2):
        given = [each.requires_grad_() for each in operands(spec, 2, 2, channels_in2)]
        assert torch.autograd.gradcheck(lambda x, y: backend(x, y, None), given, fast_mode=True)
        assert torch.autograd.gradgradcheck(lambda x, y: backend(x, y, None), given, fast_mode=True)


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("coupling", COUPLINGS)
def test_chunks_of_the_batch_make_no_difference(coupling: Coupling, transform: str) -> None:
    spec = spec_of(*MIXED, coupling)
    backend = SphericalGrid(spec, transform=transform)
    given = [each.requires_grad_() for each in operands(spec, 7)]
    whole = backend(*given, None)
    expected = torch.autograd.grad(whole.square().sum(), given)
    # Single rows of the batch; three or six of the larger part at a time, the last chunk a short one.
    for numbers in (1, 3 * 8 * max(map(rows, backend.parts))):
        with chunks_of(numbers):
            result = backend(*given, None)
            assert error(result, whole) <= 1e-14
            for found, wanted in zip(torch.autograd.grad(result.square().sum(), given), expected, strict=True):
                assert error(found, wanted) <= 1e-14


def test_nothing_on_the_grid_is_kept_for_the_backward_pass() -> None:
    spec = spec_of(natural(3), natural(3), natural(3), "gaunt")
    backend = SphericalGrid(spec)
    given = [each.requires_grad_() for each in operands(spec, 6, 4, 1)]
    kept: list[tuple[int, ...]] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tuple(tensor.shape))
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        backend(*given, None)
    assert sorted(kept) == [(6, 16, 1), (6, 16, 4)]


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("coupling", COUPLINGS)
def test_factors_are_the_product(coupling: Coupling, transform: str) -> None:
    spec = spec_of(*MIXED, coupling)
    x, y = operands(spec)
    in1, in2, out = SphericalGrid(spec, transform=transform).factors(x)
    assert error(out @ ((in1 @ x) * (in2 @ y)), by_definition(spec, x, y)) <= 1e-12
    single = SphericalGrid(spec, transform=transform).factors(x.float())
    for found, exact in zip(single, (in1, in2, out), strict=True):
        assert found.dtype == torch.float32
        assert error(found, exact) <= 1e-6


def test_factors_of_both_operands_are_values_at_the_same_points() -> None:
    # Powers of functions are taken with them, for which the grid holds all degrees of in1, coupled or not.
    spec = ProductSpec(
        *(tuple(map(Irrep, each.split("+"))) for each in (natural(6), natural(3), "0e+1o")), "gaunt", "none"
    )
    in1, in2, out = SphericalGrid(spec).factors(torch.empty(0, dtype=torch.float64))
    assert len(in1) == SphereGrid(10, 6, 11).weights.size
    assert torch.equal(in1[:, :16], in2)
    np.testing.assert_allclose(out[0] * (4 * np.pi) ** 0.5, SphereGrid(10, 6, 11).weights, rtol=1e-14)


@pytest.mark.parametrize("channels_in2", [1, 4])
@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("coupling", COUPLINGS)
def test_flops_are_those_of_the_matrix_products_and_of_the_points(
    coupling: Coupling, transform: str, channels_in2: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLIP_KERNELS", "reference")
    spec = spec_of(natural(2), natural(2), f"{natural(2)}+1e+2o", coupling)
    backend = SphericalGrid(spec, transform=transform)
    x, y = operands(spec, 6, 4, channels_in2)

    # The counter sees matrix products of torch only, and does not know this one that is added in place.
    mapping = {torch.ops.aten.baddbmm_: lambda _, left, right, **rest: 2 * left[0] * left[1] * left[2] * right[2]}
    with FlopCounterMode(display=False, custom_mapping=mapping) as counter:
        backend(x, y, None)
    pointwise = sum(rows(part) * (1 if len(part.tables[0]) == 1 else 3) for part in backend.parts)
    sums = (len(backend.parts) - 1) * spec.dims[2]
    assert backend.flops(6, 4, channels_in2) == counter.get_total_flops() + 6 * 4 * (pointwise + sums)


def test_flops_of_the_dense_transform_in_closed_form() -> None:
    # Points · components of three tables, twice; the points once.
    backend = SphericalGrid(spec_of(natural(2), natural(2), natural(2), "gaunt"))
    assert backend.flops(10, 64, 1) == 10 * (2 * 28 * (9 * 64 + 9 * 1 + 9 * 64) + 28 * 64)
    weighted = SphericalGrid(spec_of(natural(2), natural(2), natural(2), "gaunt", "per_degree"))
    assert weighted.flops(10, 64, 1) == backend.flops(10, 64, 64)


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("coupling", COUPLINGS)
def test_rotations_and_reflections_of_higher_degrees(coupling: Coupling, transform: str) -> None:
    out = {"gaunt": "0e+1o+2e+3o+4e", "bracket": "1e+2o+3e+4o", "gaunt+bracket": "0e+1o+1e+2e+2o+3o+4e"}[coupling]
    product = TensorProduct(
        "0e+1o+2e+3o+4e", "0e+1o+2e+3o", out, backend="spherical_grid", coupling=coupling, transform=transform,
        weights="none",
    )  # fmt: skip
    assert product.equivariance_error() <= 1e-11
