"""The symmetric contraction as torch operations that differentiate into one another.

Weights and couplings are joined first, so that an output component is a polynomial of the input with coefficients per
element. Beside the polynomials and their gradients there are the derivatives of both along changes of features and
coefficients: they are what second derivatives consist of.
"""

from functools import cache
from typing import Any

import torch
from torch import Tensor

from mlip_kernels.constants import ConstantModule
from mlip_kernels.symmetric_contraction.cpu_plan import ContractionPlan, table_hash
from mlip_kernels.symmetric_contraction.table import ContractionTable
from mlip_kernels.wanted import wanted

_PLANS: dict[str, ContractionPlan] = {}


class KernelContraction(ConstantModule):
    """The function of `ReferenceContraction`, by compiled programs.

    Args:
        table: The products.
    """

    collapse: Tensor

    def __init__(self, table: ContractionTable) -> None:
        super().__init__()
        self.table = table
        self.key = table_hash(table)
        plan = ContractionPlan(table)
        # Tables of one key have equal programs, yet may have other coefficients.
        _PLANS.setdefault(self.key, plan)
        self.register_constant("collapse", torch.tensor(plan.collapse))

    def forward(self, features: Tensor, weights: Tensor, elements: Tensor) -> Tensor:
        """Contract; arguments and result are those of `ReferenceContraction.forward`."""
        return contract(features, self.collapse @ weights, elements, self.key).flatten(1)


@torch.library.custom_op("mlip_kernels::contract", mutates_args=(), device_types="cpu")
def contract(features: Tensor, coefficients: Tensor, elements: Tensor, key: str) -> Tensor:
    """Values of the polynomials of a key, [nodes, outputs, channels].

    Args:
        features: [nodes, input_components, channels].
        coefficients: [elements, rows of the plan, channels].
        elements: Number of each atom's element, int64 [nodes].
        key: Of the table.
    """
    result: Tensor = _cpu(key, features).forward(features, coefficients, elements)
    return result


@torch.library.custom_op("mlip_kernels::contract_gradients", mutates_args=(), device_types="cpu")
def gradients(
    received: Tensor, features: Tensor, coefficients: Tensor, elements: Tensor, key: str
) -> tuple[Tensor, Tensor]:
    """Gradients of `<received, contract>` for features and coefficients."""
    result: tuple[Tensor, Tensor] = _cpu(key, features).gradients(
        received, features, coefficients, elements, wanted() != "positions"
    )
    return result


@torch.library.custom_op("mlip_kernels::contract_tangent", mutates_args=(), device_types="cpu")
def tangent(
    features: Tensor,
    coefficients: Tensor,
    of_features: Tensor,
    of_coefficients: Tensor | None,
    elements: Tensor,
    key: str,
) -> Tensor:
    """Derivative of `contract` along changes of features and coefficients, None where these are constant."""
    result: Tensor = _cpu(key, features).tangent(features, coefficients, of_features, of_coefficients, elements)
    return result


@torch.library.custom_op("mlip_kernels::contract_gradients_tangent", mutates_args=(), device_types="cpu")
def gradients_tangent(
    received: Tensor,
    features: Tensor,
    coefficients: Tensor,
    of_features: Tensor,
    of_coefficients: Tensor | None,
    elements: Tensor,
    key: str,
) -> tuple[Tensor, Tensor]:
    """Derivative of `gradients` along changes of features and coefficients, None where these are constant."""
    result: tuple[Tensor, Tensor] = _cpu(key, features).gradients_tangent(
        received, features, coefficients, of_features, of_coefficients, elements
    )
    return result


def _cpu(key: str, features: Tensor) -> Any:
    return _cpu_contraction(key, features.shape[2], features.dtype)


@cache
def _cpu_contraction(key: str, channels: int, dtype: torch.dtype) -> Any:
    from mlip_kernels.symmetric_contraction.cpu import CpuContraction

    return CpuContraction(_PLANS[key].table, channels, dtype)


@contract.register_kernel("cuda")
def _(features: Tensor, coefficients: Tensor, elements: Tensor, key: str) -> Tensor:
    result: Tensor = _gpu(key, features.shape[2]).forward(features, coefficients, elements)
    return result


@gradients.register_kernel("cuda")
def _(received: Tensor, features: Tensor, coefficients: Tensor, elements: Tensor, key: str) -> tuple[Tensor, Tensor]:
    operands = (received, features, coefficients, elements)
    result: tuple[Tensor, Tensor] = _gpu(key, features.shape[2]).gradients(*operands)
    return result


@tangent.register_kernel("cuda")
def _(
    features: Tensor,
    coefficients: Tensor,
    of_features: Tensor,
    of_coefficients: Tensor | None,
    elements: Tensor,
    key: str,
) -> Tensor:
    operands = (features, coefficients, of_features, of_coefficients, elements)
    result: Tensor = _gpu(key, features.shape[2]).tangent(*operands)
    return result


@gradients_tangent.register_kernel("cuda")
def _(
    received: Tensor,
    features: Tensor,
    coefficients: Tensor,
    of_features: Tensor,
    of_coefficients: Tensor | None,
    elements: Tensor,
    key: str,
) -> tuple[Tensor, Tensor]:
    operands = (received, features, coefficients, of_features, of_coefficients, elements)
    result: tuple[Tensor, Tensor] = _gpu(key, features.shape[2]).gradients_tangent(*operands)
    return result


