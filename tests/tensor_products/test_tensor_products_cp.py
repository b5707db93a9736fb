"""The backend cp: exact and truncated products, their factors in state dicts and model files, options and refusals."""

import copy
import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from mlip.errors import ConfigError
from mlip.models import build_model
from mlip.models.model_file import load, save
from mlip.tensor_products import TensorProduct, cp_product
from mlip.tensor_products.cp import CP
from mlip.tensor_products.cp_exact import shipped_factors
from mlip.tensor_products.cp_target import full_target

# What literature and our earlier fits gave: error of rank 7 L², and ranks of exact fits.
KNOWN_ERRORS = {1: 1.7e-2, 2: 1.9e-2, 3: 5.5e-2, 4: 5.7e-2}
KNOWN_RANKS = {"e": {1: 8, 2: 31, 3: 96, 4: 250}, "natural": {1: 6, 2: 18, 3: 63, 4: 170}}


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def irreps(l_max: int, parity: str, channels: int = 1, l_min: int = 0) -> str:
    """Every degree once, of parity e or that of harmonics."""
    return "+".join(
        f"{channels}x{degree}{'eo'[degree % 2] if parity == 'natural' else 'e'}" for degree in range(l_min, l_max + 1)
    )


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def cp(*operands: str, **options: Any) -> TensorProduct:
    return TensorProduct(*operands, **{"backend": "cp", "weights": "none"} | options)


def backend(product: TensorProduct) -> CP:
    found = product.products[0]
    assert isinstance(found, CP)
    return found


def deviation(product: TensorProduct, reference: TensorProduct, dtype: torch.dtype = torch.float64) -> float:
    """Relative deviation from another product in float64."""
    x, y = normal(20, product.irreps_in1.dim), normal(20, product.irreps_in2.dim, seed=1)
    expected = reference(x, y)
    return float((product(x.to(dtype), y.to(dtype)) - expected).norm() / expected.norm())


def truncated(**options: Any) -> TensorProduct:
    """A small product whose rank is too low."""
    return cp("2x0e+2x1e", "0e+1e", "2x0e+2x1e", **{"rank": 5, "restarts": 1} | options)


@pytest.mark.parametrize("parity", ["e", "natural"])
@pytest.mark.parametrize("l1", range(5))
def test_exact_is_clebsch_gordan_for_all_degrees_up_to_four(l1: int, parity: str) -> None:
    for l2, l3 in itertools.product(range(5), repeat=2):
        operands = irreps(l1, parity), irreps(l2, parity), irreps(min(l3, l1 + l2), parity)
        product, reference = cp(*operands), TensorProduct(*operands, weights="none")
        assert product.exact
        assert product.error < 1e-11
        assert deviation(product, reference) < 1e-11
        assert deviation(product, reference, torch.float32) < 1e-6
        assert product.equivariance_error() < 1e-11
        assert backend(product).rank <= 250


@pytest.mark.parametrize("parity", ["e", "natural"])
@pytest.mark.parametrize("l_max", [1, 2, 3, 4])
def test_exact_ranks_are_no_higher_than_those_known(parity: str, l_max: int) -> None:
    product = cp(*[irreps(l_max, parity)] * 3)
    assert backend(product).rank <= KNOWN_RANKS[parity][l_max]
    # Terms do not cancel: rounding is not amplified.
    assert max(float(each.abs().max()) for each in product.buffers()) < 4


def test_degrees_that_are_missing_cost_no_terms() -> None:
    assert backend(cp("0e", "2e", "2e")).rank == 5
    # Degrees that couple to nothing do not count, whatever the triangle inequality says of the highest.
    for first, second in (("0e+1e+4e", "0e+1e"), ("0e+1e+6e", "0e+1e+3e")):
        product = cp(first, second, "0e+1e")
        assert product.exact
        assert backend(product).rank == 8
    assert backend(cp("0e+3e", "1e", "1e")).rank == 3


def test_two_signals_where_inversion_forbids_couplings() -> None:
    single, double = cp("0e+1e", "0e+1e", "0e+1e"), cp("0e+1e+1o", "0e+1e+1o", "0e+1e+1o")
    assert backend(single).rank == backend(double).rank == 8
    assert backend(single).factors(torch.zeros(0))[0].shape == (8, 4)
    assert backend(double).factors(torch.zeros(0))[0].shape == (16, 7)


