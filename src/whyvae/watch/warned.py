"""A warning that a function gives while we call it for the user is one of the user's line, or torch's, not of ours."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from types import FrameType
from typing import Any

from torch.overrides import handle_torch_function

from whyvae.watch.places import is_ours


def show_where_it_would_be_shown() -> Callable[[], None]:
    """From now on; what is returned ends it."""
    before = warnings.showwarning

    def showwarning(
        message: Any, category: Any, filename: str, lineno: int, file: Any = None, line: str | None = None
    ) -> None:
        place = _above(filename, lineno) if is_ours(filename) else None
        filename, lineno = place or (filename, lineno)
        before(message, category, filename, lineno, file, line)

    def undo() -> None:
        if warnings.showwarning is showwarning:
            warnings.showwarning = before

    warnings.showwarning = showwarning
    return undo


def _above(filename: str, lineno: int) -> tuple[str, int] | None:
    """The line that would stand in the place of this one of ours. A function of torch's written in Python comes to us by way
    of `handle_torch_function`, and from us a second time.
    """
    frame: FrameType | None = sys._getframe(2)  # noqa: SLF001 - the documented way costs a list of all frames
    while frame is not None and (frame.f_code.co_filename, frame.f_lineno) != (filename, lineno):
        frame = frame.f_back
    while frame is not None and is_ours(frame.f_code.co_filename):
        frame = frame.f_back
        if frame is not None and frame.f_code is handle_torch_function.__code__ and frame.f_back is not None:
            frame = frame.f_back.f_back
    return None if frame is None else (frame.f_code.co_filename, frame.f_lineno)
