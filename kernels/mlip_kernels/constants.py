"""Constants that keep their float64 values through every change of a module's dtype."""

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn


class ConstantModule(nn.Module):
    """A module whose coupling constants are cast from float64 anew whenever its dtype or device changes.

    A plain buffer that went through float32 would stay wrong by 1e-8 after a return to float64. Constants are derived
    from the configuration, so they are no part of the state dict.
    """

    def __init__(self) -> None:
        super().__init__()
        self._exact: dict[str, Tensor] = {}

    def register_constant(self, name: str, value: Tensor) -> None:
        """Add a constant buffer `name` with the float64 tensor `value`."""
        if value.dtype != torch.float64:
            raise TypeError(f"constant '{name}' is {value.dtype}; give it in float64")
        self._exact[name] = value
        self.register_buffer(name, value.clone(), persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        module: Any = super()._apply(fn, recurse)
        for name, exact in self._exact.items():
            moved = getattr(self, name)
            setattr(self, name, exact.to(device=moved.device, dtype=moved.dtype))
        return module
