"""Signals that know degrees only, lifted to entries of any parity and number, against the sum over paths."""

import numpy as np
import pytest
from e3nn.o3 import Irrep

from mlip.tensor_products import ProductSpec
from mlip.tensor_products.couplings import Coupling, couples, coupling_tensor
from mlip.tensor_products.sectors import components, sectors


def spec_of(in1: str, in2: str, out: str, coupling: Coupling) -> ProductSpec:
    first, second, third = (tuple(Irrep(each) for each in irreps.split("+")) for irreps in (in1, in2, out))
    return ProductSpec(first, second, third, coupling, "none")


def of_degrees(l_max: tuple[int, int, int], coupling: Coupling, spin: int) -> np.ndarray:
    """Coefficients [(L1 + 1)², (L2 + 1)², (L3 + 1)²] of a product that knows each degree once and no parity."""
    tensor = np.zeros([(degree + 1) ** 2 for degree in l_max])
    for l1 in range(l_max[0] + 1):
        for l2 in range(l_max[1] + 1):
            for l3 in range(l_max[2] + 1):
                if couples(coupling, l1, l2, l3, spin):
                    block = tuple(slice(each**2, (each + 1) ** 2) for each in (l1, l2, l3))
                    tensor[block] = coupling_tensor(coupling, l1, l2, l3, spin)
    return tensor


def lifted(spec: ProductSpec) -> tuple[np.ndarray, int]:
    """The coefficients of a spec by way of degrees, and the number of signals."""
    made = sectors(spec, lambda l1, l2, l3: couples(spec.coupling, l1, l2, l3, spec.spin))
    # Each degree's identity as the table: the signal's components are superposed entries.
    first, second, third = (
        made.lift(operand, np.eye((l_max + 1) ** 2), spec) for operand, l_max in enumerate(spec.l_max)
    )
    tensor = of_degrees(spec.l_max, spec.coupling, spec.spin)
    return np.einsum("sai,sbj,sck,abc->ijk", first, second, third, tensor, optimize=True), len(first)


@pytest.mark.parametrize(
    ("irreps", "coupling", "signals"),
    [
        # Degrees alone keep to what inversion allows: natural parities and even sums, or everything even.
        (("0e+1o+2e", "0e+1o+2e", "0e+1o+2e"), "gaunt", 1),
        (("0e+1e+2e", "0e+1e+2e", "0e+1e+2e"), "gaunt+bracket", 1),
        (("0e+1o+2e", "0e+1o+2e", "0o+1e+2o"), "bracket", 1),
        (("1o+1o", "0e+1o+0e", "0e+2e+0e"), "gaunt", 1),
        # (1, 1, 1) would lead from two vectors to a vector.
        (("0e+1o", "0e+1o", "0e+1o"), "gaunt+bracket", 2),
        (("0e+1o", "0e+1o", "0e+1o"), "matrix", 2),
        (("0e+0o", "0e", "0e+0o"), "gaunt", 2),
        (("0e+1o+1e+1o", "1o+1e+0o", "2e+0e+1o+1e+0o+2o"), "clebsch_gordan", 2),
        (("2o+1e", "2e+1o+2o", "0e+3o+0o"), "gaunt+bracket", 2),
    ],
)
def test_lifted_products_are_the_sum_over_paths(irreps: tuple[str, str, str], coupling: Coupling, signals: int) -> None:
    spec = spec_of(*irreps, coupling)
    tensor, count = lifted(spec)
    assert count == signals
    np.testing.assert_allclose(tensor, spec.tensor(), rtol=0, atol=1e-14)


def test_only_couplings_that_meet_in_the_irreps_are_asked_about() -> None:
    asked = []

    def record(l1: int, l2: int, l3: int) -> bool:
        asked.append((l1, l2, l3))
        return False

    made = sectors(spec_of("0e+3o", "1o", "2e+1e", "clebsch_gordan"), record)
    assert len(made.in1) == 1
    # (0, 1, 1) to 1e is forbidden by inversion; (3, 1, 1) breaks the triangle inequality; (3, 1, 2) is allowed.
    assert asked == [(0, 1, 1)]


@pytest.mark.parametrize("dtype", [np.float64, np.complex128])
def test_tables_are_laid_out_entry_by_entry(dtype: type) -> None:
    spec = spec_of("1o+0e+1o", "0e", "1o+0e", "gaunt")
    assert components(spec, 0).tolist() == [1, 2, 3, 0, 1, 2, 3]
    made = sectors(spec, lambda *degrees: True)
    table = np.arange(8).reshape(2, 4).astype(dtype)
    rows = made.lift(0, table, spec)
    assert rows.shape == (1, 2, 7)
    assert rows.dtype == dtype
    assert rows[0, 1].tolist() == [5, 6, 7, 4, 5, 6, 7]
