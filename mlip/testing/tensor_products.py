"""What every backend of tensor products has to pass.

A backend, ours or one installed beside the package, is tested by a subclass in a test file of its own:

    from mlip.testing import TensorProductConformance

    class TestMine(TensorProductConformance):
        backend = "mine"
        options = {"algorithm": "fast"}

The suite asks the backend which couplings and weight structures it declares and runs over all of them, in both modes.
Values are compared with the definition of the product, which shares nothing with any backend but the tensors of the
couplings. A backend that approximates states as `tolerance` the error that it is allowed.
"""

import copy
import itertools
from typing import Any, ClassVar, NamedTuple, get_args

import pytest
import torch
from e3nn.o3 import Irreps
from torch import Tensor

from mlip.errors import ConfigError
from mlip.tensor_products import Backend, TensorProduct
from mlip.tensor_products.backend import backend_class
from mlip.tensor_products.couplings import COUPLINGS, Coupling, couples
from mlip.tensor_products.product import Mode
from mlip.tensor_products.spec import WEIGHT_STRUCTURES, WeightStructure
from mlip.testing.product_definition import product_by_definition

# Irreps of x, y and the result. In the mode channelwise the entries of y have one channel; entries of the result that a
# coupling does not reach are left out for it.
IRREPS = {
    "scalars": ("0e", "0e", "0e"),
    "natural_parity": ("2x0e+2x1o+2x2e", "2x0e+2x1o+2x2e", "2x0e+2x1o+2x1e+2x2e+2x2o"),
    "even_parity": ("0e+1e+2e", "0e+1e+2e", "0e+1e+2e"),
    "both_parities": ("2x1o+2x0e+2x1e+2x1o", "2x1e+2x0o+2x1e+2x1o", "2x1o+2x0o+2x1e+2x2e+2x1o+2x0e"),
    "unequal_channels": ("2x1o+1x0e+1x1o+2x0e", "2x0e+1x1o+2x1o", "1x1o+2x1o+2x0e+1x1e+2x1e"),
    "truncated_result": ("2x2e+2x1o", "2x1o+2x2e", "2x0e+2x1e+2x0o+2x1o"),
    "higher_result": ("2x1o+2x0e", "2x1o", "2x2e+2x0e+2x1o+2x1e"),
    "missing_degrees": ("2e", "0o+2o", "1o+2o"),
}
# Where one set of irreps is enough: both parities, irreps that stand twice, little to compute.
FEW_IRREPS = ("2x0e+2x1o+2x1e", "2x1o+2x0e+2x1o", "2x1o+2x0e+2x1e+2x0o")

# Products are polynomials of low degree, whose central differences are good to 1e-9; torch's defaults allow 1e-3.
DIFFERENCES: dict[str, Any] = {"fast_mode": True, "rtol": 1e-6, "atol": 1e-7}


class Case(NamedTuple):
    """Arguments of a product."""

    coupling: Coupling
    weights: WeightStructure
    mode: Mode
    irreps_in1: str
    irreps_in2: str
    irreps_out: str


