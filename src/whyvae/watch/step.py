"""What the watcher keeps of a training run: recorded steps, and a log of the rest."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from whyvae.watch.tape import Place, Tape


@dataclass(slots=True)
class Step:
    """One recorded training step.

    `stale` is the norm of the gradients that were already there before the first `backward` of the step,
    relative to the norm after it, over what its optimisers step; NaN where there was nothing to compare.
    """

    tape: Tape
    index: int  # optimiser steps done before it
    loss: float
    stale: float = float("nan")
    parameters: dict[int, Tensor] = field(default_factory=dict)  # slot -> value before the step (small models)
    without_gradient: frozenset[int] = frozenset()  # ids of optimised parameters whose gradient is None or 0
    lr: float = float("nan")
    backward_at: Place | None = None
    refused: int = 0  # numbers that are none, in batches since the step before that no gradient came from

    @property
    def finite(self) -> bool:
        return self.loss == self.loss and abs(self.loss) != float("inf")


@dataclass(slots=True)
class Optimizer:
    """An optimiser seen stepping: its class, what it steps, and where it was called.

    Rates are those of its first parameter group; `settings` are that group's others when it was met.
    """

    name: str
    parameters: frozenset[int]  # ids
    alive: list[Tensor]
    lr: float  # the last one
    settings: dict[str, Any] = field(default_factory=dict)
    maximizes: bool = False  # (`maximize=True`: its steps are recorded with the loss negated)
    largest_lr: float = 0.0
    steps: int = 0
    begun: int = 0  # steps of others, of an earlier training, that were done before its first
    stepped_at: Place | None = None


class Log:
    """The loss of every step (thinned to at most `most` entries), and when things happened."""

    def __init__(self, most: int = 4096) -> None:
        self.most = most
        self.stride = 1
        self.seen = 0
        self._kept: list[tuple[int, Tensor]] = []

    def add(self, step: int, loss: Tensor) -> None:
        if self.seen % self.stride == 0:
            self._kept.append((step, loss.detach()))
            if len(self._kept) >= self.most:
                self._kept = self._kept[::2]
                self.stride *= 2
        self.seen += 1

    def part(self, start: int, end: int | None) -> Log:
        """The entries of the steps from `start` to before `end` (None: the last), counted from `start`."""
        found = Log(self.most)
        found.stride = self.stride
        found._kept = [(s - start, loss) for s, loss in self._kept if s >= start and (end is None or s < end)]
        found.seen = len(found._kept) * self.stride
        return found

    def losses(self) -> list[tuple[int, float]]:
        return [(step, float(loss)) for step, loss in self._kept]

    def first_not_finite(self) -> int | None:
        return next((s for s, loss in self._kept if not bool(torch.isfinite(loss).all())), None)


@dataclass(frozen=True, slots=True)
class Left:
    """A tensor that left torch (for numpy, a list) after the decoder was called: its slot, and its first rows."""

    slot: int
    value: Tensor


@dataclass(frozen=True, slots=True)
class Decoded:
    """A call of the decoder outside training, on something that was not encoded from data.

    `tape` is the program from the draw to what was made of the output (shared by the calls of one window), `slot` what
    entered the decoder on it, `op` the index of the function it entered.
    """

    z: Tensor  # its first rows
    slot: int
    op: int
    tape: Tape
    step: int  # optimiser steps done before it
    place: Place | None


@dataclass(frozen=True, slots=True)
class Shown:
    """A picture the script saved or displayed. `value` is a copy (None where it is large); `tape` is that of the window,
    if the decoder was called in it, and `slot` its slot there, if it is a tensor that was followed (-1: it is not);
    `left` had left torch last, newest first; `options` are the keywords it was called with.
    """

    by: str
    shape: tuple[int, ...]
    dtype: str
    low: float
    high: float
    place: Place | None
    value: Any = None
    options: dict[str, Any] = field(default_factory=dict)
    tape: Tape | None = None
    slot: int = -1
    left: tuple[Left, ...] = ()
