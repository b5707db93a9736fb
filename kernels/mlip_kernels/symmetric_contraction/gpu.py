"""The symmetric contraction on a GPU, by Triton kernels that are generated from the table.

With `F(g, x, c) = sum(g * forward(x, c))`, `gradients` gives the derivatives of F for features x and coefficients c.
For cotangents (a, b) of these, the derivatives of the gradients are derivatives along the change (a, b) of (x, c):
`tangent` for g, and `gradients_tangent` for x and c.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from mlip_kernels.gpu_compile import AMD_TARGETS, NVIDIA_TARGETS, CompileCase
from mlip_kernels.gpu_launch import launch, launch_parameters
from mlip_kernels.gpu_shapes import contraction_shape
from mlip_kernels.symmetric_contraction.cpu_plan import ContractionPlan
from mlip_kernels.symmetric_contraction.gpu_source import (
    ARGUMENT_TYPES,
    KernelShape,
    MonomialGroup,
    atom_groups,
    coefficient_groups,
    coefficients_source,
    features_source,
    forward_source,
)
from mlip_kernels.symmetric_contraction.table import ContractionTable
from mlip_kernels.triton_source import load_source

# Atoms of an element that one program takes in sums for coefficients, about, and programs for an element at most.
_ATOMS_OF_PART = 64
_MOST_PARTS = 16

_SOURCES: dict[str, Callable[[KernelShape, MonomialGroup], str]] = {
    "forward": forward_source,
    "of_features": features_source,
    "of_coefficients": coefficients_source,
}


class GpuContraction:
    """Polynomials with coefficients per element. Kernels are generated when first needed, for float32 and float64.

    Args:
        table: The products.
        channels: Of the input.
    """

    def __init__(self, table: ContractionTable, channels: int) -> None:
        self.plan = ContractionPlan(table)
        self.channels = channels
        self._kernels: dict[tuple[str, int, bool], list[Any]] = {}

    def forward(self, features: Tensor, coefficients: Tensor, elements: Tensor, order: Tensor | None = None) -> Tensor:
        """Contract.

        Args:
            features: [nodes, input_components, channels].
            coefficients: `plan.collapse @ weights`, [elements, rows, channels].
            elements: Number of each atom's element, int64 [nodes].
            order: Atoms in the order of elements, int64 [nodes]; sorted anew where it is not given.

        Returns:
            [nodes, num_outputs, channels].
        """
        order = _by_element(elements) if order is None else order
        output = features.new_zeros(len(features), self.plan.num_outputs, self.channels)
        return self._of_atoms("forward", elements, order, [features, coefficients], output, tangent=False)

    def gradients(
        self, received: Tensor, features: Tensor, coefficients: Tensor, elements: Tensor, order: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Gradients of `sum(received * forward)` with respect to features and coefficients."""
        operands = [received, features, coefficients]
        order = _by_element(elements) if order is None else order
        output = torch.zeros_like(features)
        of_features = self._of_atoms("of_features", elements, order, operands, output, tangent=False)
        return of_features, self._of_elements([received, features], coefficients, elements, order, tangent=False)

    def tangent(
        self,
        features: Tensor,
        coefficients: Tensor,
        feature_tangents: Tensor,
        coefficient_tangents: Tensor | None,
        elements: Tensor,
        order: Tensor | None = None,
    ) -> Tensor:
        """Derivative of `forward` along changes of features and coefficients, None where these are constant."""
        operands = [features, coefficients, feature_tangents, _changes(coefficient_tangents, coefficients)]
        order = _by_element(elements) if order is None else order
        output = features.new_zeros(len(features), self.plan.num_outputs, self.channels)
        return self._of_atoms("forward", elements, order, operands, output, tangent=True)

    def gradients_tangent(
        self,
        received: Tensor,
        features: Tensor,
        coefficients: Tensor,
        feature_tangents: Tensor,
        coefficient_tangents: Tensor | None,
        elements: Tensor,
        order: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Derivative of `gradients` along changes of features and coefficients, None where these are constant."""
        changes = _changes(coefficient_tangents, coefficients)
        operands = [received, features, coefficients, feature_tangents, changes]
        order = _by_element(elements) if order is None else order
        output = torch.zeros_like(features)
        of_features = self._of_atoms("of_features", elements, order, operands, output, tangent=True)
        operands = [received, features, feature_tangents]
        return of_features, self._of_elements(operands, coefficients, elements, order, tangent=True)

    def _of_atoms(
        self, name: str, elements: Tensor, order: Tensor, operands: Sequence[Tensor], output: Tensor, tangent: bool
    ) -> Tensor:
        """Run the kernels of all groups of monomials, which add to the output one after the other."""
        arguments = (elements, order, *(operand.contiguous() for operand in operands), output)
        grid = (len(order), launch_parameters(self.channels).blocks(self.channels))
        for kernel in self._kernels_of(name, output.element_size(), tangent):
            launch(kernel, grid, arguments, {})
        return output

    def _of_elements(
        self, operands: Sequence[Tensor], coefficients: Tensor, elements: Tensor, order: Tensor, tangent: bool
    ) -> Tensor:
        """Sums over the atoms of each element, [elements, rows, channels], in an order that is always the same."""
        count = len(coefficients)
        numbers = torch.arange(count + 1, device=elements.device)
        starts = torch.searchsorted(elements[order], numbers)
        parts = min(max(len(order) // (max(count, 1) * _ATOMS_OF_PART), 1), _MOST_PARTS)
        output = coefficients.new_empty(parts, *coefficients.shape)
        arguments = (order, starts, parts, *(operand.contiguous() for operand in operands), output)
        grid = (count, launch_parameters(self.channels).blocks(self.channels), parts)
        for kernel in self._kernels_of("of_coefficients", output.element_size(), tangent):
            launch(kernel, grid, arguments, {})
        return output.sum(0)

    def _kernels_of(self, name: str, itemsize: int, tangent: bool) -> list[Any]:
        key = name, itemsize, tangent
        if key not in self._kernels:
            shape = KernelShape(self.plan, self.channels, launch_parameters(self.channels).block, tangent)
            self._kernels[key] = build_kernels(name, shape, itemsize)
        return self._kernels[key]


def _by_element(elements: Tensor) -> Tensor:
    return elements.argsort(stable=True)


def build_kernels(name: str, shape: KernelShape, itemsize: int) -> list[Any]:
    """The Triton functions `name`, one of "forward", "of_features" and "of_coefficients", for numbers of some bytes."""
    plan = shape.plan
    groups = coefficient_groups(plan, itemsize) if name == "of_coefficients" else atom_groups(plan, shape.tangent)
    sources = [_SOURCES[name](shape, group) for group in groups]
    return [getattr(load_source(f"contraction_{name}", source), name) for source in sources]


def compile_cases() -> list[CompileCase]:
    """All kernels for the contractions of a MACE of 128 channels, l_max 3 and three factors, in float32."""
    cases: list[CompileCase] = []
    for lanes, targets in ((32, NVIDIA_TARGETS), (64, AMD_TARGETS)):
        for title, outputs in (("0e_1o", (0, 1)), ("0e", (0,))):
            plan = ContractionPlan(contraction_shape(3, outputs, 3))
            for tangent in (False, True):
                parameters = launch_parameters(128, lanes)
                shape = KernelShape(plan, 128, parameters.block, tangent)
                for name in _SOURCES:
                    for number, kernel in enumerate(build_kernels(name, shape, 4)):
                        types = {argument: ARGUMENT_TYPES.get(argument, "*fp32") for argument in kernel.arg_names}
                        kind = f"{name}_tangent" if tangent else name
                        label = f"contraction_{title}_{kind}_{number}_lanes_{lanes}"
                        cases.append(CompileCase(label, kernel, types, {}, parameters.num_warps, targets))
    return cases


def _changes(tangents: Tensor | None, coefficients: Tensor) -> Tensor:
    return torch.zeros_like(coefficients) if tangents is None else tangents
