"""Machine-learned interatomic potentials whose equivariant tensor product can be swapped.

The three names that most programs need are loaded on first use, so that `import mlip` and `mlip --help` stay fast.
"""

from typing import TYPE_CHECKING, Any

from mlip._version import __version__

if TYPE_CHECKING:
    from mlip.calculators import MLIPCalculator
    from mlip.models import load, save

__all__ = ["MLIPCalculator", "__version__", "load", "save"]


def __getattr__(name: str) -> Any:
    if name == "MLIPCalculator":
        from mlip.calculators import MLIPCalculator

        return MLIPCalculator
    if name in ("load", "save"):
        from mlip import models

        return getattr(models, name)
    raise AttributeError(f"module 'mlip' has no attribute '{name}'")