@pytest.mark.parametrize("coupling", ["gaunt", "bracket", "gaunt+bracket", "matrix"])
def test_other_couplings_are_exact_at_any_degree(coupling: str) -> None:
    operands = irreps(5, "e", l_min=1), irreps(4, "e", l_min=1), irreps(6, "e", l_min=1)
    product = cp(*operands, coupling=coupling)
    assert product.exact
    assert deviation(product, TensorProduct(*operands, coupling=coupling, weights="none")) < 1e-12


@pytest.mark.parametrize("coupling", ["gaunt", "bracket", "gaunt+bracket", "matrix"])
def test_other_couplings_are_fitted(coupling: str) -> None:
    operands = irreps(1, "e", l_min=1), irreps(1, "e", l_min=1), irreps(2 if coupling != "bracket" else 1, "e", l_min=1)
    if coupling == "gaunt":
        operands = (*operands[:2], "2e")
    product = cp(*operands, coupling=coupling, rank=5 if coupling != "bracket" else 4, restarts=2)
    deviated = deviation(product, TensorProduct(*operands, coupling=coupling, weights="none"))
    assert product.error < 0.7
    assert deviated == pytest.approx(product.error, rel=0.8, abs=1e-12)


@pytest.mark.parametrize("l_max", [1, 2, 3, 4])
def test_shipped_ranks_of_tensor_decomposition_networks(l_max: int) -> None:
    product = cp(*[irreps(l_max, "e")] * 3, rank=7 * l_max**2)
    assert backend(product).rank == 7 * l_max**2
    assert not product.exact
    assert 1e-3 < product.error < KNOWN_ERRORS[l_max]
    reference = TensorProduct(*[irreps(l_max, "e")] * 3, weights="none")
    assert deviation(product, reference) == pytest.approx(product.error, rel=0.5)
    assert product.error / 3 < product.equivariance_error() < 3 * product.error


def test_what_is_shipped_is_known_by_its_degrees_alone() -> None:
    assert shipped_factors(full_target(2), 28) is not None
    assert shipped_factors(full_target(2), 27) is None
    # Rank 28 is exact for even sums of degrees.
    assert cp(*[irreps(2, "natural")] * 3, rank=28).exact


def test_the_error_falls_with_the_rank_until_it_is_exact() -> None:
    products = [cp(*[irreps(1, "e")] * 3, rank=rank, restarts=3) for rank in (2, 4, 6, 8, 16)]
    errors = [product.error for product in products]
    assert sorted(errors[:4], reverse=True) == errors[:4]
    assert [product.exact for product in products] == [False, False, False, True, True]
    assert [backend(product).rank for product in products] == [2, 4, 6, 8, 8]
    for product in products[:3]:
        assert product.error / 5 < product.equivariance_error() < 5 * product.error


def test_a_tolerance_is_reached() -> None:
    product = cp(*[irreps(1, "e")] * 3, tolerance=0.4, restarts=2)
    assert 0.1 < product.error <= 0.4
    assert cp(*[irreps(1, "e")] * 3, tolerance=1e-9, restarts=2).error <= 1e-9


def test_the_error_of_a_product_is_that_of_its_worst_part() -> None:
    product = cp("2x0e+2x1e+3x1e", "0e+1e", "2x0e+2x1e+3x1e", rank=4, restarts=1)
    errors = [part.error for part in product.products]
    assert len(errors) == 2
    assert product.error == max(errors) > min(errors)
    assert TensorProduct("0e", "0e", "0e").error == 0.0


