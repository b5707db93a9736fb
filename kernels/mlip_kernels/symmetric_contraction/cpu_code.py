"""Emits the symmetric contraction and its derivatives for one atom and one block of channels.

An output component is a polynomial in the input components, evaluated in Horner's form along the tree of monomials:
one multiplication and addition per coefficient, whose vector is an operand in memory. Derivatives of gradients come
from the same emitters on `Dual` numbers.
"""

from collections.abc import Callable
from dataclasses import dataclass

from mlip_kernels.simd.code import Code, Reals, Vector
from mlip_kernels.simd.dual import Dual, fused
from mlip_kernels.symmetric_contraction.cpu_plan import ContractionPlan, Monomial


@dataclass(frozen=True)
class ContractionLayout:
    """Distances in memory.

    Attributes:
        input_stride: Between the components of an atom's input.
        row_stride: Between the coefficients of neighbouring rows of one element.
        output_places: Offset of each output component.
    """

    input_stride: int
    row_stride: int
    output_places: tuple[int, ...]


class ContractionCode:
    """Functions of a program that contract one atom's block of channels.

    Args:
        plan: The polynomials.
        layout: Where operands lie.
        name: Prefix of the functions' names, unique in the program.
    """

    def __init__(self, plan: ContractionPlan, layout: ContractionLayout, name: str) -> None:
        self.plan = plan
        self.layout = layout
        self.name = name

    def define_forward(self, code: Code) -> None:
        """Define `<name>_forward(input, coefficients, output)`."""
        with code.function(f"{self.name}_forward", ["reals"] * 3) as (body, (values, coefficients, output)):
            polynomial = _Polynomial(body, self, [Dual(each) for each in self._components(values)], coefficients, None)
            for component, place in enumerate(self.layout.output_places):
                output.store(place, polynomial.value(component).value)

    def define_tangent(self, code: Code, of_coefficients: bool) -> None:
        """Define `<name>_tangent(input, coefficients, input', coefficients', output')`: the derivative of forward.

        Without `of_coefficients` these do not change.
        """
        with code.function(f"{self.name}_tangent", ["reals"] * 5) as (body, arguments):
            values, coefficients, value_tangents, coefficient_tangents, output = arguments
            factors = self._duals(values, value_tangents)
            changes = coefficient_tangents if of_coefficients else None
            polynomial = _Polynomial(body, self, factors, coefficients, changes)
            for component, place in enumerate(self.layout.output_places):
                tangent = polynomial.value(component).tangent
                output.store(place, tangent if tangent is not None else body.broadcast(0.0))

    def define_gradients(self, code: Code, of_coefficients: bool) -> None:
        """Define `<name>_gradients(input, coefficients, received, of_input, of_coefficients)`.

        The gradient of the input is written, that of the coefficients, if wanted, is added.
        """
        with code.function(f"{self.name}_gradients", ["reals"] * 5) as (body, arguments):
            values, coefficients, received, of_input, of_coefficient_rows = arguments
            gradients = [received.load(place) for place in self.layout.output_places]
            factors = [Dual(each) for each in self._components(values)]
            polynomial = _Polynomial(body, self, factors, coefficients, None)
            derivatives = polynomial.gradients([Dual(each) for each in gradients])
            for component, derivative in enumerate(derivatives):
                of_input.store(component * self.layout.input_stride, derivative().value)
            if of_coefficients:
                self._add_coefficient_gradients(body, factors, gradients, of_coefficient_rows, lambda each: each.value)

    def define_gradients_tangent(self, code: Code, of_coefficients: bool) -> None:
        """Define `<name>_gradients_tangent`, the derivative of gradients along the changes of input and coefficients.

        Its arguments: input, coefficients, received, the changes of input and coefficients, and the results for both.
        Without `of_coefficients` these do not change.
        """
        with code.function(f"{self.name}_gradients_tangent", ["reals"] * 7) as (body, arguments):
            values, coefficients, received, value_tangents, coefficient_tangents, of_input, of_rows = arguments
            gradients = [received.load(place) for place in self.layout.output_places]
            factors = self._duals(values, value_tangents)
            changes = coefficient_tangents if of_coefficients else None
            polynomial = _Polynomial(body, self, factors, coefficients, changes)
            derivatives = polynomial.gradients([Dual(each) for each in gradients])
            for component, derivative in enumerate(derivatives):
                tangent = derivative().tangent
                of_input.store(
                    component * self.layout.input_stride, tangent if tangent is not None else body.broadcast(0.0)
                )
            self._add_coefficient_gradients(body, factors, gradients, of_rows, lambda each: each.tangent)

    def _components(self, values: Reals) -> list[Vector]:
        count = self.plan.table.input_components
        return [values.load(component * self.layout.input_stride) for component in range(count)]

    def _duals(self, values: Reals, tangents: Reals) -> list[Dual]:
        pairs = zip(self._components(values), self._components(tangents), strict=True)
        return [Dual(value, tangent) for value, tangent in pairs]

    def _add_coefficient_gradients(
        self,
        code: Code,
        factors: list[Dual],
        gradients: list[Vector],
        rows: Reals,
        part: Callable[[Dual], Vector | None],
    ) -> None:
        """Add the gradients of the coefficients: for each, its monomial times the gradient of its component."""

        def visit(prefix: Monomial, product: Dual) -> None:
            wanted = part(product)
            if wanted is not None:
                for component, row in self.plan.row_numbers.get(prefix, {}).items():
                    place = row * self.layout.row_stride
                    rows.store(place, code.fused(wanted, gradients[component], rows.load(place)))
            for factor in self.plan.children.get(prefix, ()):
                visit((*prefix, factor), product * factors[factor])

        for factor in self.plan.children.get((), ()):
            visit((factor,), factors[factor])


