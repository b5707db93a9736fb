"""Coupling paths against e3nn's own tensor product and the published counts."""

import pytest
from e3nn import o3

from mlip.so3 import coupling_paths


@pytest.mark.parametrize(("l_max", "to_double", "to_same"), [(1, 6, 5), (2, 19, 15), (3, 44, 34), (4, 85, 65)])
def test_path_counts_between_all_degrees(l_max: int, to_double: int, to_same: int) -> None:
    inputs = "+".join(f"{degree}e" for degree in range(l_max + 1))
    assert len(coupling_paths(inputs, inputs, "+".join(f"{degree}e" for degree in range(2 * l_max + 1)))) == to_double
    assert len(coupling_paths(inputs, inputs, inputs)) == to_same


@pytest.mark.parametrize(
    ("irreps1", "irreps2", "wanted"),
    [("2x0e+1o", "0e+1o+2e", "0e+1o+1e+2e"), ("1e+1o+1e", "1o+3o", "2o+2e+4e"), ("0o", "0e", "0e")],
)
def test_paths_are_those_of_e3nn(irreps1: str, irreps2: str, wanted: str) -> None:
    paths = coupling_paths(irreps1, irreps2, wanted)
    product = o3.FullTensorProduct(irreps1, irreps2, filter_ir_out=[ir for _, ir in o3.Irreps(wanted)])
    expected = {(i.i_in1, i.i_in2, str(product.irreps_out[i.i_out].ir)) for i in product.instructions}
    assert {(path.index_in1, path.index_in2, str(path.irrep_out)) for path in paths} == expected
    assert len(paths) == len(expected)


def test_order_is_fixed() -> None:
    paths = coupling_paths("1o+0e", "1o+0e", "2e+1e+1o+0e")
    assert [(path.index_in1, path.index_in2, str(path.irrep_out)) for path in paths] == [
        (0, 0, "0e"),
        (0, 0, "1e"),
        (0, 0, "2e"),
        (0, 1, "1o"),
        (1, 0, "1o"),
        (1, 1, "0e"),
    ]
    assert str(paths[0].irrep_in1) == str(paths[0].irrep_in2) == "1o"
