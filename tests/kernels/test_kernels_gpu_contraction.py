"""The contraction's Triton kernels: their checks in the interpreter, and how monomials share out among them."""

from math import comb

import pytest
from gpu_interpreter import run_interpreted

from mlip_kernels.gpu_shapes import contraction_shape
from mlip_kernels.symmetric_contraction.cpu_plan import ContractionPlan
from mlip_kernels.symmetric_contraction.gpu_source import atom_groups, coefficient_groups, monomial_groups


def test_kernels_in_the_interpreter() -> None:
    run_interpreted("gpu_contraction_checks.py")


@pytest.mark.parametrize("limit", [1, 10, 64, 10**6])
def test_groups_hold_each_coefficient_once(limit: int) -> None:
    plan = ContractionPlan(contraction_shape(2, (0, 1, 2), 3))
    groups = monomial_groups(plan, limit)
    outputs: set[int] = set()
    inputs: set[int] = set()
    rows = {}
    for group in groups:
        assert (group.earlier_outputs, group.earlier_inputs) == (outputs, inputs)
        outputs.update(group.outputs)
        inputs.update(group.inputs)
        assert not rows.keys() & group.rows.keys()
        rows |= group.rows
    assert rows == plan.row_numbers
    if limit == 10**6:
        assert len(groups) == 1


def test_groups_of_a_usual_mace_are_of_equal_size() -> None:
    plan = ContractionPlan(contraction_shape(3, (0, 1), 3))
    for groups, limit in (
        (atom_groups(plan, False), 128),
        (atom_groups(plan, True), 48),
        (coefficient_groups(plan, 4), 96),
        (coefficient_groups(plan, 8), 48),
    ):
        sizes = [sum(map(len, group.rows.values())) for group in groups]
        assert len(sizes) == -(-len(plan.rows) // limit)
        # A group may pass the limit by what belongs to one pair of factors.
        assert max(sizes) <= limit + 16


def test_selection_rules_of_shapes() -> None:
    """Without a highest order, for l = 1 alone: even products have parts in 0e, and odd ones in 1o."""
    plan = ContractionPlan(contraction_shape(0, (0,), 3))
    assert list(plan.row_numbers) == [(0,), (0, 0), (0, 0, 0)]
    plan = ContractionPlan(contraction_shape(1, (0,), 2))
    # Of l = 1 only squares: x·y and the like have l = 2.
    assert sorted(plan.row_numbers) == [(0,), (0, 0), (1, 1), (2, 2), (3, 3)]
    assert len(plan.rows) < comb(5, 2) + 4
