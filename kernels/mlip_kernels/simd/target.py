"""What the CPU that Numba compiles for has."""

from dataclasses import dataclass
from functools import cache

_BYTES_OF_AVX512 = 64
_BYTES_OF_AVX = 32
_BYTES_OF_SSE_AND_NEON = 16


@dataclass(frozen=True)
class Target:
    """Vector units of a CPU.

    Attributes:
        name: Name and features of the CPU as LLVM has them, which decide whether compiled code fits it.
        vector_bytes: Bytes of a vector register.
        vector_registers: Number of vector registers.
    """

    name: str
    vector_bytes: int
    vector_registers: int

    def lanes(self, real: str) -> int:
        """Numbers of the type "float32" or "float64" in a vector."""
        return self.vector_bytes // (4 if real == "float32" else 8)


@cache
def host_target() -> Target:
    """The CPU that Numba compiles for: this one, or what NUMBA_CPU_NAME and NUMBA_CPU_FEATURES say."""
    import llvmlite.binding as llvm
    from numba.core import config

    cpu = config.CPU_NAME or llvm.get_host_cpu_name()
    if config.CPU_FEATURES is not None:
        features = config.CPU_FEATURES
    elif config.CPU_NAME:
        features = ""
    else:
        features = llvm.get_host_cpu_features().flatten()
    vector_bytes, registers = _BYTES_OF_SSE_AND_NEON, 32
    if "x86" in llvm.get_process_triple() or "amd64" in llvm.get_process_triple():
        registers = 16
        enabled = set(features.split(","))
        if "+avx512f" in enabled or cpu == "x86-64-v4":
            vector_bytes, registers = _BYTES_OF_AVX512, 32
        elif "+avx" in enabled or cpu == "x86-64-v3":
            vector_bytes = _BYTES_OF_AVX
    return Target(f"{cpu} {features}", vector_bytes, registers)
