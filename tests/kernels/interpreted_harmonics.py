"""Triton's kernels of the spherical harmonics, interpreted on the CPU; run by test_kernels_gpu_interpreted.py."""

import pytest
import torch
from edge_cases import normal
from harmonics_cases import harmonics_table

from mlip_kernels.spherical_harmonics import KernelSphericalHarmonics, ReferenceSphericalHarmonics, gpu, op


@pytest.fixture(autouse=True)
def on_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the operations take Triton's kernels for tensors on the CPU."""
    monkeypatch.setattr(op, "kernels", lambda operation, device: gpu)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("l_max", "number"), [(0, 2), (3, 0), (3, 33), (5, 5)])
def test_values_and_derivatives_are_those_of_the_reference(l_max: int, number: int, dtype: torch.dtype) -> None:
    (directions,) = normal(1, (number, 3))
    if number:
        directions = torch.nn.functional.normalize(directions)
        directions[1] = 0.0
    results = []
    for operation, real in ((ReferenceSphericalHarmonics, torch.float64), (KernelSphericalHarmonics, dtype)):
        vectors = directions.to(real).requires_grad_()
        values = operation(harmonics_table(l_max))(vectors)
        (first,) = torch.autograd.grad(values.sin().sum() + vectors.sum(), vectors, create_graph=True)
        (second,) = torch.autograd.grad(first.sin().sum() + vectors.sum(), vectors)
        assert values.dtype == real
        results.append((values, first, second))
    for expected, actual in zip(*results, strict=True):
        tolerance = {torch.float32: 1e-5, torch.float64: 1e-12}[dtype] * expected.abs().max().item() if number else 0
        torch.testing.assert_close(actual.double(), expected, rtol=0, atol=tolerance)


def test_the_operation_is_sound() -> None:
    vectors = normal(2, (3, 3))[0].requires_grad_()
    torch.library.opcheck(op.values, (vectors, *harmonics_table(2).terms))
