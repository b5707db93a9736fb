"""Emits LLVM code: numbers, vectors, arrays, loops and functions as Python objects.

An emitter is a Python function that is called once, while a program is compiled. Its arithmetic on `Index`, `Real` and
`Vector` objects appends instructions; its Python loops unroll; `Code.loop` makes a loop of the program. What changes
from turn to turn of such a loop is kept in a `Variable`, which LLVM turns into a register.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from llvmlite import ir

INTEGER = ir.IntType(64)
_LANE = ir.IntType(32)
_WIDE = ir.DoubleType()
# Products and sums may be fused, which every target has instructions for; nothing is reordered, so that results do not
# depend on what the compiler finds clever.
_FUSED = ("contract",)

RealType = Literal["float32", "float64"]


class Code:
    """Where instructions go: the function being emitted, with the number type and vector width of the program.

    Args:
        builder: Positioned in the function's body.
        real: Type of all floating-point numbers.
        lanes: Numbers in a vector.
        functions: Functions of the program by name, shared by all its code.
    """

    def __init__(self, builder: ir.IRBuilder, real: RealType, lanes: int, functions: "dict[str, Function]") -> None:
        self.builder = builder
        self.real = real
        self.lanes = lanes
        self.functions = functions
        self.real_type = ir.FloatType() if real == "float32" else ir.DoubleType()
        self.vector_type = ir.VectorType(self.real_type, lanes)

    # Numbers

    def index(self, value: "int | Index") -> "Index":
        """A 64-bit integer."""
        return value if isinstance(value, Index) else Index(self, ir.Constant(INTEGER, value))

    def number(self, value: "float | Real") -> "Real":
        """A floating-point number."""
        return value if isinstance(value, Real) else Real(self, ir.Constant(self.real_type, float(value)))

    def broadcast(self, value: "float | Real") -> "Vector":
        """A vector of equal numbers."""
        if not isinstance(value, Real):
            return Vector(self, ir.Constant(self.vector_type, [float(value)] * self.lanes))
        first = self.builder.insert_element(_undefined(self.vector_type), value.value, ir.Constant(_LANE, 0))
        mask = ir.Constant(ir.VectorType(_LANE, self.lanes), [0] * self.lanes)
        return Vector(self, self.builder.shuffle_vector(first, _undefined(self.vector_type), mask))

    def variable(self, initial: "Index | Real | Wide | Vector") -> "Variable":
        """A place whose value changes in loops."""
        with self.builder.goto_entry_block():
            place = self.builder.alloca(initial.value.type)
        variable = Variable(self, place, type(initial))
        variable.set(initial)
        return variable

    def scratch(self, count: int) -> "Reals":
        """An array of `count` numbers on the stack of the function."""
        with self.builder.goto_entry_block():
            place = self.builder.alloca(self.real_type, count)
            place.align = self.lanes * (4 if self.real == "float32" else 8)
        # Opaque like all other pointers, for vectors are stored there.
        place.type = ir.PointerType()
        return Reals(self, place)

    # Control

    @contextmanager
    def loop(self, start: "int | Index", stop: "int | Index", step: "int | Index" = 1) -> "Iterator[Index]":
        """A loop over the integers from `start` to before `stop`."""
        builder = self.builder
        first, last = self.index(start), self.index(stop)
        condition = builder.append_basic_block("condition")
        body = builder.append_basic_block("body")
        end = builder.append_basic_block("end")
        entry = builder.block
        builder.branch(condition)
        builder.position_at_end(condition)
        counter = builder.phi(INTEGER)
        counter.add_incoming(first.value, entry)
        builder.cbranch(builder.icmp_signed("<", counter, last.value), body, end)
        builder.position_at_end(body)
        yield Index(self, counter)
        following = builder.add(counter, self.index(step).value, flags=["nsw"])
        counter.add_incoming(following, builder.block)
        builder.branch(condition)
        builder.position_at_end(end)

    @contextmanager
    def when(self, condition: ir.Value) -> Iterator[None]:
        """Code that runs where a condition holds."""
        with self.builder.if_then(condition):
            yield

    # Functions

    @contextmanager
    def function(self, name: str, arguments: "Sequence[str]") -> "Iterator[tuple[Code, list[Any]]]":
        """Define a function of the program; yields its code and its arguments.

        Args:
            name: Unique in the program.
            arguments: Kind of each: "index", "reals", "wides" or "indices" (arrays).
        """
        classes: dict[str, type[Any]] = {"index": Index, "reals": Reals, "wides": Wides, "indices": Indices}
        types = [INTEGER if kind == "index" else ir.PointerType() for kind in arguments]
        signature = ir.FunctionType(ir.VoidType(), types)
        function = ir.Function(self.builder.module, signature, f"mlip_{name}")
        function.linkage = "internal"
        for attribute in ("nounwind", "noinline"):
            function.attributes.add(attribute)
        code = Code(ir.IRBuilder(function.append_basic_block("entry")), self.real, self.lanes, self.functions)
        start = code.builder.append_basic_block("start")
        code.builder.position_at_end(start)
        self.functions[name] = Function(function)
        yield code, [classes[kind](code, value) for kind, value in zip(arguments, function.args, strict=True)]
        code.builder.ret_void()
        # Variables were placed in the entry block, which ends where the body starts.
        ir.IRBuilder(function.entry_basic_block).branch(start)

    def call(self, name: str, *arguments: "int | Index | Reals | Wides | Indices") -> None:
        """Call a function defined before."""
        values = [self.index(each).value if isinstance(each, int) else each.value for each in arguments]
        self.builder.call(self.functions[name].value, values)

    # Arithmetic that is no operator

    def fused(self, first: "Vector", second: "Vector", third: "Vector") -> "Vector":
        """first * second + third, rounded once where the processor can."""
        return Vector(self, self._intrinsic("llvm.fmuladd", [first, second, third]))

    def fused_real(self, first: "Real", second: "Real", third: "Real") -> "Real":
        """The same for numbers."""
        return Real(self, self._intrinsic("llvm.fmuladd", [first, second, third]))

    def root(self, value: "Real") -> "Real":
        """Square root."""
        return Real(self, self._intrinsic("llvm.sqrt", [value]))

    def _intrinsic(self, name: str, arguments: "Sequence[Real | Vector]") -> ir.Value:
        kind = arguments[0].value.type
        suffix = ("v" + str(self.lanes) if isinstance(kind, ir.VectorType) else "") + (
            "f32" if self.real == "float32" else "f64"
        )
        signature = ir.FunctionType(kind, [kind] * len(arguments))
        full = f"{name}.{suffix}"
        function = self.builder.module.globals.get(full) or ir.Function(self.builder.module, signature, full)
        return self.builder.call(function, [each.value for each in arguments])


@dataclass(frozen=True)
class Function:
    """A function of the program."""

    value: ir.Function


class _Value:
    def __init__(self, code: Code, value: ir.Value) -> None:
        self.code = code
        self.value = value


class Index(_Value):
    """A 64-bit integer: a count, an offset or the number of an atom."""

    def __add__(self, other: "int | Index") -> "Index":
        return Index(self.code, self.code.builder.add(self.value, self.code.index(other).value, flags=["nsw"]))

    __radd__ = __add__

    def __sub__(self, other: "int | Index") -> "Index":
        return Index(self.code, self.code.builder.sub(self.value, self.code.index(other).value, flags=["nsw"]))

    def __mul__(self, other: "int | Index") -> "Index":
        return Index(self.code, self.code.builder.mul(self.value, self.code.index(other).value, flags=["nsw"]))

    __rmul__ = __mul__

    def __floordiv__(self, other: "int | Index") -> "Index":
        """Quotient of numbers that are not negative."""
        return Index(self.code, self.code.builder.udiv(self.value, self.code.index(other).value))

    def __mod__(self, other: "int | Index") -> "Index":
        """Rest of numbers that are not negative."""
        return Index(self.code, self.code.builder.urem(self.value, self.code.index(other).value))

    def compare(self, relation: str, other: "int | Index") -> ir.Value:
        """The condition `self relation other`, with one of == != < <= > >=."""
        return self.code.builder.icmp_signed(relation, self.value, self.code.index(other).value)

    def least(self, other: "int | Index") -> "Index":
        """The smaller of two."""
        second = self.code.index(other)
        return Index(self.code, self.code.builder.select(self.compare("<", second), self.value, second.value))

    def most(self, other: "int | Index") -> "Index":
        """The larger of two."""
        second = self.code.index(other)
        return Index(self.code, self.code.builder.select(self.compare(">", second), self.value, second.value))

    def real(self) -> "Real":
        """The same number as floating-point."""
        return Real(self.code, self.code.builder.sitofp(self.value, self.code.real_type))


class _Number(_Value):
    """Arithmetic that numbers and vectors share; `Self` is the operand's own class."""

    def _other(self, other: Any) -> Any:
        raise NotImplementedError

    def _apply(self, instruction: str, first: Any, second: Any) -> Any:
        return type(self)(self.code, getattr(self.code.builder, instruction)(first.value, second.value, flags=_FUSED))

    def __add__(self, other: Any) -> Any:
        return self._apply("fadd", self, self._other(other))

    __radd__ = __add__

    def __sub__(self, other: Any) -> Any:
        return self._apply("fsub", self, self._other(other))

    def __rsub__(self, other: Any) -> Any:
        return self._apply("fsub", self._other(other), self)

    def __mul__(self, other: Any) -> Any:
        return self._apply("fmul", self, self._other(other))

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Any:
        return self._apply("fdiv", self, self._other(other))

    def __rtruediv__(self, other: Any) -> Any:
        return self._apply("fdiv", self._other(other), self)

    def __neg__(self) -> Any:
        return type(self)(self.code, self.code.builder.fneg(self.value))


