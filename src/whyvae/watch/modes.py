"""Our modes on torch's stack of function modes; while one is there, compiled functions run as written."""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch.overrides import _get_current_function_mode_stack, _pop_mode, _push_mode

_on: set[int] = set()  # ids of ours that are on the stack


def put_on(mode: Any) -> bool:
    """Pushes `mode`; was torch's compiler loaded? (It would compile anew for another stack of modes.)"""
    loaded = "torch._dynamo" in sys.modules
    if loaded:
        torch.compiler.set_stance("force_eager")
    _on.add(id(mode))
    _push_mode(mode)
    return loaded


def take_off(mode: Any) -> None:
    """Takes `mode` off the stack, wherever on it it stands."""
    _on.discard(id(mode))
    if any(m is mode for m in _get_current_function_mode_stack()):
        above = []
        while (top := _pop_mode()) is not mode:
            above.append(top)
        for other in reversed(above):
            _push_mode(other)
    if not _on and "torch._dynamo" in sys.modules:
        torch.compiler.set_stance("default")
