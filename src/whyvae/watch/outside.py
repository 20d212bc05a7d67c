"""When is a script not training? Opens the onlooker's window then, until the next training backward."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from types import CodeType
from typing import Any

import numpy as np
import torch
from torch import nn

from whyvae.watch.modes import compiler_called, put_on, take_off
from whyvae.watch.onlooker import Onlooker
from whyvae.watch.pictures import Pictures
from whyvae.watch.places import calling_place
from whyvae.watch.tape import Place, Tape

# What a sample may start with.
DRAWING = (
    *((torch, name) for name in ("randn", "rand", "normal", "randn_like", "rand_like", "from_numpy")),
    *((np.random, name) for name in ("randn", "rand", "normal", "standard_normal", "uniform", "random", "random_sample")),
)  # fmt: skip
COMPILERS = ((torch, "compile"), (torch.jit, "script"))
_FRAMES_UP = 3  # arguments of `torch.jit.script`, of which it is the third
MOST_PLACES = 4096
BORED = 3  # windows in which nothing happened
Call = tuple[int, int]  # id of a code object, position in it


def _guarded(event: Callable[[Outside], None]) -> Callable[[Outside], None]:
    """A mistake of ours costs the looking, not the user's run."""

    @functools.wraps(event)
    def guarded(self: Outside) -> None:
        try:
            event(self)
        except Exception:
            if os.environ.get("WHYVAE_DEBUG") == "1":
                raise
            self.onlooker.enabled = False

    return guarded


