"""The patch: an edit of the user's files as a unified diff, and what applies it."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from whyvae.treat.source import read, unified

if TYPE_CHECKING:
    from collections.abc import Mapping

NAME = "fix.patch"


class Changed(Exception):
    """A file is no longer what it was when the patch was made; the message names it."""


@dataclass(frozen=True)
class Patch:
    """Files before and after, by their paths."""

    old: Mapping[str, str]
    new: Mapping[str, str]
    folder: Path = field(default_factory=Path.cwd)  # where it is to be applied

    @property
    def text(self) -> str:
        """For `patch -p1` or `git apply`, in the folder of the patch."""
        return "".join(unified(self._named(path), self.old[path], new) for path, new in sorted(self.new.items()))

    def _named(self, path: str) -> str:
        return Path(os.path.relpath(path, self.folder)).as_posix()

    def write(self, folder: Path) -> Path:
        """Writes `fix.patch` into a folder of ours."""
        folder.mkdir(parents=True, exist_ok=True)
        target = folder / NAME
        target.write_text(self.text, encoding="utf-8", newline="")
        return target

    def apply(self) -> None:
        """Writes the new files, all or none.

        Raises:
            Changed: a file was changed since; nothing is written.
        """
        for path, old in self.old.items():
            if path in self.new and read(path) != old:
                raise Changed(f"{path} was changed meanwhile: nothing was written")
        ready: dict[str, str] = {}
        try:
            for path, new in self.new.items():
                ready[path] = _beside(path, new)
            for path, temporary in ready.items():
                os.replace(temporary, os.path.realpath(path))  # noqa: PTH105
        finally:
            for temporary in ready.values():
                Path(temporary).unlink(missing_ok=True)


def _beside(path: str, text: str) -> str:
    """A file with this text and the rights of the one at `path`, in its folder: renaming it is one act."""
    real = os.path.realpath(path)
    handle, temporary = tempfile.mkstemp(dir=os.path.dirname(real), prefix=".whyvae-")  # noqa: PTH120
    with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
        file.write(text)
    Path(temporary).chmod(Path(real).stat().st_mode)
    return temporary
