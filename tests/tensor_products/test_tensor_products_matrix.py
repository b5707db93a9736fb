"""Products of spin matrices."""

import itertools

import pytest
import torch
from e3nn.o3 import Irrep
from torch.utils.flop_counter import FlopCounterMode

from mlip.tensor_products import ProductSpec
from mlip.tensor_products.matrix import SpinMatrix


def spec_of(*irreps: str) -> ProductSpec:
    first, second, third = (tuple(Irrep(each) for each in operand.split("+")) for operand in irreps)
    return ProductSpec(first, second, third, "matrix", "none")


def degrees(l_max: int, natural: bool) -> str:
    """Every degree once, even or with its natural parity."""
    return "+".join(f"{degree}{'o' if natural and degree % 2 else 'e'}" for degree in range(l_max + 1))


def error(spec: ProductSpec, channels_in2: int) -> float:
    """Of a product of normal operands, relative to the sum over paths."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, spec.dims[0], 2, generator=generator, dtype=torch.float64)
    y = torch.randn(2, spec.dims[1], channels_in2, generator=generator, dtype=torch.float64)
    expected = torch.einsum("bic,bjc,ijk->bkc", x, y.expand(-1, -1, 2), torch.tensor(spec.tensor()))
    return float((SpinMatrix(spec)(x, y, None) - expected).norm() / expected.norm())


@pytest.mark.parametrize("natural", [False, True])
def test_all_degrees_up_to_six(natural: bool) -> None:
    for triple in itertools.product(range(7), repeat=3):
        spec = spec_of(*(degrees(l_max, natural) for l_max in triple))
        assert max(error(spec, 1), error(spec, 2)) <= 1e-12, triple


# The coupling of degrees (3, 5, 5) vanishes for spin 3, and that of (5, 6, 7) for spin 4.
@pytest.mark.parametrize(
    ("irreps", "signals"),
    [
        (("3e+1o", "5e+4o", "5e+4e"), 2),
        (("3e", "5e", "4e+5e+6e"), 1),
        # Inversion forbids what the zero of the 6j symbol forbids already.
        (("3o", "5o", "6e+5o"), 1),
        (("5o+0e", "6e+7o", "7o+7e+8e"), 2),
    ],
)
def test_degrees_that_do_not_couple_by_accident(irreps: tuple[str, str, str], signals: int) -> None:
    spec = spec_of(*irreps)
    reached = [(path.irrep_in1.l, path.irrep_in2.l, path.irrep_out.l) for path in spec.paths]
    assert not {(3, 5, 5), (5, 6, 7)} & set(reached)
    assert SpinMatrix(spec).shape == (signals, 2 * spec.spin + 1, 2 * spec.spin + 1)
    assert max(error(spec, 1), error(spec, 2)) <= 1e-12


@pytest.mark.parametrize("channels_in2", [1, 4])
@pytest.mark.parametrize("natural", [False, True])
def test_flops_are_those_that_torch_counts(channels_in2: int, natural: bool) -> None:
    spec = spec_of(degrees(3, natural), degrees(2, natural), degrees(4, natural))
    product = SpinMatrix(spec)
    x, y = torch.zeros(3, spec.dims[0], 4), torch.zeros(3, spec.dims[1], channels_in2)
    with FlopCounterMode(display=False) as counter:
        product(x, y, None)
    assert counter.get_total_flops() == product.flops(3, 4, channels_in2)
