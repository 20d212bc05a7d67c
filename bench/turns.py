"""Two processes that take turns, a block of steps each, so that whatever else the machine does slows both alike."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

import numpy as np


class Side:
    """A process that prints a block's processor and clock seconds for each line it reads."""

    def __init__(self, command: Sequence[str]) -> None:
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.spent = np.zeros(2)

    def turn(self) -> None:
        assert self.process.stdin is not None  # noqa: S101
        assert self.process.stdout is not None  # noqa: S101
        print(file=self.process.stdin, flush=True)
        self.spent += [float(number) for number in self.process.stdout.readline().split()]

    def end(self) -> None:
        self.process.communicate()


def pair(one: Sequence[str], other: Sequence[str], seconds: float) -> tuple[Side, Side]:
    """Both from scratch, in turns, until the first has used so many seconds of the processor."""
    first, second = Side(one), Side(other)
    count = 0
    while first.spent[0] < seconds:
        for side in (first, second) if count % 2 else (second, first):
            side.turn()
        count += 1
    first.end()
    second.end()
    return first, second


def interval(values: np.ndarray, draws: int = 10_000) -> tuple[float, float, float]:
    """Median, and the 95% percentile bootstrap interval of the median."""
    picks = np.random.default_rng(0).integers(0, len(values), (draws, len(values)))
    low, high = np.quantile(np.median(values[picks], axis=1), [0.025, 0.975])
    return float(np.median(values)), float(low), float(high)