class Outside:
    """A window opens where gradients are turned off, a module is put in evaluation mode, a loader is exhausted, or
    something is drawn at a place that was not seen to belong to a training step. It ends before the next training
    backward; one that gradients turned off ends with them if nothing was drawn or decoded in it.
    """

    def __init__(self) -> None:
        self.onlooker = Onlooker()
        self.pictures = Pictures(self.onlooker.slot_of, lambda: self.onlooker.left)
        self.onlooker.leaving = self.pictures.look  # what shows pictures may have been imported since
        self.count = 0  # optimiser steps done
        self.in_step = 0  # depth of optimisers' own `step`
        self.ours = 0  # depth of the watcher's own events, which turn gradients off too
        self.before_step = False  # after a backward: gradients are clipped and logged
        self._open = False
        self._switching = False
        self._depth = self._opened_at = 0  # of blocks without gradients
        self._bored: Counter[Place | None] = Counter()  # lines that turn gradients off there
        self._opened_by: Place | None = None
        self._places: dict[Call, CodeType] = {}  # where training draws; the code is held, as its id is the key
        self._new: list[Call] = []  # seen in this window
        self._undo: list[Callable[[], None]] = []
        self._undo_switches: list[Callable[[], None]] = []
        self._draws: list[tuple[Any, str, Any, Any]] = []  # owner, name, original, what stands in for it
        self._home = os.getpid(), threading.get_ident()

    def listen(self) -> None:
        self._notice_switches()
        self._undo = [self._before_compiling(*compiler) for compiler in COMPILERS]

    def _notice_switches(self) -> None:
        self._undo_switches = [
            *(self._around(cls) for cls in (torch.no_grad, torch.inference_mode)),
            self._after(torch.set_grad_enabled, "__init__", lambda _, mode: mode),
            self._after(nn.Module, "train", lambda _, mode=True: mode),
        ]

    def _ignore_switches(self) -> None:
        for undo in reversed(self._undo_switches):
            undo()
        self._undo_switches.clear()

    def meet(self, tape: Tape) -> None:
        """After the first step, not before: torch's compiler is loaded with the first optimiser, and notes by identity
        which functions are torch's own.
        """
        self.onlooker.meet(tape)
        if self._undo and not self._draws:
            self._draws += [self._noticed(*draw) for draw in DRAWING]

    def stop(self) -> None:
        self.close()
        for undo in reversed(self._undo):
            undo()
        self._undo.clear()
        self._ignore_switches()
        self._stop_noticing()
        self.pictures.undo()

    # ------------------------------------------------------------------ windows
    @_guarded
    def open(self) -> None:
        """Unless one is open, or an optimiser steps, or this is a loader's worker."""
        if self._open or self.in_step or not self.onlooker.decoder or not self.onlooker.enabled:
            return
        if self._home != (os.getpid(), threading.get_ident()):
            return
        self._open, self._opened_at = True, 0
        self.onlooker.begin(self.count)
        self.pictures.look()
        put_on(self.onlooker)

    @_guarded
    def close(self) -> None:
        """What was drawn in a window in which nothing was decoded belongs to a training step."""
        if not self._open:
            return
        self._open = False
        take_off(self.onlooker)
        if self.onlooker.saw_decoding:
            for place in self._new:
                self._places.pop(place, None)
        self._new.clear()
        self.onlooker.end()
        self.pictures.look()

    def trains(self) -> None:
        """A training backward begins: what the functions hold that made samples is theirs to give up."""
        self.close()
        self.onlooker.frames = ()

    # ------------------------------------------------------------------ what opens them
    def _around(self, cls: Any) -> Callable[[], None]:
        first, last = cls.__enter__, cls.__exit__

        def entering(context: Any) -> Any:
            self._switching = True  # it calls set_grad_enabled
            try:
                result = first(context)
            finally:
                self._switching = False
            self._depth += 1
            if not self._open and not self.in_step and not self.ours:
                self._opened_by = calling_place() if self.before_step else None
                if self._bored[self._opened_by] < BORED:
                    self.open()
                    self._opened_at = self._depth
            return result

        def leaving(context: Any, *exc: Any) -> Any:
            if self._open and self._opened_at == self._depth and not (self.onlooker.saw_decoding or self._new):
                self.close()
                self._bored[self._opened_by] += self._opened_by is not None
            self._depth = max(0, self._depth - 1)
            self._switching = True
            try:
                return last(context, *exc)
            finally:
                self._switching = False

        cls.__enter__, cls.__exit__ = entering, leaving

        def undo() -> None:
            cls.__enter__, cls.__exit__ = first, last

        return undo

    def _after(self, cls: Any, name: str, trains: Callable[..., object]) -> Callable[[], None]:
        """Opens a window after a call of the method that turns training off."""
        original = getattr(cls, name)

        @functools.wraps(original)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            result = original(*args, **kwargs)
            if not self._open and not self._switching and not trains(*args, **kwargs):
                self.open()
            return result

        setattr(cls, name, wrapper)
        return lambda: setattr(cls, name, original)

    def _noticed(self, owner: Any, name: str) -> tuple[Any, str, Any, Any]:
        """Opens a window before a draw at a place that training was not seen to draw at."""
        original, places, noticing = getattr(owner, name), self._places, self._draws
        compiling = torch.compiler.is_compiling  # of functions that were compiled before this watched

        @functools.wraps(original)
        def draw(*args: Any, **kwargs: Any) -> Any:
            if noticing and not compiling():
                frame = sys._getframe(1)  # noqa: SLF001 - the documented way costs a list of all frames
                if (id(frame.f_code), frame.f_lasti) not in places:
                    self._met(frame.f_code, frame.f_lasti)
            return original(*args, **kwargs)

        setattr(owner, name, draw)
        return owner, name, original, draw

    def _stop_noticing(self) -> None:
        for owner, name, original, _ in self._draws:
            setattr(owner, name, original)
        self._draws.clear()

    def _met(self, code: CodeType, position: int) -> None:
        if not self.onlooker.decoder or len(self._places) >= MOST_PLACES:
            return
        self._places[id(code), position] = code
        if not self.onlooker.paused and not self.in_step:  # else: an example is loaded
            self._new.append((id(code), position))
            self.open()

    @contextlib.contextmanager
    def _switches_as_they_were(self) -> Iterator[None]:
        """Where a function that is scripted turns gradients off, the class that does so is scripted with it."""
        noticed = bool(self._undo_switches)
        self._ignore_switches()
        try:
            yield
        finally:
            if noticed:
                self._notice_switches()

    def _before_compiling(self, owner: Any, name: str) -> Callable[[], None]:
        """From the first call of a compiler on draws are not noticed: it would compile the noticing."""
        original = getattr(owner, name)

        @functools.wraps(original)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            if self._draws and owner is torch.jit:  # names that were imported from torch keep what stood in for them
                for _, drawn, _, draw in self._draws:
                    torch.jit._builtins._register_builtin(draw, f"aten::{drawn}")  # noqa: SLF001 - there is no other way
            self._stop_noticing()
            if owner is torch:
                compiler_called()
                return original(*args, **kwargs)
            if len(args) < _FRAMES_UP:  # names in a class that is scripted are those where the compiler is called
                kwargs["_frames_up"] = kwargs.get("_frames_up", 0) + 1
            with self._switches_as_they_were():
                return original(*args, **kwargs)

        setattr(owner, name, wrapper)
        return lambda: setattr(owner, name, original)
