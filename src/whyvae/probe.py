"""Measurements asked for by type: a rule names a Probe in its signature and gets it, once."""

from __future__ import annotations

import inspect
import os
import random
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Generic, Self, TypeVar, cast, get_args, get_origin, get_type_hints

T = TypeVar("T")
P = TypeVar("P", bound="Probe")


class CannotMeasure(Exception):
    """A probe has no number for this subject. The reason is shown to the user."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Probe(ABC):
    """A frozen dataclass of plain numbers that knows how to measure itself."""

    @classmethod
    @abstractmethod
    def measure(cls, subject: Any, *probes: Any) -> Self:
        """Parameters after `subject` are other probes, injected by their annotated type."""


class OnDemand(Generic[P]):
    """A probe that is measured only when it is called for, as it costs much or may have no number.

    A check that names `OnDemand[Probe]` gets this; called, it gives the measurement, or None where there is none.
    """

    def __init__(self, measured: Callable[[], P]) -> None:
        self._measured = measured

    def __call__(self) -> P | None:
        try:
            return self._measured()
        except CannotMeasure:
            return None


class Bench:
    """Measures each probe at most once for one subject, and leaves random streams as they were. `known`: what was measured
    elsewhere, or cannot be.
    """

    def __init__(self, subject: object, known: Mapping[type[Probe], Probe | CannotMeasure] | None = None) -> None:
        self.seconds: dict[str, float] = {}
        self._subject = subject
        self._done: dict[type[Probe], Probe | CannotMeasure] = dict(known or {})
        self._open: list[type[Probe]] = []

    def call(self, check: Callable[..., T]) -> T:
        """`check` with every parameter filled by the probe it is annotated with."""
        return check(**self._arguments(check, skip=0))

    def get(self, probe: type[P]) -> P:
        if probe not in self._done:
            self._done[probe] = self._attempt(probe)
        result = self._done[probe]
        if isinstance(result, CannotMeasure):
            raise result
        return cast("P", result)

    def _arguments(self, function: Callable[..., object], skip: int) -> dict[str, Probe | OnDemand[Any]]:
        hints = get_type_hints(function)
        names = list(inspect.signature(function).parameters)[skip:]
        for name in names:
            hint = hints.get(name)
            asked = get_args(hint)[0] if get_origin(hint) is OnDemand else hint
            if not (isinstance(asked, type) and issubclass(asked, Probe)):
                raise TypeError(f"{function.__qualname__}: parameter {name!r} is {hint}, not a Probe")
        return {name: self._argument(hints[name]) for name in names}

    def _argument(self, hint: Any) -> Probe | OnDemand[Any]:
        if get_origin(hint) is OnDemand:
            return OnDemand(lambda: self.get(get_args(hint)[0]))
        return self.get(cast("type[Probe]", hint))

    def _attempt(self, probe: type[Probe]) -> Probe | CannotMeasure:
        try:
            return self._measure(probe)
        except CannotMeasure as reason:
            return reason
        except Exception as error:
            if debugging():
                raise
            return CannotMeasure(f"{probe.__name__}: internal error {error!r}")

    def _measure(self, probe: type[Probe]) -> Probe:
        if probe in self._open:
            circle = " -> ".join(p.__name__ for p in (*self._open, probe))
            raise TypeError(f"probes ask for each other: {circle}")
        self._open.append(probe)
        try:
            arguments = self._arguments(probe.measure, skip=1)
        finally:
            self._open.pop()
        begin = time.perf_counter()
        with kept_random():
            try:
                return probe.measure(self._subject, **arguments)
            finally:
                self.seconds[probe.__name__] = time.perf_counter() - begin


def debugging() -> bool:
    """Let internal errors through with their traceback, or turn them into a sentence (users)."""
    return os.environ.get("WHYVAE_DEBUG") == "1"


@contextmanager
def kept_random() -> Iterator[None]:
    """The random streams of Python, numpy and torch come out as they went in.

    Nothing is imported for it: what is not loaded has no stream yet.
    """
    undo = [_keep_python(), *_keep_numpy(), *_keep_torch()]
    try:
        yield
    finally:
        for restore in undo:
            restore()


def _keep_python() -> Callable[[], object]:
    state = random.getstate()
    return lambda: random.setstate(state)


def _keep_numpy() -> list[Callable[[], object]]:
    numpy = sys.modules.get("numpy")
    if numpy is None:
        return []
    state = numpy.random.get_state()
    return [lambda: numpy.random.set_state(state)]


def _keep_torch() -> list[Callable[[], object]]:
    torch = sys.modules.get("torch")
    if torch is None:
        return []
    cpu = torch.get_rng_state()
    undo: list[Callable[[], object]] = [lambda: torch.set_rng_state(cpu)]
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        gpus = torch.cuda.get_rng_state_all()
        undo.append(lambda: torch.cuda.set_rng_state_all(gpus))
    if torch.backends.mps.is_available():
        mps = torch.mps.get_rng_state()
        undo.append(lambda: torch.mps.set_rng_state(mps))
    return undo
