"""The suite for backends finds what can be wrong with one."""

import importlib
import sys
from typing import Any

import pytest
import torch
from torch import Tensor

from mlip.tensor_products import Backend, ProductSpec
from mlip.tensor_products import backend as registry
from mlip.testing import TensorProductConformance
from mlip.testing.tensor_products import IRREPS, case_of


class Sound(Backend):
    """All coefficients in one matrix; each backend below is this one with a fault."""

    couplings = ("clebsch_gordan",)
    weight_structures = ("per_degree",)

    def __init__(self, spec: ProductSpec) -> None:
        super().__init__(spec)
        self.register_constant("table", torch.tensor(self.coefficients(spec)).flatten(0, 1).T.contiguous())

    def coefficients(self, spec: ProductSpec) -> Any:
        return spec.tensor()

    def bilinear(self, x: Tensor, y: Tensor) -> Tensor:
        return self.constant("table", x) @ (x[:, :, None] * y[:, None]).flatten(1, 2)

    def flops(self, batch: int, channels: int, channels_in2: int) -> int:
        d1, d2, d3 = self.spec.dims
        return batch * channels * d1 * d2 * (1 + 2 * d3)


class WrongSignOfAPath(Sound):
    def coefficients(self, spec: ProductSpec) -> Any:
        tensor = spec.tensor()
        tensor[spec.slices(spec.paths[-1])] *= -1
        return tensor


