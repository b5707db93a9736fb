"""Triton source of the symmetric contraction: straight lines of code, generated from the tree of its monomials.

For every element and channel an output component is a polynomial in the input components. Polynomials are evaluated in
Horner's form from the leaves of the tree, and their derivatives in the reverse order. A kernel has one atom (or one
element) and one block of channels in a program, channels along the lanes.

Kernels for tangents come from the same generators by dual numbers: what a name stands for has a tangent, `d<name>`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from mlip_kernels.symmetric_contraction.cpu_plan import ContractionPlan, Monomial
from mlip_kernels.triton_source import KernelText

# Coefficients that a kernel which keeps none in registers goes through: what the compiler takes grows faster than that.
_ROWS = 128
_ROWS_WITH_TANGENTS = 48
# Bytes, a lane, of the sums that a kernel keeps for coefficients.
_SUMS = 384

_INDICES = ("elements", "order", "element_starts")
ARGUMENT_TYPES = dict.fromkeys(_INDICES, "*i64") | {"parts": "i32"}
_TANGENTS = ("feature_tangents", "coefficient_tangents")

# A product, by the names of its factors.
Term = tuple[str, ...]


@dataclass(frozen=True)
class MonomialGroup:
    """Monomials whose coefficients one kernel goes through.

    Attributes:
        rows: For each monomial, the row of the coefficients of each output component that has it.
        earlier_outputs: Output components of the groups before.
        earlier_inputs: Input components in the monomials of the groups before.
    """

    rows: dict[Monomial, dict[int, int]]
    earlier_outputs: frozenset[int]
    earlier_inputs: frozenset[int]

    @cached_property
    def children(self) -> dict[Monomial, list[int]]:
        """Factors that follow each beginning of a monomial, ascending."""
        children: dict[Monomial, set[int]] = {}
        for monomial in self.rows:
            for length in range(len(monomial)):
                children.setdefault(monomial[:length], set()).add(monomial[length])
        return {prefix: sorted(factors) for prefix, factors in children.items()}

    @cached_property
    def outputs(self) -> list[int]:
        """Output components, ascending."""
        return sorted({output for rows in self.rows.values() for output in rows})

    @cached_property
    def inputs(self) -> list[int]:
        """Input components, ascending."""
        return sorted({factor for monomial in self.rows for factor in monomial})


def monomial_groups(plan: ContractionPlan, limit: int) -> list[MonomialGroup]:
    """All monomials in groups of equal size with `limit` coefficients, or little more; first factors stay together."""
    beginnings: dict[Monomial, dict[Monomial, dict[int, int]]] = {}
    for monomial in sorted(plan.row_numbers):
        beginnings.setdefault(monomial[:2], {})[monomial] = plan.row_numbers[monomial]
    count = -(-len(plan.rows) // limit)
    parts: list[dict[Monomial, dict[int, int]]] = [{} for _ in range(count)]
    passed = 0
    for rows in beginnings.values():
        parts[passed * count // len(plan.rows)].update(rows)
        passed += sum(map(len, rows.values()))
    groups: list[MonomialGroup] = []
    for part in filter(None, parts):
        outputs = frozenset(output for group in groups for output in group.outputs)
        inputs = frozenset(factor for group in groups for factor in group.inputs)
        groups.append(MonomialGroup(part, outputs, inputs))
    return groups


def atom_groups(plan: ContractionPlan, tangent: bool) -> list[MonomialGroup]:
    """Groups for `forward_source` and `features_source`."""
    return monomial_groups(plan, _ROWS_WITH_TANGENTS if tangent else _ROWS)


def coefficient_groups(plan: ContractionPlan, itemsize: int) -> list[MonomialGroup]:
    """Groups for `coefficients_source` with numbers of `itemsize` bytes."""
    return monomial_groups(plan, _SUMS // itemsize)


@dataclass(frozen=True)
class KernelShape:
    """What a kernel of the contraction is generated for.

    Attributes:
        plan: Polynomials.
        channels: Channels of the operands.
        block: Channels of a program.
        tangent: Whether the kernel gives the derivative along a change of features and coefficients.
    """

    plan: ContractionPlan
    channels: int
    block: int
    tangent: bool

    @property
    def tangent_arguments(self) -> tuple[str, ...]:
        """Arguments for that change."""
        return _TANGENTS if self.tangent else ()


class DualText(KernelText):
    """A kernel's text in which sums of products have tangents, if the kernel is to give some.

    Names in the text: `a<component>` for features, `c<row>` for coefficients, `g<component>` for what is received.
    """

    def __init__(self, name: str, arguments: Sequence[str], shape: KernelShape) -> None:
        super().__init__(name, arguments, shape.channels, shape.block, ["parts"] if "parts" in arguments else [])
        self.shape = shape

    def result(self, name: str) -> str:
        """What a kernel gives: a value or its tangent."""
        return f"d{name}" if self.shape.tangent else name

    def set(self, name: str, terms: Sequence[Term], add: bool = False) -> None:
        """Let `name` be a sum of products, or add this sum to it."""
        sign = "+=" if add else "="
        if self.shape.tangent:
            tangents = [
                " * ".join([*term[:place], f"d{factor}", *term[place + 1 :]])
                for term in terms
                for place, factor in enumerate(term)
                # What is received does not change.
                if not factor.startswith("g")
            ]
            self.add(f"d{name} {sign} {' + '.join(tangents)}")
        self.add(f"{name} {sign} {' + '.join(' * '.join(term) for term in terms)}")

    def load_features(self, inputs: Sequence[int]) -> None:
        """Define the features of `node`."""
        components, channels = self.shape.plan.table.input_components, self.shape.channels
        arrays = {"a": "features", "da": "feature_tangents"} if self.shape.tangent else {"a": "features"}
        self.add(f"place = node * {components * channels} + channel")
        for name, array in arrays.items():
            for component in inputs:
                self.define(f"{name}{component}", self.load(f"{array} + place + {component * channels}"))

    def load_coefficients(self, group: MonomialGroup) -> None:
        """Define the coefficients of the element of `node`."""
        rows, channels = len(self.shape.plan.rows), self.shape.channels
        arrays = {"c": "coefficients", "dc": "coefficient_tangents"} if self.shape.tangent else {"c": "coefficients"}
        self.add(f"table = tl.load(elements + node) * {rows * channels} + channel")
        for name, array in arrays.items():
            for row in (row for of_monomial in group.rows.values() for row in of_monomial.values()):
                self.define(f"{name}{row}", self.load(f"{array} + table + {row * channels}"))

    def load_received(self, outputs: Sequence[int]) -> None:
        """Define what `node` receives."""
        self.add(f"source = received + node * {self.shape.plan.num_outputs * self.shape.channels} + channel")
        for output in outputs:
            self.define(f"g{output}", self.load(f"source + {output * self.shape.channels}"))

    def store_all(self, array: str, components: int, names: dict[int, str], earlier: frozenset[int]) -> None:
        """Store components of `node`, added to what earlier groups have stored."""
        self.add(f"target = {array} + node * {components * self.shape.channels} + channel")
        for component, name in names.items():
            pointer = f"target + {component * self.shape.channels}"
            self.store(pointer, f"{name} + {self.load(pointer)}" if component in earlier else name)


def forward_source(shape: KernelShape, group: MonomialGroup) -> str:
    """Source of `forward`: the part of a group in the output of one atom, or its tangent."""
    arguments = ("elements", "order", "features", "coefficients", *shape.tangent_arguments, "output")
    text = DualText("forward", arguments, shape)
    text.add("node = tl.load(order + tl.program_id(0))")
    text.load_features(group.inputs)
    text.load_coefficients(group)
    _evaluate(text, group, ())
    names = {output: text.result(f"value0_{output}") for output in group.outputs}
    text.store_all("output", shape.plan.num_outputs, names, group.earlier_outputs)
    return str(text)


def features_source(shape: KernelShape, group: MonomialGroup) -> str:
    """Source of `of_features`: the part of a group in the derivatives of `sum(received * output)` for one atom."""
    arguments = ("elements", "order", "received", "features", "coefficients", *shape.tangent_arguments, "output")
    text = DualText("of_features", arguments, shape)
    text.add("node = tl.load(order + tl.program_id(0))")
    text.load_features(group.inputs)
    text.load_coefficients(group)
    text.load_received(group.outputs)
    _differentiate(text, group, (), set())
    names = {component: text.result(f"slope{component}") for component in group.inputs}
    text.store_all("output", shape.plan.table.input_components, names, group.earlier_inputs)
    return str(text)


def coefficients_source(shape: KernelShape, group: MonomialGroup) -> str:
    """Source of `of_coefficients`: derivatives for a group's coefficients, or their tangent, summed over atoms.

    A program has one element, one block of channels, and one of several parts of the element's atoms.
    """
    # The tangent does not depend on the change of the coefficients.
    tangents = ("feature_tangents",) if shape.tangent else ()
    arguments = ("order", "element_starts", "parts", "received", "features", *tangents, "output")
    text = DualText("of_coefficients", arguments, shape)
    text.add("element = tl.program_id(0).to(tl.int64)")
    text.add("part = tl.program_id(2).to(tl.int64)")
    text.add("first = tl.load(element_starts + element)")
    text.add("count = tl.load(element_starts + element + 1) - first")
    numbers = sorted(row for rows in group.rows.values() for row in rows.values())
    for row in numbers:
        text.zeros(f"sum{row}", "output")
    with text.indented("for number in range(first + count * part // parts, first + count * (part + 1) // parts):"):
        text.add("node = tl.load(order + number)")
        text.load_features(group.inputs)
        text.load_received(group.outputs)
        _add_monomials(text, group, ())
    rows = len(shape.plan.rows)
    text.add(f"target = output + (part * tl.num_programs(0) + element) * {rows * shape.channels} + channel")
    for row in numbers:
        text.store(f"target + {row * shape.channels}", f"sum{row}")
    return str(text)


def _evaluate(text: DualText, group: MonomialGroup, prefix: Monomial) -> set[int]:
    """Name `value<depth>_<output>` the polynomials that stand below a beginning; return their output components."""
    found: set[int] = set()
    depth = len(prefix)
    for factor in group.children.get(prefix, []):
        monomial = (*prefix, factor)
        below = _evaluate(text, group, monomial)
        rows = group.rows.get(monomial, {})
        for output in sorted(below | set(rows)):
            terms: list[Term] = [(f"a{factor}", f"c{rows[output]}")] if output in rows else []
            if output in below:
                terms.append((f"a{factor}", f"value{depth + 1}_{output}"))
            text.set(f"value{depth}_{output}", terms, add=output in found)
            found.add(output)
    return found


def _differentiate(text: DualText, group: MonomialGroup, prefix: Monomial, begun: set[int]) -> None:
    """Add to `slope<component>` what stands below a beginning; name `value<depth>` the sum of the polynomials there.

    `power<depth>` is the product of the beginning's factors, and `begun` has the components whose sums are begun.
    """
    depth = len(prefix)
    power: Term = (f"power{depth}",) if prefix else ()
    for number, factor in enumerate(group.children[prefix]):
        monomial = (*prefix, factor)
        terms: list[Term] = [(f"g{output}", f"c{row}") for output, row in group.rows.get(monomial, {}).items()]
        if monomial in group.children:
            text.set(f"power{depth + 1}", [(*power, f"a{factor}")])
            _differentiate(text, group, monomial, begun)
            terms.append((f"value{depth + 1}",))
        text.set("inner", terms)
        text.set(f"slope{factor}", [(*power, "inner")], add=factor in begun)
        begun.add(factor)
        if prefix:
            text.set(f"value{depth}", [(f"a{factor}", "inner")], add=number > 0)


def _add_monomials(text: DualText, group: MonomialGroup, prefix: Monomial) -> None:
    """Add to `sum<row>` the monomials that start with `prefix`, or their tangents, times what is received."""
    depth = len(prefix)
    power: Term = (f"power{depth}",) if prefix else ()
    for factor in group.children.get(prefix, []):
        monomial = (*prefix, factor)
        text.set(f"power{depth + 1}", [(*power, f"a{factor}")])
        for output, row in group.rows.get(monomial, {}).items():
            text.add(f"sum{row} += g{output} * {text.result(f'power{depth + 1}')}")
        _add_monomials(text, group, monomial)
