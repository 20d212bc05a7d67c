"""The arrays and tables that stand beside new samples, in the functions that led to the decoder's call and their modules."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import FrameType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from whyvae.watch.places import is_users

MOST_FRAMES = 8
MOST_NAMES = 512  # looked at in one function or module
MOST_ARRAYS = 128
MOST_NUMBERS = 2**26  # of one array, which is not copied
MOST_COPIED = 2**22  # of a table, which is
LEAST_ROWS = 8


class Array(NamedTuple):
    """An array, tensor or table of numbers of the user's, [n, ...], by the name it has. `slot`: where it stands on the tape
    of the samples; -1 if it does not. `whole`: unsigned bytes, a picture.
    """

    name: str
    value: Any
    slot: int
    whole: bool

    @property
    def features(self) -> int:
        return math.prod(self.value.shape[1:])

    def rows(self) -> Tensor | None:
        """Its numbers; not a copy where that can be. None where they are none after all."""
        return _rows(self.value)


def frames_here() -> tuple[FrameType, ...]:
    """Of the user's functions that are running, the innermost first. Who keeps them keeps what they hold."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - the documented way costs a list of all frames
    found: list[FrameType] = []
    while frame is not None and len(found) < MOST_FRAMES:
        if is_users(frame.f_code.co_filename):
            found.append(frame)
            if frame.f_code.co_name == "<module>":
                break
        frame = frame.f_back
    return tuple(found)


def arrays_of(frames: Sequence[FrameType], slot_of: Callable[[Tensor], int | None]) -> list[Array]:
    """What these functions, and the modules they stand in, hold: by name, in a dictionary or list, or in an object of a
    class of the user's.
    """
    spaces: dict[int, Mapping[str, Any]] = {}
    for frame in frames:
        inner = frame.f_globals if frame.f_code.co_name == "<module>" else frame.f_locals
        spaces.setdefault(id(inner), inner)
        spaces.setdefault(id(frame.f_globals), frame.f_globals)
    modules = {str(frame.f_globals.get("__name__")) for frame in frames}
    found: dict[int, Array] = {}
    for space in spaces.values():
        for name, value in [*space.items()][-MOST_NAMES:]:
            for path, part in _parts(name, value, modules):
                if id(part) not in found and len(found) < MOST_ARRAYS and _of_numbers(part):
                    slot = slot_of(part) if isinstance(part, Tensor) else None
                    whole = str(part.dtype).endswith("uint8") if hasattr(part, "dtype") else False
                    found[id(part)] = Array(path, part, -1 if slot is None else slot, whole)
    return list(found.values())


def _parts(name: str, value: Any, modules: set[str]) -> Iterator[tuple[str, Any]]:
    """`value` and, one level deep, what it holds."""
    yield name, value
    if isinstance(value, dict):
        yield from ((f"{name}[{key!r}]", part) for key, part in [*value.items()][:MOST_NAMES])
    elif isinstance(value, list | tuple):
        yield from ((f"{name}[{i}]", part) for i, part in enumerate(value[:MOST_FRAMES]))
    elif _of_users_class(value, modules):
        yield from ((f"{name}.{key}", part) for key, part in [*vars(value).items()][:MOST_NAMES])


def _of_users_class(value: Any, modules: set[str]) -> bool:
    """Defined in one of these modules, or in another source of the user's?"""
    if isinstance(value, type | torch.nn.Module) or not hasattr(value, "__dict__"):
        return False
    name = type(value).__module__
    return name in modules or is_users(getattr(sys.modules.get(name), "__file__", None) or "<frozen")


def _kind(value: Any) -> str:
    return type(value).__module__.partition(".")[0]


def _of_numbers(value: Any) -> bool:
    """At least LEAST_ROWS rows and one further axis, of a kind and size that `_rows` takes?"""
    if not (isinstance(value, Tensor) or _kind(value) in {"numpy", "pandas"}) or len(getattr(value, "shape", ())) < 2:
        return False
    numbers = math.prod(value.shape)
    if value.shape[0] < LEAST_ROWS or not 0 < numbers <= MOST_NUMBERS:
        return False
    if isinstance(value, Tensor):
        return not value.is_complex() and value.layout == torch.strided
    if _kind(value) == "numpy" and value.dtype.kind == "f" and value.flags.writeable:
        return True
    return numbers <= MOST_COPIED and (_kind(value) == "pandas" or value.dtype.kind in "fiu")


def _rows(value: Any) -> Tensor | None:
    try:
        if isinstance(value, Tensor):
            return value.detach()
        if _kind(value) == "pandas":
            return torch.tensor(value.to_numpy(dtype="float64"))
        shared = value.dtype.kind == "f" and value.flags.writeable
        return torch.as_tensor(value) if shared else torch.tensor(value.astype("float64"))
    except (TypeError, ValueError, RuntimeError):  # names among the numbers, a float that torch does not know
        return None