class Real(_Number):
    """A floating-point number of the program's type."""

    def _other(self, other: "float | Real") -> "Real":
        return self.code.number(other)

    def truncated(self) -> Index:
        """The whole part, towards zero."""
        return Index(self.code, self.code.builder.fptosi(self.value, INTEGER))

    def wide(self) -> "Wide":
        """The same number in double precision."""
        if self.code.real == "float64":
            return Wide(self.code, self.value)
        return Wide(self.code, self.code.builder.fpext(self.value, _WIDE))

    def compare(self, relation: str, other: "float | Real") -> ir.Value:
        """The condition `self relation other`, false where one is not a number."""
        return self.code.builder.fcmp_ordered(relation, self.value, self.code.number(other).value)

    def where(self, condition: ir.Value, other: "float | Real") -> "Real":
        """This number where the condition holds, else the other."""
        return Real(self.code, self.code.builder.select(condition, self.value, self.code.number(other).value))


class Wide(_Number):
    """A number of double precision, whatever the program's type: positions, and sums over atoms."""

    def _other(self, other: "float | Wide") -> "Wide":
        return other if isinstance(other, Wide) else Wide(self.code, ir.Constant(_WIDE, float(other)))

    def narrow(self) -> Real:
        """The number in the program's type."""
        if self.code.real == "float64":
            return Real(self.code, self.value)
        return Real(self.code, self.code.builder.fptrunc(self.value, self.code.real_type))


