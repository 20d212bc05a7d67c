"""A data set as training sees it: rows of one kind and shape, and the map between their unit and the model's."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from whyvae.data.raw import Array, Column, DataError, Kind, Raw
from whyvae.data.summary import Summary

FEWEST = 32  # rows: with fewer neither training nor a held-out part says anything
PIXELS = 64  # columns of one unit from which on a table is a flattened signal
ONE_UNIT = 3.0  # no column of one unit reaches further than this many times the median one


@dataclass(frozen=True)
class Dataset:
    """`rows` [n, ...] as the source holds them, read through `take` in the order of axes a model wants.

    Images are [C, H, W], sequences [C, T], tables and vectors [D]. `labels` [n] where the source has some.
    """

    source: str
    kind: Kind
    rows: Any
    summary: Summary  # in the order of axes of `shape`
    columns: tuple[Column, ...] = ()
    labels: Array | None = None
    notes: tuple[str, ...] = ()
    last: bool = False  # channels stand last in `rows`

    def __len__(self) -> int:
        return int(self.rows.shape[0])

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.summary.mean.shape)

    def take(self, which: Any) -> Tensor:
        """Rows [k, *shape], float32, in the unit of the source."""
        part = np.asarray(self.rows[which], np.float32)
        return torch.from_numpy(np.ascontiguousarray(arranged(part, self.kind, last=self.last)))

    @classmethod
    def of(cls, raw: Raw, source: str, kind: Kind | None = None) -> Dataset:
        """Checks all rows and finds out what they are.

        Raises:
            DataError: too few, not finite, all the same, or labels where rows were expected.
        """
        rows = raw.rows
        if rows.ndim < 2:
            raise DataError(f"{source} holds one number an example: labels, or rows of one column? Rows are [n, ...]")
        if rows.ndim > 4 or math.prod(rows.shape[1:]) == 0:
            raise DataError(
                f"{source} has shape {list(rows.shape)}: wanted [n, D], [n, T, C], [n, H, W] or [n, C, H, W]"
            )
        if len(rows) < FEWEST:
            raise DataError(f"{source} holds {len(rows)} examples, a VAE needs {FEWEST} at the very least")
        data = cls.unchecked(raw, source, kind)
        if rows.ndim == 2:
            _no_labels(rows, data.summary, source)
        return data

    @classmethod
    def unchecked(cls, raw: Raw, source: str, kind: Kind | None = None) -> Dataset:
        """Asks for finite numbers that are not all the same, and nothing else."""
        rows = raw.rows
        summary = Summary.of(rows, source)
        kind = kind or raw.kind or _kind(rows, summary)
        last = _last(rows.shape[1:], kind)
        columns = raw.columns or _columns(summary, kind)
        labels = raw.labels if raw.labels is not None and len(raw.labels) == len(rows) else None
        return cls(source, kind, rows, _in_order(summary, kind, last=last), columns, labels, raw.notes, last)

    def describe(self) -> str:
        words = {"image": "images", "sequence": "sequences", "table": "rows of a table", "vector": "vectors"}
        low, high = float(self.summary.low.min()), float(self.summary.high.max())
        return f"{len(self)} {words[self.kind]} {' x '.join(map(str, self.shape))} in [{low:g}, {high:g}]"


def arranged(part: Array, kind: Kind, *, last: bool) -> Array:
    """[k, ...] with channels first, one channel where there was none."""
    if kind == "image" and part.ndim == 3:
        return part[:, None]
    return np.moveaxis(part, -1, 1) if last else part


def _in_order(summary: Summary, kind: Kind, *, last: bool) -> Summary:
    def moved(values: Array) -> Array:
        return np.ascontiguousarray(arranged(values[None], kind, last=last)[0])

    s = summary
    return Summary(moved(s.low), moved(s.high), moved(s.mean), moved(s.std), s.whole, moved(s.binary))


def _kind(rows: Any, summary: Summary) -> Kind:
    """Square grids and bytes are images, other [n, a, b] are sequences, wide columns of one unit are vectors."""
    if rows.ndim == 2:
        return "vector" if rows.shape[1] >= PIXELS and _one_unit(summary) else "table"
    if rows.ndim == 4:
        return "image"
    a, b = rows.shape[1:]
    byte = summary.whole and float(summary.low.min()) >= 0 and 15 < float(summary.high.max()) <= 255
    return "image" if min(a, b) >= 8 and (a == b or byte) else "sequence"


def _one_unit(summary: Summary) -> bool:
    away = np.maximum(summary.high - summary.mean, summary.mean - summary.low)
    moving = away[summary.std > 1e-9 * summary.std.max()]
    return bool(away.max() <= ONE_UNIT * np.median(moving))


def _last(shape: tuple[int, ...], kind: Kind) -> bool:
    """Do channels stand last? Of images they are the axis of 4 or fewer, of sequences the shorter one."""
    if kind == "image":
        return len(shape) == 3 and shape[2] <= 4 < shape[0]
    return kind == "sequence" and len(shape) == 2 and shape[1] <= shape[0]


def _columns(summary: Summary, kind: Kind) -> tuple[Column, ...]:
    if kind != "table":
        return ()
    flags = summary.binary & (summary.std > 0)
    return tuple(
        Column(f"column {i + 1}", "binary", ("0", "1")) if flag else Column(f"column {i + 1}")
        for i, flag in enumerate(flags.reshape(-1).tolist())
    )


def _no_labels(rows: Any, summary: Summary, source: str) -> None:
    """Labels are taken for rows where somebody gives the wrong file, and for pixels where they stand in the first column."""
    width = rows.shape[1]
    some = np.asarray(rows[:1024], np.float64)
    if width == 1 and summary.whole:
        raise DataError(f"{source} holds one whole number an example: labels, not rows")
    if width > 2 and bool(summary.binary.all()) and bool((some.sum(1) == 1).all()):
        raise DataError(f"{source} holds a single 1 in each row: labels (one-hot), not rows")
    side = math.isqrt(width - 1)
    if width < PIXELS or side * side != width - 1:
        return
    for at, where, others in ((0, "first", some[:, 1:]), (-1, "last", some[:, :-1])):
        column = some[:, at]
        few = np.unique(column).size <= min(100, len(some) // 4)
        if few and bool((column == np.round(column)).all()) and column.max() * 4 < others.max():
            name = f"--label 'column {1 if at == 0 else width}'"
            raise DataError(
                f"{source} has {width} = {side} x {side} + 1 columns and the {where} looks like labels: leave it out "
                f"({name} for a .csv)"
            )
