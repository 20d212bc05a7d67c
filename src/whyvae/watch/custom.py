"""Autograd functions of the user's own, which escape torch function modes."""

from __future__ import annotations

from typing import Any, Protocol

import torch


class Seeing(Protocol):
    """Who writes such a call down as one op (a `Recorder`)."""

    def custom(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any: ...


_APPLY = torch.autograd.Function.__dict__["apply"]


_SEEING: list[Seeing] = []  # the recorder that sees custom functions now, if there is one
_HOLDING: list[object] = []  # watchers for whose life the way there stays in place


def see_custom_functions(recorder: Seeing | None) -> None:
    """Autograd functions escape torch function modes: what they do inside is seen, but not what they are.

    The name `act = Square.apply` keeps what `apply` was when it was made: it leads to the recorder of the call's own time.
    """
    _SEEING[:] = [] if recorder is None else [recorder]
    wanted = _APPLY if not _SEEING and not _HOLDING else _LED
    if torch.autograd.Function.__dict__.get("apply") is not wanted:
        torch.autograd.Function.apply = wanted  # type: ignore[method-assign, assignment]


def hold_custom_functions(watcher: object, *, held: bool) -> None:
    """For the life of `watcher`, between its recorded steps too, names given to `apply` lead to its recorders."""
    _HOLDING[:] = [w for w in _HOLDING if w is not watcher] + [watcher] * held
    see_custom_functions(_SEEING[0] if _SEEING else None)


def _led(cls: Any, *args: Any, **kwargs: Any) -> Any:
    original = _APPLY.__get__(None, cls)
    if not _SEEING or cls.__module__.partition(".")[0] == "torch":  # checkpoints and the like
        return original(*args, **kwargs)
    return _SEEING[0].custom(original, args, kwargs)


_LED = classmethod(_led)
