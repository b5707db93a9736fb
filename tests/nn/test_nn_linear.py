"""Equivariant linear maps against those of e3nn, with the weights carried over."""

import math

import pytest
import torch
from e3nn import o3
from e3nn_layout import from_e3nn, to_e3nn
from hypothesis import given, settings
from hypothesis import strategies as st

from mlip.nn import ElementGroups, ElementLinear, EquivariantLinear
from mlip.nn.layout import blocks, canonical_irreps

CASES = [
    ("4x0e", "3x0e"),
    ("4x0e+3x1o", "2x0e+5x1o"),
    ("3x0e+2x0o+4x1o+1x1e+2x2e+3x3o", "5x0e+3x0o+2x1o+2x1e+4x2e+1x3o"),
    ("4x0e+2x1o", "3x0e+2x2e"),
    ("2x1o", "3x0e+2x1o+1x1e"),
]


@pytest.mark.parametrize(("irreps_in", "irreps_out"), CASES)
def test_linear_equals_e3nn(irreps_in: str, irreps_out: str, e3nn_in_double: None) -> None:
    source, target = canonical_irreps(irreps_in), canonical_irreps(irreps_out)
    linear = EquivariantLinear(source, target).double()
    reference = o3.Linear(source, target)
    for _, instruction, weight in reference.weight_views(yield_instruction=True):
        weight.data.copy_(linear.weights[str(target[instruction.i_out].ir)])
    assert sum(weight.numel() for weight in linear.weights.values()) == reference.weight.numel()
    features = torch.randn(7, source.dim)
    expected = from_e3nn(reference(to_e3nn(features, source)), target)
    torch.testing.assert_close(linear(features), expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize(("irreps_in", "irreps_out"), CASES)
@pytest.mark.parametrize("num_elements", [1, 3])
def test_element_linear_equals_a_product_with_the_one_hot_element(
    irreps_in: str, irreps_out: str, num_elements: int, e3nn_in_double: None
) -> None:
    source, target = canonical_irreps(irreps_in), canonical_irreps(irreps_out)
    linear = ElementLinear(source, target, num_elements).double()
    reference = o3.FullyConnectedTensorProduct(source, f"{num_elements}x0e", target)
    for _, instruction, weight in reference.weight_views(yield_instruction=True):
        ours = linear.weights[str(target[instruction.i_out].ir)]
        weight.data.copy_(ours.transpose(0, 1) * math.sqrt(num_elements))
    elements = torch.randint(0, num_elements, (9,))
    features = torch.randn(9, source.dim)
    one_hot = torch.nn.functional.one_hot(elements, num_elements).double()
    expected = from_e3nn(reference(to_e3nn(features, source), one_hot), target)
    result = linear(features, ElementGroups.from_elements(elements, num_elements))
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-13)


@settings(max_examples=30)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=12))
def test_element_linear_is_one_matrix_per_atom(elements: list[int]) -> None:
    """Elements that are missing, in any order, and atoms alone of their kind."""
    source, target = canonical_irreps("3x0e+2x1o"), canonical_irreps("2x0e+4x1o")
    linear = ElementLinear(source, target, 5).double()
    features = torch.randn(len(elements), source.dim, dtype=torch.float64)
    result = linear(features, ElementGroups.from_elements(torch.tensor(elements), 5))
    for atom, element in enumerate(elements):
        row = features[atom : atom + 1]
        parts = [
            (before.of(row) @ linear.weights[str(after.irrep)][element] / math.sqrt(before.channels)).flatten()
            for before, after in zip(blocks(source), blocks(target), strict=True)
        ]
        torch.testing.assert_close(result[atom], torch.cat(parts), rtol=0, atol=1e-14)


@given(st.lists(st.integers(0, 3), max_size=12))
def test_groups_sort_and_restore(elements: list[int]) -> None:
    numbers = torch.tensor(elements, dtype=torch.int64)
    groups = ElementGroups.from_elements(numbers, 4)
    assert groups.counts == [elements.count(element) for element in range(4)]
    assert numbers[groups.order].tolist() == sorted(elements)
    assert torch.equal(groups.order[groups.inverse], torch.arange(len(elements)))


def test_derivatives_of_the_element_linear() -> None:
    source, target = canonical_irreps("2x0e+1x1o"), canonical_irreps("1x0e+2x1o+1x2e")
    linear = ElementLinear(source, target, 3).double()
    groups = ElementGroups.from_elements(torch.tensor([2, 0, 2]), 3)
    features = torch.randn(3, source.dim, dtype=torch.float64, requires_grad=True)
    names, weights = zip(*linear.named_parameters(), strict=True)

    def mapped(x: torch.Tensor, *values: torch.Tensor) -> torch.Tensor:
        parameters = dict(zip(names, values, strict=True))
        return torch.func.functional_call(linear, parameters, (x, groups))

    assert torch.autograd.gradcheck(mapped, (features, *weights))
    assert torch.autograd.gradgradcheck(mapped, (features, *weights))
