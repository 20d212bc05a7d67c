"""Spies on the functions with which people save or show pictures."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import FrameType, ModuleType
from typing import Any

from whyvae.watch.step import Left, Shown
from whyvae.watch.tape import Place, Tape

MOST_PLACES = 16
MOST_CALLERS = 3  # a helper that saves, one that makes a grid, the script
MOST_NUMBERS = 2**18  # in the copy of one picture
FUNCTIONS = (
    ("PIL.Image", "fromarray"), ("torchvision.utils", "save_image"), ("matplotlib.pyplot", "imshow"),
    ("matplotlib.pyplot", "imsave"), ("matplotlib.axes._axes", "Axes.imshow"), ("imageio", "imwrite"),
    ("imageio.v2", "imwrite"), ("imageio.v3", "imwrite"), ("cv2", "imwrite"), ("skimage.io", "imsave"),
    ("numpy", "save"), ("numpy", "savez"), ("numpy", "savez_compressed"),
)  # fmt: skip


class Pictures:
    """`look` wraps those of FUNCTIONS whose modules are loaded, from then on also those that come later (`import` in the
    function that shows the samples); `undo` puts them back. `slot_of` finds a tensor on the tape of what the script is
    doing, if that has decoded anything. Of each line of the source, and each line from which a helper was called, the last
    picture is kept.
    """

    def __init__(self, slot_of: Callable[[Any], tuple[Tape, int] | None], left: Callable[[], tuple[Left, ...]]) -> None:
        self._shown: dict[tuple[Place, ...], Shown] = {}
        self._slot_of, self._left = slot_of, left
        self._modules = 0  # how many were loaded when we last looked
        self._patched: dict[str, Callable[[], None]] = {}
        self._arrivals = _Arrivals(self._arrived)
        self._inside = 0

    def look(self) -> None:
        """Nothing new can be spied on where nothing was imported since: the usual case, at every step."""
        if len(sys.modules) == self._modules:
            return
        if self._arrivals not in sys.meta_path:
            sys.meta_path.insert(0, self._arrivals)
        self._modules = len(sys.modules)
        for module, path in FUNCTIONS:
            key = f"{module}.{path}"
            if module in sys.modules and key not in self._patched:
                self._patch(sys.modules[module], key, path)

    def undo(self) -> None:
        if self._arrivals in sys.meta_path:
            sys.meta_path.remove(self._arrivals)
        for undo in self._patched.values():
            undo()
        self._patched.clear()

    def _arrived(self) -> None:
        self._modules = 0
        with suppress(Exception):  # whatever went wrong here, the user's import did not
            self.look()

    def _patch(self, owner: Any, key: str, path: str) -> None:
        *parents, last = path.split(".")
        for parent in parents:
            owner = getattr(owner, parent, None)
        original = getattr(owner, last, None)
        if original is None:
            return
        setattr(owner, last, self._spying(original, key))
        self._patched[key] = lambda: setattr(owner, last, original)

    def _spying(self, original: Callable[..., Any], key: str) -> Callable[..., Any]:
        def spy(*args: Any, **kwargs: Any) -> Any:
            if not self._inside:  # pyplot.imshow calls Axes.imshow
                self._note(key, args, kwargs)
            self._inside += 1
            try:
                return original(*args, **kwargs)
            finally:
                self._inside -= 1

        spy.__name__ = getattr(original, "__name__", "spy")
        spy.__doc__ = original.__doc__
        spy.__wrapped__ = original  # type: ignore[attr-defined]
        return spy

    @property
    def shown(self) -> list[Shown]:
        return list(self._shown.values())

    def _note(self, key: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        try:
            picture = next((v for v in (*args, *kwargs.values()) if hasattr(v, "shape") and hasattr(v, "min")), None)
            if picture is None or 0 in picture.shape:
                return
            tape, slot = self._slot_of(picture) or (None, -1)
            simple = {k: v for k, v in kwargs.items() if isinstance(v, bool | int | float | str | tuple | type(None))}
            way = _callers()
            self._shown.pop(way, None)
            self._shown[way] = Shown(
                key, tuple(picture.shape), str(picture.dtype), float(picture.min()), float(picture.max()), way[0],
                _copy(picture), simple, tape, slot, self._left() if tape is not None else (),
            )  # fmt: skip
        except (TypeError, ValueError, RuntimeError, AttributeError):
            return
        if len(self._shown) > MOST_PLACES:
            del self._shown[next(iter(self._shown))]


class _Arrivals(MetaPathFinder):
    """Calls `arrived` whenever one of the modules of FUNCTIONS has been loaded."""

    def __init__(self, arrived: Callable[[], None]) -> None:
        self._arrived, self._names = arrived, {module for module, _ in FUNCTIONS}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in self._names:
            return None
        others = [f.find_spec for f in sys.meta_path if f is not self and hasattr(f, "find_spec")]
        spec = next((s for find in others if (s := find(fullname, path, target)) is not None), None)
        if spec is not None and spec.loader is not None and hasattr(spec.loader, "exec_module"):
            spec.loader = _Then(spec.loader, self._arrived)
        return spec


class _Then(Loader):
    """Loads as `loader` does, in whose place it is until then, and calls `then`."""

    def __init__(self, loader: Loader, then: Callable[[], None]) -> None:
        self._loader, self._then = loader, then

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        self._then()


def _copy(picture: Any) -> Any:
    """Of a large one its first rows, as of what leaves torch."""
    size = 1
    for side in picture.shape:
        size *= side
    if size > MOST_NUMBERS:
        rows = MOST_NUMBERS // (size // picture.shape[0])
        if rows == 0:
            return None
        picture = picture[:rows]
    return picture.detach().clone() if hasattr(picture, "detach") else picture.copy()


def _callers() -> tuple[Place, ...]:
    """The line that shows a picture, and those that led there, innermost first."""
    frame: FrameType | None = sys._getframe(3)  # noqa: SLF001 - spy, _note, this
    way: list[Place] = []
    while frame is not None and len(way) < MOST_CALLERS:
        way.append(Place(frame.f_code.co_filename, frame.f_lineno))
        frame = frame.f_back
    return tuple(way)