class ForgetsWeightsOfTheSecondOperand(Sound):
    def per_component(self, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        first, second, third = super().per_component(weight)
        return first, torch.ones_like(second), third


class UsesTheFirstRowsWeights(Sound):
    def per_component(self, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return super().per_component(weight[:1])


class CountsRowsOfWeights(Sound):
    def per_component(self, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return super().per_component(weight * (1 + 1e-9 * len(weight)))


class RoundsItsConstants(Sound):
    def constant(self, name: str, like: Tensor) -> Tensor:
        return super().constant(name, like).float().to(like.dtype)


class BreaksSymmetry(Sound):
    def bilinear(self, x: Tensor, y: Tensor) -> Tensor:
        return super().bilinear(x, y) + 1e-9 * x[:, :1]


class WrongDerivative(Sound):
    def bilinear(self, x: Tensor, y: Tensor) -> Tensor:
        result = super().bilinear(x, y)
        return result + 1e-5 * (result - result.detach())


class _DifferentiableOnce(torch.autograd.Function):
    @staticmethod
    def forward(_: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(_: Any, gradient: Tensor) -> Tensor:
        return gradient


class NoSecondDerivative(Sound):
    def bilinear(self, x: Tensor, y: Tensor) -> Tensor:
        return _DifferentiableOnce.apply(super().bilinear(x, y))


class AlwaysDouble(Sound):
    def bilinear(self, x: Tensor, y: Tensor) -> Tensor:
        return super().bilinear(x.double(), y.double())


class StaysRoundedAfterACast(Sound):
    def __init__(self, spec: ProductSpec) -> None:
        super().__init__(spec)
        self.register_buffer("plain", self.table.clone(), persistent=False)

    def constant(self, name: str, like: Tensor) -> Tensor:
        return self.plain.to(like.dtype)


class RowsKnowOfEachOther(Sound):
    def bilinear(self, x: Tensor, y: Tensor) -> Tensor:
        return super().bilinear(x, y) * (1 + 1e-9 * len(x))


class NeedsARow(Sound):
    def bilinear(self, x: Tensor, y: Tensor) -> Tensor:
        return super().bilinear(x, y) + 0 * x.max()


class KeepsWhatInferenceMade(Sound):
    kept: Tensor | None = None

    def constant(self, name: str, like: Tensor) -> Tensor:
        if self.kept is None or self.kept.dtype != like.dtype:
            self.kept = self.table.to(like.dtype, copy=True)
        return self.kept


class Noisy(Sound):
    def bilinear(self, x: Tensor, y: Tensor) -> Tensor:
        return super().bilinear(x, y) * (1 + 1e-15 * torch.rand(()))


class HasMoreState(Sound):
    def __init__(self, spec: ProductSpec) -> None:
        super().__init__(spec)
        self.register_buffer("more", torch.zeros(1))


class HasOtherFactors(Sound):
    def factors(self, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        d1, d2, d3 = self.spec.dims
        return like.new_ones(1, d1), like.new_ones(1, d2), like.new_ones(d3, 1)


class DeniesExactness(Sound):
    exact = False


class ClaimsAnError(Sound):
    error = 1e-3


class CountsNoWork(Sound):
    def flops(self, batch: int, channels: int, channels_in2: int) -> int:
        return 1


class TakesEveryOption(Sound):
    def __init__(self, spec: ProductSpec, *, no_such_option: int = 0) -> None:
        super().__init__(spec)


FAULTS: list[tuple[type[Backend], str]] = [
    (WrongSignOfAPath, "test_values_follow_the_definition"),
    (ForgetsWeightsOfTheSecondOperand, "test_values_follow_the_definition"),
    (UsesTheFirstRowsWeights, "test_values_follow_the_definition"),
    (RoundsItsConstants, "test_values_follow_the_definition"),
    (BreaksSymmetry, "test_rotations_and_reflections_of_operands_act_on_the_result"),
    (WrongDerivative, "test_first_derivatives"),
    (NoSecondDerivative, "test_second_derivatives"),
    (AlwaysDouble, "test_one_object_serves_both_precisions"),
    (StaysRoundedAfterACast, "test_one_object_serves_both_precisions"),
    (RowsKnowOfEachOther, "test_rows_do_not_know_of_each_other"),
    (NeedsARow, "test_no_rows_give_no_rows"),
    (CountsRowsOfWeights, "test_weights_of_every_row_of_all_rows_and_owned_are_the_same"),
    (KeepsWhatInferenceMade, "test_inference_mode_does_not_spoil_training"),
    (Noisy, "test_the_same_bits_every_time"),
    (HasMoreState, "test_weights_of_another_backend_can_be_loaded"),
    (HasOtherFactors, "test_factors_compute_the_bare_product"),
    (ClaimsAnError, "test_exactness_is_stated_truly"),
    (DeniesExactness, "test_exactness_is_stated_truly"),
    (CountsNoWork, "test_work_is_positive_and_grows_with_the_batch"),
    (TakesEveryOption, "test_what_is_not_declared_is_refused"),
]


def run(monkeypatch: pytest.MonkeyPatch, backend: type[Backend], test: str) -> None:
    """Run one test of the suite on a backend that is registered for the moment."""
    monkeypatch.setitem(registry._OWN, "probed", f"{__name__}:{backend.__name__}")

    class Probe(TensorProductConformance):
        backend = "probed"

    arguments = {
        "test_values_follow_the_definition": [IRREPS["unequal_channels"]],
        "test_what_is_not_declared_is_refused": [],
    }
    getattr(Probe(), test)(*arguments.get(test, [case_of("clebsch_gordan", "per_degree")]))


@pytest.mark.parametrize("test", sorted({test for _, test in FAULTS}))
def test_a_sound_backend_passes(monkeypatch: pytest.MonkeyPatch, test: str) -> None:
    run(monkeypatch, Sound, test)


@pytest.mark.parametrize(("fault", "test"), FAULTS, ids=[f"{fault.__name__}-{test}" for fault, test in FAULTS])
def test_a_fault_is_found(monkeypatch: pytest.MonkeyPatch, fault: type[Backend], test: str) -> None:
    with pytest.raises((AssertionError, RuntimeError, pytest.fail.Exception)):
        run(monkeypatch, fault, test)


def test_a_missing_pytest_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pytest", None)
    monkeypatch.delitem(sys.modules, "mlip.testing")
    with pytest.raises(ModuleNotFoundError, match=r"mlip\.testing needs pytest, which is not installed"):
        importlib.import_module("mlip.testing")