class _Polynomial:
    """The polynomials of one atom and block."""

    def __init__(
        self, code: Code, contraction: ContractionCode, factors: list[Dual], rows: Reals, row_tangents: Reals | None
    ) -> None:
        self._code = code
        self._plan = contraction.plan
        self._stride = contraction.layout.row_stride
        self._factors = factors
        self._rows = rows
        self._row_tangents = row_tangents

    def value(self, component: int) -> Dual:
        """Value of the polynomial of an output component."""
        total = self._horner((), lambda prefix: self._coefficient(component, prefix))
        return total if total is not None else Dual(self._code.broadcast(0.0))

    def gradients(self, received: list[Dual]) -> list[Callable[[], Dual]]:
        """Derivatives of `sum_m received_m polynomial_m` with respect to each input component."""
        code = self._code
        sums = [_DualSum(code) for _ in self._factors]

        def visit(prefix: Monomial, product: Dual | None) -> Dual | None:
            """Value of the polynomial's part below a prefix without its factors; adds what lies below to the sums."""
            total = self._received(received, prefix)
            for factor in self._plan.children.get(prefix, ()):
                following = self._factors[factor] if product is None else product * self._factors[factor]
                leaf = not self._plan.children.get((*prefix, factor))
                below = visit((*prefix, factor), None if leaf else following)
                if below is None:
                    continue
                sums[factor].add_product(product, below)
                if prefix:
                    own = self._factors[factor]
                    total = own * below if total is None else fused(code, own, below, total)
            return total

        visit((), None)
        return [each.get for each in sums]

    def _horner(self, prefix: Monomial, coefficient: Callable[[Monomial], Dual | None]) -> Dual | None:
        total = coefficient(prefix)
        for factor in self._plan.children.get(prefix, ()):
            below = self._horner((*prefix, factor), coefficient)
            if below is not None:
                own = self._factors[factor]
                total = own * below if total is None else fused(self._code, own, below, total)
        return total

    def _coefficient(self, component: int, monomial: Monomial) -> Dual | None:
        row = self._plan.row_numbers.get(monomial, {}).get(component)
        if row is None:
            return None
        place = row * self._stride
        return Dual(self._rows.load(place), None if self._row_tangents is None else self._row_tangents.load(place))

    def _received(self, received: list[Dual], monomial: Monomial) -> Dual | None:
        """The coefficient of a monomial in the sum of the polynomials times what they received."""
        total = None
        for component in self._plan.row_numbers.get(monomial, {}):
            coefficient = self._coefficient(component, monomial)
            assert coefficient is not None
            gradient = received[component]
            total = coefficient * gradient if total is None else fused(self._code, coefficient, gradient, total)
        return total


class _DualSum:
    """A sum of dual numbers that is written once its terms are known."""

    def __init__(self, code: Code) -> None:
        self._code = code
        self._total: Dual | None = None

    def add_product(self, first: Dual | None, second: Dual) -> None:
        """Add a product, or the second factor where there is no first."""
        if first is None:
            self._total = second if self._total is None else self._total + second
        elif self._total is None:
            self._total = first * second
        else:
            self._total = fused(self._code, first, second, self._total)

    def get(self) -> Dual:
        """The sum, zero without terms."""
        return self._total if self._total is not None else Dual(self._code.broadcast(0.0))
