"""Constants that keep their float64 values through every change of a module's dtype."""

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn


class ConstantModule(nn.Module):
    """A module whose coupling constants are cast from float64 anew whenever its dtype or device changes.

    A plain buffer that went through float32 would stay wrong by 1e-8 after a return to float64. Constants that are
    derived from the configuration are no part of the state dict; those that another machine could not derive again are
    stored in it, in float64 whatever the dtype of the module.
    """

    def __init__(self) -> None:
        super().__init__()
        self._exact: dict[str, Tensor] = {}

    def register_constant(self, name: str, value: Tensor, stored: bool = False) -> None:
        """Add a constant buffer `name` with the float64 tensor `value`, stored in the state dict if asked for."""
        if value.dtype != torch.float64:
            raise TypeError(f"constant '{name}' is {value.dtype}; give it in float64")
        self._exact[name] = value
        self.register_buffer(name, value.clone(), persistent=stored)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        module: Any = super()._apply(fn, recurse)
        for name, exact in self._exact.items():
            moved = getattr(self, name)
            setattr(self, name, exact.to(device=moved.device, dtype=moved.dtype))
        return module

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        for name, exact in self._exact.items():
            if prefix + name in destination:
                destination[prefix + name] = exact

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        super()._load_from_state_dict(state_dict, prefix, *args)
        for name, exact in self._exact.items():
            loaded = state_dict.get(prefix + name)
            # What is missing or of another shape has been reported by now.
            if loaded is not None and loaded.shape == exact.shape:
                self._exact[name] = loaded.detach().to(exact, copy=True)
