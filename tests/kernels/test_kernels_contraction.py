"""Every implementation of the symmetric contraction against loops over atoms, products and monomials in numpy."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mlip_kernels.symmetric_contraction import IMPLEMENTATIONS, ContractionTable, ContractionTerm

FLOATS = st.sampled_from([torch.float32, torch.float64])


def random_table(seed: int, highest_order: int = 4) -> ContractionTable:
    """Random monomials and coefficients; some output irreps lack some orders, the last may lack all."""
    rng = np.random.default_rng(seed)
    components = int(rng.integers(1, 10))
    dims = tuple(int(2 * rng.integers(0, 3) + 1) for _ in range(rng.integers(1, 4)))
    terms = []
    offset = 0
    for output, dim in enumerate(dims):
        orders = [order for order in range(1, highest_order + 1) if rng.random() < 0.7]
        if output == 0:
            orders = sorted({*orders, 1})
        for order in orders:
            drawn = rng.integers(0, components, size=(rng.integers(1, 8), order))
            monomials = np.unique(np.sort(drawn, axis=1), axis=0)
            coefficients = rng.normal(size=(int(rng.integers(1, 4)), dim, len(monomials)))
            terms.append(ContractionTerm(output, monomials, coefficients, offset))
            offset += coefficients.shape[0]
    return ContractionTable(tuple(terms), components, dims, offset)


def random_operands(
    table: ContractionTable, num_nodes: int, channels: int, num_elements: int, seed: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(num_nodes, table.input_components, channels, generator=generator, dtype=torch.float64)
    weights = torch.randn(num_elements, table.num_weights, channels, generator=generator, dtype=torch.float64)
    elements = torch.randint(0, num_elements, (num_nodes,), generator=generator)
    return features, weights, elements


def by_loops(
    table: ContractionTable, features: torch.Tensor, weights: torch.Tensor, elements: torch.Tensor
) -> np.ndarray:
    x, w = features.numpy(), weights.numpy()
    num_nodes, _, channels = x.shape
    outputs = [np.zeros((num_nodes, dim, channels)) for dim in table.output_components]
    for term in table.terms:
        for n in range(num_nodes):
            for p, product in enumerate(term.coefficients):
                for m, monomial in enumerate(term.monomials):
                    value = w[elements[n], term.weight_offset + p].copy()
                    for component in monomial:
                        value *= x[n, component]
                    outputs[term.output][n] += product[:, m, None] * value
    return np.concatenate([output.reshape(num_nodes, np.prod(output.shape[1:])) for output in outputs], axis=1)


SIZES = {"num_nodes": st.integers(0, 4), "channels": st.integers(1, 3), "num_elements": st.integers(1, 3)}


@pytest.mark.parametrize("name", sorted(set(IMPLEMENTATIONS) - {"kernel"}))
@settings(max_examples=80)
@given(seed=st.integers(0, 10**6), dtype=FLOATS, **SIZES)
def test_equals_loops(
    name: str, seed: int, num_nodes: int, channels: int, num_elements: int, dtype: torch.dtype
) -> None:
    check_against_loops(name, seed, num_nodes, channels, num_elements, dtype)


@pytest.mark.parametrize("seed", range(5))
@settings(max_examples=20)
@given(dtype=FLOATS, **SIZES)
def test_kernel_equals_loops(seed: int, num_nodes: int, channels: int, num_elements: int, dtype: torch.dtype) -> None:
    """On few tables, since a program is compiled for each."""
    check_against_loops("kernel", seed, num_nodes, channels, num_elements, dtype)


def check_against_loops(
    name: str, seed: int, num_nodes: int, channels: int, num_elements: int, dtype: torch.dtype
) -> None:
    table = random_table(seed)
    features, weights, elements = random_operands(table, num_nodes, channels, num_elements, seed)
    output = IMPLEMENTATIONS[name](table).to(dtype)(features.to(dtype), weights.to(dtype), elements)
    assert output.dtype == dtype
    expected = by_loops(table, features, weights, elements)
    tolerance = {torch.float64: 1e-13, torch.float32: 1e-5}[dtype]
    scale = 10.0 + np.abs(expected).max(initial=0.0)
    np.testing.assert_allclose(output.double().numpy(), expected, rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
@pytest.mark.parametrize("seed", range(6))
def test_first_and_second_derivatives(name: str, seed: int) -> None:
    table = random_table(seed)
    features, weights, elements = random_operands(table, 3, 2, 2, seed)
    operation = IMPLEMENTATIONS[name](table)
    operands = (features.requires_grad_(), weights.requires_grad_())
    assert torch.autograd.gradcheck(lambda x, w: operation(x, w, elements), operands)
    assert torch.autograd.gradgradcheck(lambda x, w: operation(x, w, elements), operands, fast_mode=True)


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
def test_no_atoms(name: str) -> None:
    table = random_table(1)
    features, weights, elements = random_operands(table, 0, 2, 2, 0)
    weights.requires_grad_()
    output = IMPLEMENTATIONS[name](table)(features, weights, elements)
    assert output.shape == (0, 2 * sum(table.output_components))
    (gradient,) = torch.autograd.grad(output.sum(), weights)
    assert not gradient.any()


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
def test_double_precision_is_whole_after_a_visit_to_single(name: str) -> None:
    table = random_table(7)
    operands = random_operands(table, 4, 3, 2, 0)
    operation = IMPLEMENTATIONS[name](table)
    before = operation(*operands)
    assert torch.equal(operation.float().double()(*operands), before)
