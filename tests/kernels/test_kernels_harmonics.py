"""The kernels of the spherical harmonics against e3nn, finite differences and the reference."""

import e3nn.o3
import pytest
import torch
from edge_cases import normal
from harmonics_cases import harmonics_table

from mlip_kernels.spherical_harmonics import IMPLEMENTATIONS, HarmonicsTable, op

L_MAX = 4


def lengthy_vectors(number: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """Of lengths from 0.1 to 10."""
    vectors, lengths = normal(number, (number, 3), (number, 1))
    return (vectors * (10 ** lengths.clamp(-1, 1))).to(dtype)


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
@pytest.mark.parametrize("l_max", [0, 1, 3, 6])
@pytest.mark.parametrize("number", [0, 1, 64, 130])
def test_is_what_e3nn_computes(name: str, l_max: int, number: int) -> None:
    vectors = lengthy_vectors(number)
    expected = e3nn.o3.spherical_harmonics(list(range(l_max + 1)), vectors, normalize=True, normalization="component")
    operation = IMPLEMENTATIONS[name](harmonics_table(l_max))
    torch.testing.assert_close(operation(vectors), expected, rtol=0, atol=1e-12)
    single = operation(vectors.float())
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
def test_derivatives_of_first_and_second_order(name: str) -> None:
    operation = IMPLEMENTATIONS[name](harmonics_table(L_MAX))
    vectors = normal(3, (3, 3))[0].requires_grad_()
    assert torch.autograd.gradcheck(operation, vectors)
    assert torch.autograd.gradgradcheck(operation, vectors)


def test_derivatives_up_to_the_fourth_order_are_those_of_the_reference() -> None:
    results = []
    for operation in IMPLEMENTATIONS.values():
        vectors = torch.nn.functional.normalize(normal(4, (70, 3))[0]).mul(1.5).requires_grad_()
        total = operation(harmonics_table(L_MAX))(vectors).pow(3).sum()
        for _ in range(4):
            (gradient,) = torch.autograd.grad(total, vectors, create_graph=True)
            total = gradient.pow(2).sum()
            results.append(gradient)
    for first, second in zip(results[:4], results[4:], strict=True):
        torch.testing.assert_close(second, first, rtol=0, atol=1e-11 * first.abs().max().item())


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
def test_a_zero_vector_has_no_direction_and_zero_derivatives(name: str) -> None:
    vectors = torch.zeros(2, 3, dtype=torch.float64, requires_grad=True)
    values = IMPLEMENTATIONS[name](harmonics_table(3))(vectors)
    assert torch.equal(values, torch.eye(16, dtype=torch.float64)[[0, 0]])
    (gradient,) = torch.autograd.grad(values.sin().sum(), vectors, create_graph=True)
    (second,) = torch.autograd.grad(gradient.sin().sum() + gradient.pow(2).sum(), vectors)
    assert not gradient.any()
    assert not second.any()


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
def test_what_is_no_number_stays_none(name: str) -> None:
    vectors = torch.ones(3, 3, dtype=torch.float32)
    vectors[1, 2] = torch.nan
    isnan = IMPLEMENTATIONS[name](harmonics_table(2))(vectors).isnan()
    assert isnan.any(1).tolist() == [False, True, False]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_operations_are_sound(dtype: torch.dtype) -> None:
    vectors, gradient, cotangent = normal(5, (5, 3), (5, 9), (5, 3), dtype=dtype)
    tensors = [each.requires_grad_() for each in (vectors, gradient, cotangent)]
    terms = harmonics_table(2).terms
    torch.library.opcheck(op.values, (*tensors[:1], *terms))
    torch.library.opcheck(op.backward, (*tensors[:2], *terms))
    # Its derivatives are taken within its backward, which tracing does not follow.
    torch.library.opcheck(op.second, (*tensors, *terms), test_utils=("test_schema", "test_faketensor"))


def test_results_do_not_depend_on_threads_or_repetition() -> None:
    vectors, gradient, cotangent = normal(6, (500, 3), (500, 16), (500, 3), dtype=torch.float32)
    terms = harmonics_table(3).terms
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 2):
            torch.set_num_threads(threads)
            found = op.values(vectors, *terms), op.backward(vectors, gradient, *terms)
            results.append([*found, *op.second(vectors, gradient, cotangent, *terms)])
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(first, second) for first, second in zip(results[0], other, strict=True))


def test_a_table_survives_its_terms() -> None:
    table = harmonics_table(4)
    again = HarmonicsTable.from_terms(*table.terms)
    assert again.terms == table.terms
    assert all((one == other).all() for one, other in zip(table.raisings, again.raisings, strict=True))


def test_a_table_of_the_wrong_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="from degree 1 to the next"):
        HarmonicsTable(harmonics_table(1).raisings * 2)
