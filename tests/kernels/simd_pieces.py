"""Runs small emitters: all those of a test file are compiled as one program, since every program costs a second."""

import hashlib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlip_kernels.simd.code import Code, Index, Indices, RealType
from mlip_kernels.simd.program import Program

REALS: tuple[RealType, ...] = ("float32", "float64")
# Emits one piece: gets the code and the piece's arguments.
Emitter = Callable[[Code, Indices], None]


class Pieces:
    """Emitters by name, for one number type.

    Args:
        real: Type of the floating-point numbers.
        emitters: They depend on nothing but the type and the file in which they are written.
    """

    def __init__(self, real: RealType, emitters: Mapping[str, Emitter]) -> None:
        self.dtype = np.dtype(real)
        self._names = list(emitters)

        def emit(code: Code, given: Indices, task: Index, tasks: Index) -> None:
            for number, emitter in enumerate(emitters.values()):
                with code.when(given.get(0).compare("==", number)):
                    emitter(code, given.at(1))

        file = sys.modules[next(iter(emitters.values())).__module__].__file__
        assert file is not None
        digest = hashlib.sha256(Path(file).read_bytes() + Path(__file__).read_bytes()).hexdigest()
        self._program = Program("Pieces of a test.", f"test {digest} {self._names}", real, [emit])

    def __call__(self, name: str, *arguments: int | NDArray[Any]) -> None:
        """Run one with integers, and arrays that it reads or writes."""
        addresses = [each.ctypes.data if isinstance(each, np.ndarray) else each for each in arguments]
        self._program.run(np.array([self._names.index(name), *addresses], dtype=np.int64), 1)

    def array(self, *values: Any) -> NDArray[Any]:
        """Numbers of the program's type."""
        return np.array(values, dtype=self.dtype)

    def zeros(self, *shape: int) -> NDArray[Any]:
        """The same, to be written."""
        return np.zeros(shape, dtype=self.dtype)