@pytest.mark.parametrize("weight_rows", [0, 1, 7])
@pytest.mark.parametrize("channels_in2", [1, 3])
@pytest.mark.parametrize("batch", [0, 1, 7])
def test_runs_of_rows_are_the_plain_product(
    batch: int, channels_in2: int, weight_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLIP_KERNELS", "reference")
    # Two rows a run.
    monkeypatch.setattr(cp_product, "_RUN_NUMBERS", 2 * 6 * 3)
    tables = [normal(6, size, seed=size) for size in (4, 5, 2)]
    operands = [normal(batch, 4, 3), normal(batch, 5, channels_in2, seed=1)]
    if weight_rows:
        operands.append(normal(min(batch, weight_rows) if weight_rows > 1 else 1, 1, 3, seed=2))
    operands = [each.requires_grad_() for each in operands]

    def plain(x: Tensor, y: Tensor, weight: Tensor | None = None) -> Tensor:
        product = torch.einsum("ri,rj,rk,nic,njc->nkc", *tables, x, y.expand(-1, -1, 3))
        return product if weight is None else product * weight

    def runs(x: Tensor, y: Tensor, weight: Tensor | None = None) -> Tensor:
        return cp_product.cp_product(x, y, *tables, weight)

    torch.testing.assert_close(runs(*operands), plain(*operands))
    found = []
    for function in (runs, plain):
        gradients = torch.autograd.grad(function(*operands).pow(3).sum(), operands, create_graph=True)
        second = torch.autograd.grad(sum(each.square().sum() for each in gradients), operands)
        found.append((*gradients, *second))
    for one, two in zip(*found, strict=True):
        torch.testing.assert_close(one, two)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("channels", [(1, 1), (3, 1), (3, 3)])
def test_derivatives_of_all_kinds(channels: tuple[int, int], weighted: bool) -> None:
    tables = [normal(6, size, seed=size) for size in (4, 5, 2)]
    operands = [normal(3, size, count, seed=size) for size, count in zip((4, 5), channels, strict=True)]
    if weighted:
        operands.append(normal(3, 1, channels[0]))
    operands = [each.requires_grad_() for each in operands]

    def function(x: Tensor, y: Tensor, weight: Tensor | None = None) -> Tensor:
        return cp_product.cp_product(x, y, *tables, weight)

    assert torch.autograd.gradcheck(function, operands)
    assert torch.autograd.gradgradcheck(function, operands)
    # Each alone, since gradients that are wanted together share their work.
    together = torch.autograd.grad(function(*operands).square().sum(), operands)
    for place, expected in enumerate(together):
        alone = [each.detach().requires_grad_(number == place) for number, each in enumerate(operands)]
        torch.testing.assert_close(torch.autograd.grad(function(*alone).square().sum(), alone[place])[0], expected)


@pytest.mark.parametrize("mode", ["channelwise", "elementwise"])
def test_flops_are_those_of_the_matrix_products_and_one_multiplication_a_term(
    mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The counter sees matrix products of torch only.
    monkeypatch.setenv("MLIP_KERNELS", "reference")
    product = cp("4x0e+4x1e", "4x0e+4x1e" if mode == "elementwise" else "0e+1e", "4x0e+4x1e", mode=mode)
    x, y = normal(10, product.irreps_in1.dim), normal(10, product.irreps_in2.dim)
    with FlopCounterMode(display=False) as counter:
        product(x, y)
    assert product.work(10).flops == counter.get_total_flops() + 10 * 8 * 4


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_truncated_factors_are_in_the_state_dict_in_float64(dtype: torch.dtype) -> None:
    first, second = truncated().to(dtype), truncated(seed=1).to(dtype)
    x, y = normal(5, 8), normal(5, 4, seed=1)
    results = [first(*operands) for operands in ((x, y), (x.float(), y.float()))]
    # Both dtypes have been used before, and what was kept of them is stale afterwards.
    for operands, result in zip(((x, y), (x.float(), y.float())), results, strict=True):
        assert not torch.allclose(second(*operands), result, rtol=1e-3, atol=1e-3)
    state = copy.deepcopy(first.state_dict())
    assert {name: each.dtype for name, each in state.items()} == dict.fromkeys(
        [f"products.0.factor_{name}" for name in ("in1", "in2", "out")], torch.float64
    )
    second.load_state_dict(state)
    assert second.error == first.error
    for operands, result in zip(((x, y), (x.float(), y.float())), results, strict=True):
        assert torch.equal(second(*operands), result)
    for name, each in second.double().state_dict().items():
        assert torch.equal(each, state[name])
    assert torch.equal(second(x, y), first.double()(x, y))
    with pytest.raises(RuntimeError, match="factor_in1"):
        second.load_state_dict({})
    with pytest.raises(RuntimeError, match="size mismatch"):
        second.load_state_dict({name: each[1:] for name, each in state.items()})


def test_exact_factors_are_not_in_the_state_dict() -> None:
    assert not cp("0e+1e", "0e+1e", "0e+1e").state_dict()
    assert not cp("0e+1e", "0e+1e", "0e+1e", rank=8).state_dict()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_model_file_carries_the_factors_to_a_machine_whose_fits_end_elsewhere(
    dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = {
        "architecture": "nequip",
        "elements": ["H"],
        "hidden_irreps": "4x0e+4x1o",
        "l_max": 1,
        "layers": 2,
        "cutoff": 3.0,
        "tensor_product": {"backend": "cp", "rank": 3},
    }
    model = build_model(config, dtype)
    save(model, tmp_path / "model.mlip")
    monkeypatch.setattr("mlip.tensor_products.cp_fit._PROXIMAL_WEIGHT", 0.2)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "elsewhere"))
    names = [name for name in model.state_dict() if "factor_in1" in name]
    assert names
    other = build_model(config, dtype)
    assert any(not torch.equal(model.state_dict()[name], other.state_dict()[name]) for name in names)
    loaded = load(tmp_path / "model.mlip", dtype="float64")
    for name in names:
        assert model.state_dict()[name].dtype == torch.float64
        assert torch.equal(loaded.state_dict()[name], model.state_dict()[name])


def test_trainable_factors_are_parameters_that_move() -> None:
    product, constant = truncated(trainable=True).double(), truncated()
    names = [name for name, _ in product.named_parameters()]
    assert names == list(product.state_dict()) == [f"products.0.factor_{name}" for name in ("in1", "in2", "out")]
    assert all(parameter.dtype == torch.float64 for parameter in product.parameters())
    product.load_state_dict(constant.state_dict())
    x, y = normal(5, 8).requires_grad_(), normal(5, 4, seed=1).requires_grad_()
    torch.testing.assert_close(product(x, y), constant(x, y))
    for one, two in zip(
        torch.autograd.grad(product(x, y).square().sum(), (x, y)),
        torch.autograd.grad(constant(x, y).square().sum(), (x, y)),
        strict=True,
    ):
        torch.testing.assert_close(one, two)
    before = product.error
    assert before == pytest.approx(constant.error)
    optimizer = torch.optim.SGD(product.parameters(), lr=0.01)
    (product(x, y) - TensorProduct(*truncated_operands(), weights="none")(x, y)).square().sum().backward()
    optimizer.step()
    assert product.error != before
    assert not product.exact


def truncated_operands() -> tuple[str, str, str]:
    return "2x0e+2x1e", "0e+1e", "2x0e+2x1e"


def test_trainable_factors_are_of_the_default_dtype_and_serve_both() -> None:
    product = truncated(trainable=True, rank="exact")
    assert all(parameter.dtype == torch.get_default_dtype() for parameter in product.parameters())
    assert product.error < 1e-6
    assert not product.exact
    x, y = normal(5, 8), normal(5, 4, seed=1)
    assert product(x, y).dtype == torch.float64
    assert product(x.float(), y.float()).dtype == torch.float32
    assert torch.autograd.gradcheck(
        lambda *tables: torch.func.functional_call(
            product, dict(zip(product.state_dict(), tables, strict=True)), (x[:2], y[:2])
        ),
        [parameter.detach().double().requires_grad_() for parameter in product.parameters()],
        fast_mode=True,
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": 0}, "rank of a CP product is 0: give a whole number from 1 to 16, .* or 'exact'"),
        ({"rank": -3}, "rank of a CP product is -3"),
        ({"rank": 2.5}, "rank of a CP product is 2.5"),
        ({"rank": True}, "rank of a CP product is True"),
        ({"rank": "all"}, "rank of a CP product is 'all'"),
        ({"rank": 17}, "rank of a CP product is 17"),
        ({"rank": 3, "tolerance": 0.1}, "rank=3 and tolerance=0.1: give one"),
        ({"rank": "exact", "tolerance": 0.1}, "rank='exact' and tolerance=0.1: give one"),
        ({"tolerance": 1e-12}, "tolerance of a CP product is 1e-12"),
        ({"tolerance": 1.0}, "tolerance of a CP product is 1.0"),
        ({"tolerance": float("nan")}, "tolerance of a CP product is nan"),
        ({"tolerance": "small"}, "tolerance of a CP product is 'small'"),
        ({"seed": -1}, "seed of a CP fit is -1"),
        ({"seed": 0.5}, "seed of a CP fit is 0.5"),
        ({"restarts": 0}, "restarts of a CP fit are 0"),
        ({"weights": "per_path"}, "'cp' has no 'per_path' weights"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        cp("0e+1e", "0e+1e", "0e+1e", **options)


def test_exact_above_degree_four_is_refused() -> None:
    for operands in (("5e", "1e", "4e"), ("2e", "3e", "5e"), ("1e", "10e", "10e")):
        with pytest.raises(ConfigError, match=r"up to degree 4 and not for \(.*\): give rank= or tolerance="):
            cp(*operands)
