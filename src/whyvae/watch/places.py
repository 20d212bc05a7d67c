"""Where in the user's source a function was called."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path
from types import FrameType

import torch

from whyvae.watch.tape import Frame, Place

MOST_FRAMES = 12  # of the user's, kept of a call
_PACKAGE = Path(__file__).resolve().parents[1]
_HERE = (str(_PACKAGE / "watch"), str(_PACKAGE / "treat"))  # the examples lie in the package too
_TORCH = str(Path(torch.__file__).resolve().parent)
_LIBRARY = tuple({str(Path(p).resolve()) for p in (Path(sys.modules["threading"].__file__ or "").parent,)})


def calling_place() -> Place | None:
    """The innermost line that is neither ours nor torch's."""
    return calling_frames()[0]


def calling_frames() -> tuple[Place | None, tuple[Frame, ...]]:
    """The innermost line that is neither ours nor torch's, and the user's frames from the innermost outwards."""
    frame: FrameType | None = sys._getframe(2)  # noqa: SLF001 - the documented way costs a list of all frames
    best: Place | None = None
    found: list[Frame] = []
    while frame is not None:
        code = frame.f_code
        if not _foreign(code.co_filename):
            if best is None or (not found and "site-packages" not in code.co_filename):
                best = Place(code.co_filename, frame.f_lineno)
            if is_users(code.co_filename):
                found.append(Frame(code, frame.f_lasti // 2))
                if code.co_name == "<module>" or len(found) == MOST_FRAMES:
                    break
        frame = frame.f_back
    return best, tuple(found)


def is_ours(file: str) -> bool:
    return file.startswith(_HERE)


def is_users(file: str) -> bool:
    """A source of the user's own: not ours, torch's, the standard library's, or an installed package's."""
    return not _foreign(file) and "site-packages" not in file


@cache
def _foreign(file: str) -> bool:
    """Ours, torch's, or of the standard library."""
    return file.startswith((_TORCH, *_HERE, "<frozen")) or (file.startswith(_LIBRARY) and "site-packages" not in file)
