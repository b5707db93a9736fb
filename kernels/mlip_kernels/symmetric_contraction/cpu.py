"""The symmetric contraction and its derivatives on the CPU, as compiled programs.

Tasks share out the blocks of channels, so that no two add to the same coefficients.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mlip_kernels.simd.code import Code, Index, Indices, Reals, RealType
from mlip_kernels.simd.program import Program
from mlip_kernels.simd.target import host_target
from mlip_kernels.symmetric_contraction.cpu_code import ContractionCode, ContractionLayout
from mlip_kernels.symmetric_contraction.cpu_plan import ContractionPlan, table_hash
from mlip_kernels.symmetric_contraction.table import ContractionTable

_REALS: dict[torch.dtype, RealType] = {torch.float32: "float32", torch.float64: "float64"}
# Arguments of every program: number of atoms, their order, their elements, then the operands.
_COUNT, _ORDER, _ELEMENTS, _OPERANDS = range(4)


class CpuContraction:
    """Polynomials with coefficients per element, for one number type and number of channels.

    Args:
        table: The products.
        channels: Of the input; padded to whole vectors inside.
        dtype: float32 or float64.
    """

    def __init__(self, table: ContractionTable, channels: int, dtype: torch.dtype) -> None:
        self.plan = ContractionPlan(table)
        self.dtype = dtype
        self.channels = channels
        self._lanes = host_target().lanes(_REALS[dtype])
        self._padded = -(-channels // self._lanes) * self._lanes
        layout = ContractionLayout(
            self._padded, self._padded, tuple(k * self._padded for k in range(self.plan.num_outputs))
        )
        self._code = ContractionCode(self.plan, layout, "contraction")
        self._programs: dict[tuple[str, bool], Program] = {}

    def forward(self, features: Tensor, coefficients: Tensor, elements: Tensor) -> Tensor:
        """Contract.

        Args:
            features: [nodes, input_components, channels].
            coefficients: `plan.collapse @ weights`, [elements, rows, channels].
            elements: Number of each atom's element, int64 [nodes].

        Returns:
            [nodes, num_outputs, channels].
        """
        output = self._new(features, self.plan.num_outputs)
        self._run("forward", elements, [features, coefficients], [output])
        return self._cut(output)

    def gradients(
        self, received: Tensor, features: Tensor, coefficients: Tensor, elements: Tensor, of_coefficients: bool = True
    ) -> tuple[Tensor, Tensor]:
        """Gradients of `<received, forward>` with respect to features and, if wanted, coefficients; else zeros."""
        of_features = self._new(features, self.plan.table.input_components)
        operands = [features, coefficients, received]
        if not of_coefficients:
            # No number is written there.
            self._run("gradients", elements, operands, [of_features, of_features], of_coefficients)
            return self._cut(of_features), coefficients.new_zeros(()).expand(coefficients.shape)
        of_rows = features.new_zeros(*coefficients.shape[:2], self._padded)
        self._run("gradients", elements, operands, [of_features, of_rows])
        return self._cut(of_features), self._cut(of_rows)

    def tangent(
        self,
        features: Tensor,
        coefficients: Tensor,
        feature_tangents: Tensor,
        coefficient_tangents: Tensor | None,
        elements: Tensor,
    ) -> Tensor:
        """Derivative of `forward` along changes of features and coefficients, None where these are constant."""
        output = self._new(features, self.plan.num_outputs)
        changes = coefficients if coefficient_tangents is None else coefficient_tangents
        operands = [features, coefficients, feature_tangents, changes]
        self._run("tangent", elements, operands, [output], coefficient_tangents is not None)
        return self._cut(output)

    def gradients_tangent(
        self,
        received: Tensor,
        features: Tensor,
        coefficients: Tensor,
        feature_tangents: Tensor,
        coefficient_tangents: Tensor | None,
        elements: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Derivative of `gradients` along changes of features and coefficients, None where these are constant."""
        of_features = self._new(features, self.plan.table.input_components)
        of_rows = features.new_zeros(*coefficients.shape[:2], self._padded)
        changes = coefficients if coefficient_tangents is None else coefficient_tangents
        operands = [features, coefficients, received, feature_tangents, changes]
        self._run(
            "gradients_tangent", elements, operands, [of_features, of_rows], coefficient_tangents is not None
        )  # fmt: skip
        return self._cut(of_features), self._cut(of_rows)

    def _run(
        self,
        kind: str,
        elements: Tensor,
        operands: Sequence[Tensor],
        results: Sequence[Tensor],
        of_coefficients: bool = True,
    ) -> None:
        if (kind, of_coefficients) not in self._programs:
            key = f"symmetric_contraction {kind} {of_coefficients} {self._padded} {table_hash(self.plan.table)}"
            title = f"Symmetric contraction: {kind}{'' if of_coefficients else ', coefficients constant'}."
            phase = self._phase(kind, of_coefficients)
            self._programs[kind, of_coefficients] = Program(title, key, _REALS[self.dtype], [phase])
        # Atoms of one element stand together, so that its coefficients stay in the first-level cache.
        order = torch.argsort(elements, stable=True)
        padded = [self._pad(each).contiguous() for each in operands]
        tasks = max(1, min(torch.get_num_threads(), self._padded // self._lanes))
        self._programs[kind, of_coefficients]([len(elements), order, elements, *padded, *results], tasks)

    def _phase(self, kind: str, of_coefficients: bool) -> Callable[[Code, Indices, Index, Index], None]:
        """The phase of a program: each task goes through its blocks, and through the atoms for each."""
        of_atom, of_element = "atom", "element"
        inputs, outputs = self.plan.table.input_components, self.plan.num_outputs
        # What each operand and result has one array of, and how many components that has.
        shapes = {
            "forward": [(of_atom, inputs), (of_element, 0), (of_atom, outputs)],
            "gradients": [
                (of_atom, inputs), (of_element, 0), (of_atom, outputs), (of_atom, inputs), (of_element, 0),
            ],
            "tangent": [(of_atom, inputs), (of_element, 0), (of_atom, inputs), (of_element, 0), (of_atom, outputs)],
            "gradients_tangent": [
                (of_atom, inputs), (of_element, 0), (of_atom, outputs), (of_atom, inputs), (of_element, 0),
                (of_atom, inputs), (of_element, 0),
            ],
        }[kind]  # fmt: skip
        rows = len(self.plan.rows)

        def emit(code: Code, arguments: Indices, task: Index, tasks: Index) -> None:
            if kind == "forward":
                self._code.define_forward(code)
            elif kind == "gradients":
                self._code.define_gradients(code, of_coefficients)
            elif kind == "tangent":
                self._code.define_tangent(code, of_coefficients)
            else:
                self._code.define_gradients_tangent(code, of_coefficients)
            blocks = self._padded // self._lanes
            order, elements = arguments.indices(_ORDER), arguments.indices(_ELEMENTS)
            with (
                code.loop((task * blocks) // tasks, ((task + 1) * blocks) // tasks) as block,
                code.loop(0, arguments.get(_COUNT)) as number,
            ):
                atom = order.get(number)
                element = elements.get(atom)
                operands: list[Reals] = []
                for place, (owner, components) in enumerate(shapes):
                    start = atom * (components * self._padded) if owner == of_atom else element * (rows * self._padded)
                    operands.append(arguments.reals(_OPERANDS + place).at(start + block * self._lanes))
                code.call(f"contraction_{kind}", *operands)

        return emit

    def _new(self, features: Tensor, components: int) -> Tensor:
        return features.new_empty(len(features), components, self._padded)

    def _pad(self, values: Tensor) -> Tensor:
        extra = self._padded - self.channels
        return torch.nn.functional.pad(values, (0, extra)) if extra else values

    def _cut(self, values: Tensor) -> Tensor:
        return values[..., : self.channels].contiguous() if self._padded != self.channels else values
