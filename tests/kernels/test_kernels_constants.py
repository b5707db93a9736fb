"""Coupling constants survive every change of dtype, and stay out of the state dict."""

import copy
import io
from fractions import Fraction

import pytest
import torch

from mlip_kernels.constants import ConstantModule

EXACT = torch.tensor([float(Fraction(1, 3)), 0.1, 1e-300, -2.0 / 7.0], dtype=torch.float64)


def module() -> ConstantModule:
    constants = ConstantModule()
    constants.register_constant("coefficients", EXACT.clone())
    return constants


def test_there_and_back_is_exact() -> None:
    constants = module()
    for _ in range(3):
        constants.float()
        assert torch.equal(constants.coefficients, EXACT.to(torch.float32))
        constants.double()
        assert constants.coefficients.dtype == torch.float64
        assert torch.equal(constants.coefficients, EXACT)


def test_inside_another_module_and_after_a_copy() -> None:
    outer = torch.nn.Sequential(module(), torch.nn.Linear(2, 2))
    narrow = copy.deepcopy(outer.to(torch.float32))
    assert torch.equal(narrow.double()[0].coefficients, EXACT)
    assert outer[0].coefficients.dtype == torch.float32


def test_are_no_part_of_the_state() -> None:
    constants = module()
    assert not constants.state_dict()
    file = io.BytesIO()
    torch.save(constants.state_dict(), file)
    constants.load_state_dict({})
    assert torch.equal(constants.coefficients, EXACT)


def test_writing_into_the_given_tensor_or_the_buffer_does_not_change_the_constant() -> None:
    constants = module()
    constants.coefficients.zero_()
    assert torch.equal(constants.double().coefficients, EXACT)


def test_a_constant_of_less_precision_is_refused() -> None:
    with pytest.raises(TypeError, match="float64"):
        ConstantModule().register_constant("coefficients", torch.ones(2, dtype=torch.float32))
