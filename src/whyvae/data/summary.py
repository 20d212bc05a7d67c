"""One pass over all rows: range and moments, and whether anything is wrong with them. Memory stays that of one chunk."""

from __future__ import annotations

import math
from dataclasses import dataclass
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

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(self, which: Any) -> Array:
        with self.path.open("rb", buffering=0) as file:
            if isinstance(which, slice):
                wanted = range(len(self))[which]
                content = np.empty((len(wanted), self._bytes), np.uint8)
                file.seek(self._offset + wanted.start * self._bytes)
                file.readinto(content.data)
            else:
                content = np.empty((len(which), self._bytes), np.uint8)
                for i, row in enumerate(which):
                    file.seek(self._offset + int(row) * self._bytes)
                    file.readinto(content[i].data)
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
