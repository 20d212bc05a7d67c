"""A trial runs the user's script without touching a file of the user's: what it writes goes to a folder of the trial.

A path that is written to becomes one in the scratch folder; a path that is read is looked up there first. Files that
compiled code writes by itself are caught where we know of them: `torch.save`, safetensors, OpenCV.
"""

from __future__ import annotations

import builtins
import functools
import io
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

Guard = tuple[Any, str, Any]  # (owner, name, what stood there)
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CHANGING = ("mkdir", "rmdir", "remove", "unlink", "utime", "chmod", "truncate")
MOVING = ("rename", "replace", "link", "symlink")
LOOKING = ("stat", "lstat", "access", "readlink", "listdir", "scandir", "chdir")
FREE = ("/dev/", "/proc/", "/sys/")
_NAMES = (*CHANGING, *MOVING, *LOOKING, "open")
_REAL = SimpleNamespace(**{name: getattr(os, name) for name in _NAMES}, io_open=io.open)
# module -> its function that writes a file, and where that takes the path
_SAVERS = {"safetensors.torch": ("save_file", 1), "safetensors.numpy": ("save_file", 1), "cv2": ("imwrite", 0)}


@contextmanager
def scratch(folder: Path) -> Iterator[None]:
    """Inside, this process writes below `folder`, whatever path it names."""
    folder.mkdir(parents=True, exist_ok=True)
    place = _Place(str(folder.resolve()))
    undo = [*_guard_python(place), *_guard_torch(place)]
    finder = _Savers(place)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for owner, name, value in reversed([*undo, *finder.undo]):
            setattr(owner, name, value)


class _Place:
    """Where a path of the user's stands in the scratch folder; `gone`: what the script has removed."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.gone: set[str] = set()

    def full(self, path: Any) -> str | None:
        """None: no path of the user's, but a descriptor, a device, or one of ours."""
        if isinstance(path, int) or path is None:
            return None
        full = os.path.abspath(os.fsdecode(path))  # noqa: PTH100 - links stay
        return None if full.startswith((self.folder, *FREE)) else full

    def written(self, path: Any) -> Any:
        full = self.full(path)
        if full is None:
            return path
        moved = self.folder + full
        if _is(os.path.dirname(full), "dir") and full not in self.gone:  # noqa: PTH120
            _make(os.path.dirname(moved))  # noqa: PTH120
        if full not in self.gone and _is(full, "file") and not _is(moved, "any"):
            with _REAL.io_open(full, "rb") as old, _REAL.io_open(moved, "wb") as new:  # for those who append
                shutil.copyfileobj(old, new)
        return moved

    def looked_at(self, path: Any) -> Any:
        full = self.full(path)
        if full is None:
            return path
        moved = self.folder + full
        return moved if full in self.gone or (_is(moved, "any") and not _is(full, "dir")) else path

    def opened(self, path: Any, *, writing: bool) -> Any:
        made = self.written(path) if writing else self.looked_at(path)
        if writing and (full := self.full(path)) is not None:
            self.gone.discard(full)
        return made

    def left(self, path: Any) -> None:
        if (full := self.full(path)) is not None:
            self.gone.add(full)


def _is(path: str, kind: str) -> bool:
    try:
        mode = _REAL.stat(path).st_mode
    except (OSError, ValueError):
        return False
    return kind == "any" or (kind == "dir") == ((mode & 0o170000) == 0o040000)


def _make(folder: str) -> None:
    if folder and not _is(folder, "dir"):
        _make(os.path.dirname(folder))  # noqa: PTH120
        with suppress(FileExistsError):
            _REAL.mkdir(folder)


def _replaced(owner: Any, name: str, new: Any) -> Guard:
    old = getattr(owner, name)
    setattr(owner, name, functools.wraps(old)(new) if callable(new) else new)
    return owner, name, old