class Vector(_Number):
    """As many numbers as a vector register holds."""

    def _other(self, other: "float | Vector") -> "Vector":
        return other if isinstance(other, Vector) else self.code.broadcast(other)

    def shuffled(self, other: "Vector", lanes: Sequence[int]) -> "Vector":
        """Lanes of this vector (0 …) and of the other (lanes …), in the order given."""
        mask = ir.Constant(ir.VectorType(_LANE, len(lanes)), list(lanes))
        return Vector(self.code, self.code.builder.shuffle_vector(self.value, other.value, mask))

    def lane(self, number: int) -> Real:
        """The number in one lane."""
        return Real(self.code, self.code.builder.extract_element(self.value, ir.Constant(_LANE, number)))


class Variable:
    """A place for one value."""

    def __init__(self, code: Code, place: ir.Value, kind: type[Any]) -> None:
        self._code = code
        self._place = place
        self._kind = kind

    def get(self) -> Any:
        """The present value."""
        return self._kind(self._code, self._code.builder.load(self._place, typ=self._place.allocated_type))

    def set(self, value: "Index | Real | Wide | Vector") -> None:
        """Change the value."""
        self._code.builder.store(value.value, self._place)

    def add(self, value: "Index | Real | Wide | Vector") -> None:
        """Add to the value."""
        self.set(self.get() + value)

    def add_product(self, first: Vector, second: Vector) -> None:
        """Add the product of two vectors to the value."""
        self.set(self._code.fused(first, second, self.get()))