@cache
def _gpu(key: str, channels: int) -> Any:
    from mlip_kernels.symmetric_contraction.gpu import GpuContraction

    return GpuContraction(_PLANS[key].table, channels)


def _outputs(features: Tensor, key: str) -> Tensor:
    return features.new_empty(features.shape[0], _PLANS[key].num_outputs, features.shape[2])


def _like(*operands: Tensor) -> tuple[Tensor, ...]:
    return tuple(torch.empty_like(each, memory_format=torch.contiguous_format) for each in operands)


@contract.register_fake
def _(features: Tensor, coefficients: Tensor, elements: Tensor, key: str) -> Tensor:
    return _outputs(features, key)


@gradients.register_fake
def _(received: Tensor, features: Tensor, coefficients: Tensor, elements: Tensor, key: str) -> tuple[Tensor, ...]:
    return _like(features, coefficients)


@tangent.register_fake
def _(
    features: Tensor,
    coefficients: Tensor,
    of_features: Tensor,
    of_coefficients: Tensor | None,
    elements: Tensor,
    key: str,
) -> Tensor:
    return _outputs(features, key)


@gradients_tangent.register_fake
def _(
    received: Tensor,
    features: Tensor,
    coefficients: Tensor,
    of_features: Tensor,
    of_coefficients: Tensor | None,
    elements: Tensor,
    key: str,
) -> tuple[Tensor, ...]:
    return _like(features, coefficients)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    *tensors, ctx.key = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*tensors)


def _differentiate_contract(ctx: Any, received: Tensor | None) -> tuple[Tensor | None, ...]:
    if received is None:
        return None, None, None, None
    return *gradients(received, *ctx.saved_tensors, ctx.key), None, None


def _differentiate_gradients(ctx: Any, *cotangents: Tensor | None) -> tuple[Tensor | None, ...]:
    received, features, coefficients, elements = ctx.saved_tensors
    if all(each is None for each in cotangents):
        return (None,) * 5
    operands = features, coefficients, _given(cotangents[0], features), cotangents[1], elements, ctx.key
    of_received = tangent(*operands) if ctx.needs_input_grad[0] else None
    of_others: tuple[Tensor | None, ...] = (None, None)
    if any(ctx.needs_input_grad[1:3]):
        of_others = gradients_tangent(received, *operands)
    return of_received, *of_others, None, None


def _differentiate_tangent(ctx: Any, received: Tensor | None) -> tuple[Tensor | None, ...]:
    if received is None:
        return (None,) * 6
    features, coefficients, _, of_coefficients, elements = ctx.saved_tensors
    of_values = gradients_tangent(received, *ctx.saved_tensors, ctx.key)
    of_changes = gradients(received, features, coefficients, elements, ctx.key)
    return *of_values, of_changes[0], None if of_coefficients is None else of_changes[1], None, None


def _differentiate_gradients_tangent(ctx: Any, *cotangents: Tensor | None) -> tuple[Tensor | None, ...]:
    """Third derivatives of the polynomials, by plain torch: models need them for nothing that has to be fast."""
    received, features, coefficients, of_features, of_coefficients, elements = ctx.saved_tensors
    operands = received, features, coefficients, of_features, _given(of_coefficients, coefficients)
    again = torch.is_grad_enabled()
    polynomials = _PLANS[ctx.key]
    with torch.enable_grad():
        # Views, since one of these may have been computed from another, and partial derivatives are wanted.
        given = [each if each.requires_grad else each.detach().requires_grad_() for each in operands]
        inputs = tuple(each.view_as(each) for each in given)
        received, features, coefficients, *changes = inputs
        values = polynomial_values(polynomials, features, coefficients, elements)
        first = torch.autograd.grad(values, (features, coefficients), received, create_graph=True)
        outputs = torch.autograd.grad(first, (features, coefficients), changes, create_graph=True, allow_unused=True)
        pairs = [
            (output, cotangent)
            for output, cotangent in zip(outputs, cotangents, strict=True)
            if output is not None and cotangent is not None
        ]
        if not pairs:
            return (None,) * 7
        found, given_to_them = zip(*pairs, strict=True)
        results = torch.autograd.grad(found, inputs, given_to_them, create_graph=again, allow_unused=True)
    return *results[:4], None if of_coefficients is None else results[4], None, None


def polynomial_values(plan: ContractionPlan, features: Tensor, coefficients: Tensor, elements: Tensor) -> Tensor:
    """The function of `contract` in plain torch."""
    values = []
    own = coefficients.index_select(0, elements)
    for component in range(plan.num_outputs):
        rows = [number for number, (output, _) in enumerate(plan.rows) if output == component]
        products = [features[:, list(plan.rows[row][1])].prod(1) for row in rows]
        total = (own[:, rows] * torch.stack(products, 1)).sum(1) if rows else features.new_zeros(own[:, 0].shape)
        values.append(total)
    return torch.stack(values, 1)


def _given(tensor: Tensor | None, like: Tensor) -> Tensor:
    """The tensor, or zeros where it is not there."""
    return torch.zeros_like(like) if tensor is None else tensor


contract.register_autograd(_differentiate_contract, setup_context=_keep)
gradients.register_autograd(_differentiate_gradients, setup_context=_keep)
tangent.register_autograd(_differentiate_tangent, setup_context=_keep)
gradients_tangent.register_autograd(_differentiate_gradients_tangent, setup_context=_keep)
