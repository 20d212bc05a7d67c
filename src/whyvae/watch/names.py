"""What the user calls a parameter: the path to it from the outermost module that owns it."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_module_registration_hook,
    register_module_parameter_registration_hook,
)


@dataclass(frozen=True, slots=True)
class Named:
    """A parameter's name in the outermost module that owns it, and that module's class."""

    name: str
    module: str


class Registry:
    """Notes who owns whom as modules are built (searching for them later takes a tenth of a second)."""

    def __init__(self) -> None:
        self._owner: dict[int, tuple[weakref.ref[nn.Module], str]] = {}  # id of a parameter
        self._parent: dict[int, tuple[weakref.ref[nn.Module], str]] = {}  # id of a module

    def listen(self) -> list[Callable[[], Any]]:
        """Starts; returns the undoers."""
        return [
            register_module_parameter_registration_hook(self._parameter).remove,
            register_module_module_registration_hook(self._module).remove,
        ]

    def _parameter(self, module: nn.Module, name: str, parameter: Any) -> None:
        if isinstance(parameter, Tensor):
            self._owner[id(parameter)] = (weakref.ref(module), name)

    def _module(self, module: nn.Module, name: str, child: Any) -> None:
        if isinstance(child, nn.Module):
            self._parent[id(child)] = (weakref.ref(module), name)

    def parameters(self) -> Iterator[Tensor]:
        """Those of the modules that are still there."""
        for ref, name in self._owner.values():
            parameter = getattr(ref(), "_parameters", {}).get(name)
            if parameter is not None:
                yield parameter

    def names(self, wanted: set[int]) -> dict[int, Named]:
        """id of a parameter -> its name; modules built before listening began are searched for."""
        found = {key: self._name(key) for key in wanted if key in self._owner}
        missing = {key for key in wanted if found.get(key) is None}
        known = {key: name for key, name in found.items() if name is not None}
        return {**known, **(_searched(missing) if missing else {})}

    def _name(self, key: int) -> Named | None:
        owner, name = self._owner[key]
        module = owner()
        path = [name]
        while module is not None and id(module) in self._parent and len(path) < 64:
            above, name = self._parent[id(module)]
            outer = above()
            if outer is None:
                break
            path.append(name)
            module = outer
        return None if module is None else Named(".".join(reversed(path)), type(module).__name__)


def _searched(wanted: set[int]) -> dict[int, Named]:
    found: dict[int, Named] = {}
    sizes: dict[int, int] = {}
    for thing in gc.get_objects():
        if issubclass(type(thing), nn.Module):  # isinstance would wake lazy proxies
            mine = [(name, id(p)) for name, p in thing.named_parameters()]
            for name, key in mine:
                if key in wanted and sizes.get(key, -1) < len(mine):
                    found[key] = Named(name, type(thing).__name__)
                    sizes[key] = len(mine)
    return found