class Reals(_Value):
    """An array of floating-point numbers; offsets count numbers."""

    def at(self, offset: int | Index) -> "Reals":
        """The array that starts at `offset`."""
        place = self.code.builder.gep(
            self.value, [self.code.index(offset).value], inbounds=True, source_etype=self.code.real_type
        )
        return Reals(self.code, place)

    def get(self, offset: int | Index) -> Real:
        """The number at `offset`."""
        return Real(self.code, self.code.builder.load(self.at(offset).value, typ=self.code.real_type))

    def set(self, offset: int | Index, value: "float | Real") -> None:
        """Change the number at `offset`."""
        self.code.builder.store(self.code.number(value).value, self.at(offset).value)

    def broadcast(self, offset: int | Index) -> Vector:
        """The number at `offset` in every lane."""
        return self.code.broadcast(self.get(offset))

    def load(self, offset: int | Index) -> Vector:
        """The vector that starts at `offset`."""
        place = self.at(offset).value
        return Vector(self.code, self.code.builder.load(place, align=self._align, typ=self.code.vector_type))

    def store(self, offset: int | Index, value: Vector) -> None:
        """Change the vector that starts at `offset`."""
        self.code.builder.store(value.value, self.at(offset).value, align=self._align)

    def add(self, offset: int | Index, value: Vector) -> None:
        """Add to the vector that starts at `offset`."""
        self.store(offset, self.load(offset) + value)

    def clear(self, count: int | Index) -> None:
        """Set the first `count` numbers to zero, a multiple of the lanes."""
        with self.code.loop(0, count, self.code.lanes) as offset:
            self.store(offset, self.code.broadcast(0.0))

    @property
    def _align(self) -> int:
        return 4 if self.code.real == "float32" else 8


class Wides(_Value):
    """An array of numbers of double precision."""

    def at(self, offset: int | Index) -> "Wides":
        """The array that starts at `offset`."""
        place = self.code.builder.gep(self.value, [self.code.index(offset).value], inbounds=True, source_etype=_WIDE)
        return Wides(self.code, place)

    def get(self, offset: int | Index) -> Wide:
        """The number at `offset`."""
        return Wide(self.code, self.code.builder.load(self.at(offset).value, typ=_WIDE))

    def set(self, offset: int | Index, value: Wide) -> None:
        """Change the number at `offset`."""
        self.code.builder.store(value.value, self.at(offset).value)

    def add(self, offset: int | Index, value: Wide) -> None:
        """Add to the number at `offset`."""
        self.set(offset, self.get(offset) + value)


class Indices(_Value):
    """An array of 64-bit integers."""

    def at(self, offset: int | Index) -> "Indices":
        """The array that starts at `offset`."""
        place = self.code.builder.gep(self.value, [self.code.index(offset).value], inbounds=True, source_etype=INTEGER)
        return Indices(self.code, place)

    def get(self, offset: int | Index) -> Index:
        """The integer at `offset`."""
        return Index(self.code, self.code.builder.load(self.at(offset).value, typ=INTEGER))

    def set(self, offset: int | Index, value: int | Index) -> None:
        """Change the integer at `offset`."""
        self.code.builder.store(self.code.index(value).value, self.at(offset).value)

    def reals(self, offset: int | Index) -> Reals:
        """The array of numbers whose address stands at `offset`."""
        return Reals(self.code, self.code.builder.inttoptr(self.get(offset).value, ir.PointerType()))

    def wides(self, offset: int | Index) -> Wides:
        """The array of double-precision numbers whose address stands at `offset`."""
        return Wides(self.code, self.code.builder.inttoptr(self.get(offset).value, ir.PointerType()))

    def indices(self, offset: int | Index) -> "Indices":
        """The array of integers whose address stands at `offset`."""
        return Indices(self.code, self.code.builder.inttoptr(self.get(offset).value, ir.PointerType()))


def _undefined(kind: ir.Type) -> ir.Constant:
    return ir.Constant(kind, ir.Undefined)
