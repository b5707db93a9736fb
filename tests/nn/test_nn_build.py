"""Which building block a configured product gets."""

import pytest
import torch
from e3nn.o3 import Irreps

from mlip.nn import Convolution, SymmetricContraction
from mlip.nn.build import build_contraction, build_convolution
from mlip.nn.convolution import ESCN_FROM_DEGREE
from mlip.nn.degree_contraction import DegreeContraction
from mlip.nn.layout import natural_irreps
from mlip.nn.product_choice import ProductChoice
from mlip.nn.summed_convolution import SummedConvolution
from mlip.so3 import spherical_harmonics
from mlip_kernels.channelwise_convolution import BlockedConvolution, ESCNConvolution, KernelConvolution
from mlip_kernels.edges import EdgeTopology
from mlip_kernels.symmetric_contraction import KernelContraction, MonomialContraction


@pytest.mark.parametrize(
    ("feature_degree", "harmonic_degree", "operation"),
    [
        (ESCN_FROM_DEGREE, ESCN_FROM_DEGREE, ESCNConvolution),
        (ESCN_FROM_DEGREE - 1, ESCN_FROM_DEGREE, KernelConvolution),
        (ESCN_FROM_DEGREE, ESCN_FROM_DEGREE - 1, KernelConvolution),
    ],
)
def test_high_degrees_turn_edges_to_the_pole(
    feature_degree: int, harmonic_degree: int, operation: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLIP_KERNELS", raising=False)
    irreps = natural_irreps(1, feature_degree)
    convolution = build_convolution(irreps, harmonic_degree, Irreps("1x0e"), [2], ProductChoice())
    assert isinstance(convolution.operation, operation)


def test_kernels_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    irreps = Irreps("2x0e+2x1o")
    for variable, convolution, contraction in (
        ("reference", BlockedConvolution, MonomialContraction),
        ("", KernelConvolution, KernelContraction),
    ):
        monkeypatch.setenv("MLIP_KERNELS", variable)
        assert isinstance(build_convolution(irreps, 1, irreps, [2], ProductChoice()).operation, convolution)
        assert isinstance(build_contraction(1, 2, irreps, 2, 1, ProductChoice()).operation, contraction)


def test_programs_of_minutes_to_compile_are_avoided() -> None:
    operation = build_contraction(3, 2, Irreps("2x0e+2x1o"), 4, 1, ProductChoice()).operation
    assert isinstance(operation, MonomialContraction)


def test_algorithms_of_the_convolution_compute_the_same() -> None:
    irreps = natural_irreps(2, 2)
    edges = EdgeTopology(torch.tensor([1, 2, 0, 1]), torch.tensor([0, 0, 1, 2]), 3)
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(4, 3, generator=generator, dtype=torch.float64)
    features = torch.randn(3, irreps.dim, generator=generator, dtype=torch.float64)
    radial = torch.randn(4, 2, generator=generator, dtype=torch.float64)
    results = []
    for algorithm in ("reference", "blocked", "escn", "kernel"):
        torch.manual_seed(1)
        choice = ProductChoice(options={"algorithm": algorithm})
        convolution = build_convolution(irreps, 2, irreps, [2], choice).double()
        results.append(convolution(features, spherical_harmonics(2, vectors), radial, edges))
    for result in results[1:]:
        assert torch.allclose(results[0], result, rtol=0, atol=1e-13)


def test_weights_decide_between_paths_apart_and_summed() -> None:
    irreps = Irreps("2x0e+2x1o")
    summed = ProductChoice("spherical_grid", "gaunt", "shared")
    assert isinstance(build_convolution(irreps, 1, irreps, [2], ProductChoice()), Convolution)
    assert isinstance(build_convolution(irreps, 1, irreps, [2], summed), SummedConvolution)
    assert isinstance(build_contraction(1, 2, irreps, 2, 1, ProductChoice()), SymmetricContraction)
    assert isinstance(build_contraction(1, 2, irreps, 2, 1, summed), DegreeContraction)