class TensorProductConformance:
    """Tests of the backend that a subclass names.

    Attributes:
        backend: Name of the backend.
        options: Its options.
        tolerance: Largest error in float64 relative to the definition, in the Frobenius norm.
        irreps: What values are compared for: irreps of x, y and the result by name.
    """

    backend: ClassVar[str]
    options: ClassVar[dict[str, Any]] = {}
    tolerance: ClassVar[float] = 1e-12
    irreps: ClassVar[dict[str, tuple[str, str, str]]] = IRREPS

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Run tests of `irreps` over all of them, and tests of a `case` over all that the backend declares on a few."""
        if "irreps" in metafunc.fixturenames:
            metafunc.parametrize("irreps", list(self.irreps.values()), ids=list(self.irreps))
        if "case" in metafunc.fixturenames:
            settings = self.settings()
            # What does not depend on the coefficients needs all weight structures and modes for one coupling only.
            kept = [each for each in settings if each[0] == settings[0][0] or each[1:] == settings[-1][1:]]
            metafunc.parametrize("case", [case_of(*each) for each in kept], ids=map("-".join, kept))

    def settings(self) -> list[tuple[Coupling, WeightStructure, Mode]]:
        """Couplings, weight structures and modes of the backend, all combinations."""
        declared = backend_class(self.backend)
        return list(itertools.product(declared.couplings, declared.weight_structures, get_args(Mode)))

    def build(self, case: Case, **changes: Any) -> TensorProduct:
        """The product of a case, or with some arguments changed."""
        arguments: dict[str, Any] = {"backend": self.backend, **self.options, **case._asdict(), **changes}
        return TensorProduct(**arguments)

    def test_values_follow_the_definition(self, irreps: tuple[str, str, str]) -> None:
        cases = [case for each in self.settings() if (case := reachable(*each, *irreps))]
        if not cases:
            pytest.skip(f"no coupling of the backend has a path in the irreps {irreps}")
        errors = {}
        for case in cases:
            product = self.build(case)
            given = operands(product)
            errors[case] = error(product(*given), product_by_definition(product, *given))
        assert not {case: each for case, each in errors.items() if not each <= self.tolerance}

    def test_rotations_and_reflections_of_operands_act_on_the_result(self, case: Case) -> None:
        product = self.build(case)
        assert product.equivariance_error() <= (1e-11 if product.exact else self.tolerance)

    def test_first_derivatives(self, case: Case) -> None:
        product = self.build(case)
        given = [each.requires_grad_() for each in operands(product, 2)]
        assert torch.autograd.gradcheck(product, given, **DIFFERENCES)
        together = torch.autograd.grad(product(*given).square().sum(), given)
        for place, expected in enumerate(together):
            alone = [each.detach().requires_grad_(number == place) for number, each in enumerate(given)]
            (found,) = torch.autograd.grad(product(*alone).square().sum(), alone[place])
            assert error(found, expected) <= 1e-13

    def test_second_derivatives(self, case: Case) -> None:
        product = self.build(case)
        given = [each.requires_grad_() for each in operands(product, 2)]
        assert torch.autograd.gradgradcheck(product, given, **DIFFERENCES)

    def test_one_object_serves_both_precisions(self, case: Case) -> None:
        product = self.build(case)
        given = operands(product)
        double = product(*given)
        single = product(*(each.float() for each in given))
        assert (double.dtype, single.dtype) == (torch.float64, torch.float32)
        assert error(single, double) <= 1e-5
        assert error(product.float()(*given), double) <= 1e-13
        assert torch.equal(product.double()(*given), double)

    @pytest.mark.parametrize("device", ["cpu", "cuda"])
    def test_the_result_is_where_the_operands_are(self, device: str) -> None:
        if device == "cuda" and not torch.cuda.is_available():
            pytest.skip("no CUDA device")
        for coupling, weights, mode in self.settings():
            product = self.build(case_of(coupling, weights, mode))
            given = operands(product)
            there = [each.to(device).requires_grad_() for each in given]
            expected = product_by_definition(product, *given)
            # The constants follow the operands, of a module that was moved and of one that was not.
            for result in (product(*there), product.to(device)(*there)):
                assert result.device.type == device
                assert error(result, expected) <= self.tolerance
                gradients = torch.autograd.grad(result.square().sum(), there)
                assert all(gradient.device.type == device for gradient in gradients)
        owner = self.build(case_of(*self.settings()[-1]), own_weights=True).to(device)
        assert owner.equivariance_error() <= (1e-11 if owner.exact else self.tolerance)

    def test_no_rows_give_no_rows(self, case: Case) -> None:
        product = self.build(case)
        given = [each.requires_grad_() for each in operands(product, 0)]
        result = product(*given)
        assert result.shape == (0, product.irreps_out.dim)
        gradients = torch.autograd.grad(result.sum(), given)
        assert [gradient.shape for gradient in gradients] == [each.shape for each in given]

    def test_rows_do_not_know_of_each_other(self, case: Case) -> None:
        product = self.build(case)
        given = operands(product)
        assert error(product(*(each[:1] for each in given)), product(*given)[:1]) <= 1e-13

    def test_weights_of_every_row_of_all_rows_and_owned_are_the_same(self, case: Case) -> None:
        product, owner = self.build(case), self.build(case, own_weights=True).double()
        x, y, *_ = operands(product)
        if owner.weight is None:
            assert product.weight_numel == 0
            return
        weight = owner.weight.detach().clone().requires_grad_()
        rows = weight.detach().repeat(len(x), 1).requires_grad_()
        of_rows, of_all, of_owned = product(x, y, rows), product(x, y, weight), owner(x, y)
        assert max(error(of_all, of_rows), error(of_owned, of_rows)) <= 1e-13
        expected = torch.autograd.grad(of_rows.square().sum(), rows)[0].sum(0)
        for result, given in ((of_all, weight), (of_owned, owner.weight)):
            assert error(torch.autograd.grad(result.square().sum(), given)[0], expected) <= 1e-13

    def test_inference_mode_does_not_spoil_training(self, case: Case) -> None:
        product = self.build(case)
        for dtype in (torch.float64, torch.float32):
            given = [each.to(dtype) for each in operands(product)]
            with torch.inference_mode():
                inferred = product(*given)
            result = product(*(each.requires_grad_() for each in given))
            assert error(result, inferred) <= 10 * torch.finfo(dtype).eps
            gradients = torch.autograd.grad(result.square().sum(), given)
            assert all(gradient.isfinite().all() for gradient in gradients)

    def test_operands_need_not_be_contiguous(self, case: Case) -> None:
        product = self.build(case)
        given = operands(product)
        expected = product(*given)
        assert error(product(*(torch.stack([each, -each], 2)[..., 0] for each in given)), expected) <= 1e-13
        assert error(product(*(each.T.contiguous().T for each in given)), expected) <= 1e-13
        repeated = product(*(each[:1].expand(3, -1) for each in given))
        assert error(repeated, expected[:1].expand(3, -1)) <= 1e-13

    def test_the_same_bits_every_time(self, case: Case) -> None:
        before = torch.get_rng_state()
        product = self.build(case)
        given = operands(product)
        result = product(*given)
        for again in (product, copy.deepcopy(product), self.build(case)):
            assert torch.equal(again(*given), result)
        assert torch.equal(torch.get_rng_state(), before), "torch's global random numbers were used"

    def test_weights_of_another_backend_can_be_loaded(self, case: Case) -> None:
        without = dict.fromkeys(self.options)
        reference = self.build(case, backend="clebsch_gordan", own_weights=True, **without)
        product = self.build(case, own_weights=True)
        state = reference.state_dict()
        missing, unexpected = product.load_state_dict(state, strict=False)
        # What an approximation was fitted to belongs to it; an exact product has its weights only.
        assert not unexpected
        assert not (product.exact and missing)
        x, y, *_ = operands(product)
        assert error(product(x, y), reference(x, y)) <= self.tolerance

    def test_factors_compute_the_bare_product(self, case: Case) -> None:
        generator = torch.Generator().manual_seed(0)
        for backend in self.build(case).products:
            assert isinstance(backend, Backend)
            x, y = (
                torch.randn(3, dim, channels, generator=generator, dtype=torch.float64)
                for dim, channels in zip(backend.spec.dims, (2, 1), strict=False)
            )
            factors = backend.factors(x)
            if factors is not None:
                first, second, third = factors
                assert error(third @ ((first @ x) * (second @ y)), backend.bilinear(x, y)) <= 1e-12

    def test_exactness_is_stated_truly(self, case: Case) -> None:
        for backend in self.build(case).products:
            assert isinstance(backend, Backend)
            d1, d2, d3 = backend.spec.dims
            x, y = (torch.eye(dim, dtype=torch.float64)[:, :, None] for dim in (d1, d2))
            computed = backend.bilinear(x.repeat_interleave(d2, 0), y.repeat(d1, 1, 1)).reshape(d1, d2, d3)
            deviation = error(computed, torch.tensor(backend.spec.tensor()))
            assert backend.exact == (deviation <= 1e-10)
            assert backend.error == pytest.approx(deviation, rel=1e-6, abs=1e-10)

    def test_work_is_positive_and_grows_with_the_batch(self, case: Case) -> None:
        product = self.build(case)
        small, large = product.work(10), product.work(1000)
        assert 0 < small.flops < large.flops
        assert 0 < small.bytes < large.bytes < product.work(1000, torch.float64).bytes

    def test_what_is_not_declared_is_refused(self) -> None:
        declared = backend_class(self.backend)
        coupling, weights = declared.couplings[0], declared.weight_structures[0]
        for other in set(COUPLINGS) - set(declared.couplings):
            with pytest.raises(ConfigError, match=f"'{self.backend}' does not compute the coupling"):
                self.build(case_of(other, weights))
        for structure in set(WEIGHT_STRUCTURES) - set(declared.weight_structures):
            with pytest.raises(ConfigError, match=f"'{self.backend}' has no '{structure}' weights"):
                self.build(case_of(coupling, structure))
        with pytest.raises(ConfigError, match="no option 'no_such_option'"):
            self.build(case_of(coupling, weights), no_such_option=1)

    def test_operands_of_another_shape_are_refused(self, case: Case) -> None:
        product = self.build(case)
        given = operands(product)
        for place in range(len(given)):
            for wrong in (given[place][:, 1:], given[place][:2], given[place][..., None]):
                with pytest.raises(ConfigError):
                    product(*given[:place], wrong, *given[place + 1 :])


def case_of(coupling: Coupling, weights: WeightStructure, mode: Mode = "channelwise") -> Case:
    """A small case, which has paths in every coupling."""
    case = reachable(coupling, weights, mode, *FEW_IRREPS)
    assert case is not None
    return case


def reachable(
    coupling: Coupling, weights: WeightStructure, mode: Mode, irreps_in1: str, irreps_in2: str, irreps_out: str
) -> Case | None:
    """The case without those entries of the result that no path leads to; None where none is left."""
    in1, in2, out = Irreps(irreps_in1), Irreps(irreps_in2), Irreps(irreps_out)
    if mode == "channelwise":
        in2 = Irreps([(1, irrep) for _, irrep in in2])
    spin = (max(in1.lmax, in2.lmax, out.lmax) + 1) // 2
    kept = [
        (mul, irrep)
        for mul, irrep in out
        if any(
            mul == mul1
            and mul2 in (mul, 1 if mode == "channelwise" else mul)
            and irrep in first * second
            and couples(coupling, first.l, second.l, irrep.l, spin)
            for mul1, first in in1
            for mul2, second in in2
        )
    ]
    return Case(coupling, weights, mode, str(in1), str(in2), str(Irreps(kept))) if kept else None


def operands(product: TensorProduct, batch: int = 3) -> list[Tensor]:
    """Normal x, y and, where there are any, weights of a product, float64 and the same ones every time."""
    generator = torch.Generator().manual_seed(0)
    widths = [product.irreps_in1.dim, product.irreps_in2.dim, product.weight_numel]
    return [torch.randn(batch, width, generator=generator, dtype=torch.float64) for width in widths if width]


def error(found: Tensor, expected: Tensor) -> float:
    """Distance in the Frobenius norm, relative to the norm of what is expected."""
    assert found.shape == expected.shape
    actual, wanted = (each.detach().to("cpu", torch.float64) for each in (found, expected))
    return float((actual - wanted).norm() / wanted.norm())
