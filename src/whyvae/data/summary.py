"""One pass over all rows: range and moments, and whether anything is wrong with them. Memory stays that of one chunk."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from whyvae.data.raw import Array, DataError

CHUNK = 500_000  # numbers at a time


class Streamed:
    """Rows of a .npy file, read when asked for. Not mapped: pages of a mapping count as memory of ours."""

    def __init__(self, path: Path) -> None:
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
        if not mapped.flags.c_contiguous:
            raise DataError(
                f"{path} is stored column by column and cannot be streamed: save np.ascontiguousarray(rows)"
            )
        self.path, self.shape, self.dtype, self._offset = path, mapped.shape, mapped.dtype, mapped.offset
        self.ndim = len(self.shape)
        self._bytes = mapped[0].nbytes  # of a row
        self._which: Array | None = None  # positions in the file; None: all

    def __len__(self) -> int:
        return int(self.shape[0])

    def part(self, which: Any) -> Streamed:
        """Rows at positions `which`, which stay on the disk."""
        made = copy.copy(self)
        made._which = self._places(np.asarray(which))  # noqa: SLF001 - our own
        made.shape = (len(which), *self.shape[1:])
        return made

    def _places(self, which: Any) -> Array:
        """Positions in the file of a slice, or of positions, of these rows."""
        wanted = np.arange(len(self))[which] if isinstance(which, slice) else np.asarray(which, np.int64)
        return wanted if self._which is None else self._which[wanted]

    def __getitem__(self, which: Any) -> Array:
        places = self._places(which)
        content = np.empty((len(places), self._bytes), np.uint8)
        starts = np.flatnonzero(np.diff(places, prepend=-2) != 1)  # of runs of neighbours, each read in one piece
        with self.path.open("rb", buffering=0) as file:
            for start, end in pairwise([*starts.tolist(), len(places)]):
                file.seek(self._offset + int(places[start]) * self._bytes)
                file.readinto(content[start:end].data)
        return content.view(self.dtype).reshape(-1, *self.shape[1:])


@dataclass(frozen=True)
class Summary:
    """Over all rows [n, ...]: extremes, mean and standard deviation, each [...]."""

    low: Array
    high: Array
    mean: Array
    std: Array
    whole: bool  # every value is a whole number
    binary: Array  # per feature: nothing but 0 and 1

    @classmethod
    def of(cls, rows: Any, source: str) -> Summary:
        """
        Raises:
            DataError: values that are no finite numbers, or all the same.
        """
        if rows.dtype.kind not in "biuf":
            raise DataError(f"{source} holds {rows.dtype} values, not numbers")
        step = max(1, CHUNK // max(1, math.prod(rows.shape[1:])))
        low, high = np.full(rows.shape[1:], np.inf), np.full(rows.shape[1:], -np.inf)
        total, squares, whole, binary = np.zeros(low.shape), np.zeros(low.shape), True, np.ones(low.shape, bool)
        origin = np.asarray(rows[:1], np.float64)[0]  # moments about it: a large offset must not swallow the spread
        for start in range(0, len(rows), step):
            part = np.asarray(rows[start : start + step], np.float64)
            _finite(part, start, source)
            low, high = np.minimum(low, part.min(0)), np.maximum(high, part.max(0))
            total += (part - origin).sum(0)
            squares += ((part - origin) ** 2).sum(0)
            whole = whole and bool((part == np.round(part)).all())
            binary &= ((part == 0) | (part == 1)).all(0)
        if float(low.min()) == float(high.max()):
            raise DataError(f"{source}: every value is {float(low.min()):g}: there is nothing to learn")
        mean = total / len(rows)
        std = np.sqrt(np.maximum(squares / len(rows) - mean**2, 0))
        return cls(low, high, mean + origin, std, whole, binary)


def _finite(part: Array, start: int, source: str) -> None:
    bad = ~np.isfinite(part).reshape(len(part), -1).all(1)
    if bad.any():
        first = start + int(np.argmax(bad))
        raise DataError(
            f"{source}: row {first} (counted from 0) and maybe others hold NaN or infinity: fill or drop them"
        )
