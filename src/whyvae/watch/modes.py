"""Our modes on torch's stack of function modes; while one is there, compiled functions run as written."""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch.overrides import _get_current_function_mode_stack, _pop_mode, _push_mode

_on: set[int] = set()  # ids of ours that are on the stack
_above: list[Any] = []  # stay above all others: they see a call first
_asked: list[bool] = []  # was torch.compile called?


def compiler_called() -> None:
    _asked[:] = [True]
    if _on:  # a whole step may be compiled, of which nothing would be seen
        torch.compiler.set_stance("force_eager")


def compiling() -> bool:
    """May functions be compiled? Torch loads its compiler with the first optimiser, whether or not it is used."""
    dynamo = sys.modules.get("torch._dynamo.utils")
    return bool(_asked) or (dynamo is not None and bool(dynamo.counters.get("frames")))


def put_on(mode: Any) -> bool:
    """Pushes `mode`; are functions compiled? (For another stack of modes they would be compiled anew.)"""
    compiled = compiling()
    if compiled:
        torch.compiler.set_stance("force_eager")
    _on.add(id(mode))
    _push_mode(mode)
    for other in _above:
        if other is not mode:
            _remove(other)
            _push_mode(other)
    return compiled


def put_above(mode: Any) -> None:
    """Pushes `mode`, and keeps it above whatever is pushed later."""
    _above.append(mode)
    put_on(mode)


def take_off(mode: Any) -> None:
    """Takes `mode` off the stack, wherever on it it stands."""
    _on.discard(id(mode))
    _above[:] = [m for m in _above if m is not mode]
    _remove(mode)
    if not _on and compiling():
        torch.compiler.set_stance("default")


def _remove(mode: Any) -> None:
    if any(m is mode for m in _get_current_function_mode_stack()):
        above = []
        while (top := _pop_mode()) is not mode:
            above.append(top)
        for other in reversed(above):
            _push_mode(other)