def _guard_python(place: _Place) -> Iterator[Guard]:
    def open_file(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        return _REAL.io_open(place.opened(file, writing=bool(set(mode) & set("wax+"))), mode, *args, **kwargs)

    def open_descriptor(path: Any, flags: int, *args: Any, **kwargs: Any) -> int:
        opened: int = _REAL.open(place.opened(path, writing=bool(flags & WRITING)), flags, *args, **kwargs)
        return opened

    yield _replaced(shutil, "_use_fd_functions", False)  # so that rmtree names paths
    yield _replaced(builtins, "open", open_file)
    yield _replaced(io, "open", open_file)
    yield _replaced(os, "open", open_descriptor)
    yield from _guard_numpy(open_file)
    for name in LOOKING:
        yield _replaced(os, name, _looking(place, getattr(_REAL, name)))
    for name in CHANGING:
        yield _replaced(os, name, _changing(place, name))
    for name in MOVING:
        yield _replaced(os, name, _moving(place, name))


def _guard_numpy(open_file: Callable[..., Any]) -> Iterator[Guard]:
    """`numpy.savetxt` keeps the `io.open` of when it was first called."""
    from numpy.lib import _datasource

    openers: Any = vars(_datasource)["_file_openers"]
    if None in getattr(openers, "_file_openers", {}):
        openers._load()  # noqa: SLF001
        kept = openers._file_openers  # noqa: SLF001
        openers._file_openers = {**kept, None: open_file}  # noqa: SLF001
        yield openers, "_file_openers", kept


def _looking(place: _Place, real: Callable[..., Any]) -> Callable[..., Any]:
    def look(path: Any = ".", *args: Any, **kwargs: Any) -> Any:
        return real(place.looked_at(_absolute(path, kwargs)), *args, **kwargs)

    return look


def _changing(place: _Place, name: str) -> Callable[..., Any]:
    real = getattr(_REAL, name)

    def change(path: Any, *args: Any, **kwargs: Any) -> Any:
        path = _absolute(path, kwargs)
        if place.full(path) is None:
            return real(path, *args, **kwargs)
        if name == "mkdir" and _is(place.looked_at(path), "any"):
            raise FileExistsError(17, "File exists", os.fsdecode(path))
        if name == "rmdir" and _is(os.fsdecode(path), "dir"):
            return place.left(path)
        done = real(place.written(path), *args, **kwargs)
        if name in {"remove", "unlink", "rmdir"}:
            place.left(path)
        return done

    return change


def _absolute(path: Any, kwargs: dict[str, Any]) -> Any:
    """`path` without the directory descriptor it was relative to."""
    descriptor = kwargs.pop("dir_fd", None)
    return path if descriptor is None else os.path.join(_REAL.readlink(f"/proc/self/fd/{descriptor}"), path)  # noqa: PTH118


def _moving(place: _Place, name: str) -> Callable[..., Any]:
    real = getattr(_REAL, name)

    def move(source: Any, target: Any, **kwargs: Any) -> Any:
        done = real(place.written(source), place.opened(target, writing=True), **kwargs)
        if name in {"rename", "replace"}:
            place.left(source)
        return done

    return move


def _guard_torch(place: _Place) -> Iterator[Guard]:
    import torch

    save = torch.save

    def saved(obj: Any, f: Any, *args: Any, **kwargs: Any) -> None:
        save(obj, place.opened(f, writing=True) if isinstance(f, str | os.PathLike) else f, *args, **kwargs)

    load = torch.load

    def loaded(f: Any, *args: Any, **kwargs: Any) -> Any:
        return load(place.looked_at(f) if isinstance(f, str | os.PathLike) else f, *args, **kwargs)

    yield _replaced(torch, "save", saved)
    yield _replaced(torch, "load", loaded)


class _Savers:
    """Guards the functions of compiled libraries that write files, when they are imported."""

    def __init__(self, place: _Place) -> None:
        self.place, self.undo = place, list[Guard]()
        for module in _SAVERS:
            if module in sys.modules:
                self._guard(sys.modules[module])

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name not in _SAVERS:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                load(module)
                self._guard(module)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec

    def _guard(self, module: ModuleType) -> None:
        name, at = _SAVERS[module.__name__]
        if hasattr(module, name):
            self.undo.append(_replaced(module, name, self._saver(getattr(module, name), at)))

    def _saver(self, real: Callable[..., Any], at: int) -> Callable[..., Any]:
        def save(*args: Any, **kwargs: Any) -> Any:
            moved = [self.place.opened(a, writing=True) if i == at else a for i, a in enumerate(args)]
            if "filename" in kwargs:
                kwargs["filename"] = self.place.opened(kwargs["filename"], writing=True)
            return real(*moved, **kwargs)

        return save
