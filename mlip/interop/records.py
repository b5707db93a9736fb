"""What stands for the classes and functions that a checkpoint names: their names and the data beside, never code."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from mlip.errors import CheckpointError

# Where a torch module keeps what `module.name` finds.
_MODULE_DICTIONARIES = ("_parameters", "_buffers", "_modules")
_DEEPEST = 64  # Nested modules; real ones reach six, and a file may name a module inside itself.


@dataclass(frozen=True)
class Global:
    """A name that a pickle refers to: `module.name`. It is never looked up or imported."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(eq=False)
class Record:
    """An object of another package, of which only the data are kept.

    Attributes:
        kind: Its class, or the function that would have made it.
        args: Arguments of that call.
        state: Attributes by name, as `__setstate__` would have received them.
        items: What would have been appended, or pairs that would have been set, where it is a kind of list or mapping.
    """

    kind: Global
    args: tuple[Any, ...] = ()
    state: dict[str, Any] = field(default_factory=dict, repr=False)
    items: list[Any] = field(default_factory=list, repr=False)

    @property
    def class_name(self) -> str:
        """Name of the class without its module."""
        return self.kind.name

    def __contains__(self, name: str) -> bool:
        return any(name in each for each in self._dictionaries())

    def __getitem__(self, name: str) -> Any:
        """What `object.name` would have been, parameters, buffers and submodules of a torch module included.

        Raises:
            CheckpointError: there is no such attribute.
        """
        for each in self._dictionaries():
            if name in each:
                return each[name]
        raise CheckpointError(
            f"the {self.class_name} in the checkpoint has no '{name}'; it may come from a version of its package "
            "that is not supported: save it again with a current one."
        )

    def get(self, name: str, default: Any = None) -> Any:
        """What `getattr(object, name, default)` would have been."""
        if name not in self:
            return default
        return self[name]

    def children(self) -> list["Record"]:
        """Submodules of a torch module, in order: the members of a `ModuleList`, say."""
        modules = self.state.get("_modules")
        modules = modules if isinstance(modules, Mapping) else {}
        return [each for each in modules.values() if isinstance(each, Record)]

    def state_dict(self) -> dict[str, Tensor]:
        """Parameters and buffers of a torch module and of those below it, by their dotted names."""
        return dict(self._tensors("", 0))

    def _tensors(self, prefix: str, depth: int) -> Iterator[tuple[str, Tensor]]:
        if depth > _DEEPEST:
            raise CheckpointError("the modules in the checkpoint are nested without end; it is damaged: copy it again.")
        for name in ("_parameters", "_buffers"):
            values = self.state.get(name)
            if isinstance(values, Mapping):
                yield from ((f"{prefix}{key}", each) for key, each in values.items() if isinstance(each, Tensor))
        modules = self.state.get("_modules")
        if isinstance(modules, Mapping):
            for key, module in modules.items():
                if isinstance(module, Record):
                    yield from module._tensors(f"{prefix}{key}.", depth + 1)

    def _dictionaries(self) -> Iterator[Mapping[str, Any]]:
        yield self.state
        for name in _MODULE_DICTIONARIES:
            each = self.state.get(name)
            if isinstance(each, Mapping):
                yield each
