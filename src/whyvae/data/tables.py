"""Tables: .csv and .parquet. Numbers stay numbers, words become categories, two values make a binary column."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from whyvae.data.raw import Array, Column, DataError, Raw, as_labels, needed

MOST_LEVELS = 50  # words of one column: more are names or free text, of which a table model learns nothing
EMPTY = {"", "na", "nan", "null", "none", "n/a", "?"}
LABELS = {"label", "labels", "class", "target", "y"}  # names of a column that is no part of the example


def read_csv(path: Path, label: str | None = None) -> Raw:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            sample = file.read(65536)
            file.seek(0)
            lines = [line for line in csv.reader(file, _dialect(sample)) if line]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as a table: {error}") from error
    if not lines:
        raise DataError(f"{path} is empty")
    headed = not any(_number(cell) is not None for cell in lines[0]) and len(lines) > 1
    names = lines[0] if headed else [f"column {i + 1}" for i in range(len(lines[0]))]
    body = lines[1:] if headed else lines
    for i, line in enumerate(body):
        if len(line) != len(names):
            raise DataError(f"{path} line {i + 1 + headed} has {len(line)} cells, the first has {len(names)}")
    return table(str(path), names, list(zip(*body, strict=True)), label)


def read_parquet(path: Path, label: str | None = None) -> Raw:
    parquet = needed("pyarrow.parquet", "pyarrow", f"{path.name}: a Parquet file")
    try:
        read = parquet.read_table(path)
    except Exception as error:
        raise DataError(f"{path} cannot be read as Parquet: {error}") from error
    cells = [["" if v is None else str(v) for v in column.to_pylist()] for column in read.columns]
    return table(str(path), read.column_names, cells, label)


def _dialect(sample: str) -> type[csv.Dialect]:
    try:
        return csv.Sniffer().sniff(sample, delimiters=",;\t|")
    except csv.Error:
        return csv.excel


def table(source: str, names: Sequence[str], cells: Sequence[Sequence[str]], label: str | None = None) -> Raw:
    """`cells` [column][row] as text; `label` names the column that is no part of the example."""
    if label is not None and label not in names:
        raise DataError(f"{source} has no column {label!r}; it has {', '.join(names[:12])}")
    aside = [n for n in names if n == label or (label is None and n.strip().lower() in LABELS)][:1]
    notes = (f"column {aside[0]!r} holds the labels and is not modelled",) if aside else ()
    labels, columns, values = None, [], []
    for name, column in zip(names, cells, strict=True):
        if name in aside:
            labels = as_labels(column)
            continue
        made, numbers = _column(source, name, column)
        columns.append(made)
        values.append(numbers)
    if not columns:
        raise DataError(f"{source} has no column but the labels")
    return Raw(np.stack(values, 1), labels, "table", tuple(columns), notes)


def _column(source: str, name: str, cells: Sequence[str]) -> tuple[Column, Array]:
    cells = [cell.strip() for cell in cells]
    empty = [i for i, cell in enumerate(cells) if cell.lower() in EMPTY]
    if empty:
        first = f"the first, {cells[empty[0]]!r}, is example {empty[0] + 1}"
        raise DataError(f"{source}: column {name!r} has {len(empty)} empty cells ({first}): fill or drop them")
    numbers = [_number(cell) for cell in cells]
    known = [n for n in numbers if n is not None]
    if len(known) == len(cells) and not _two_values(known):
        return Column(name), np.array(known)
    words = [i for i, n in enumerate(numbers) if n is None]
    if words and len(words) < 0.05 * len(cells):
        raise DataError(
            f"{source}: column {name!r} is numbers, but example {words[0] + 1} has {cells[words[0]]!r} there"
        )
    levels = sorted(set(cells), key=lambda c: (_number(c) or 0.0, c))
    if len(levels) > MOST_LEVELS:
        what = f"{len(levels)} different words (names or free text?)"
        raise DataError(
            f"{source}: column {name!r} has {what}: leave it out, more than {MOST_LEVELS} cannot be modelled"
        )
    code = {level: i for i, level in enumerate(levels)}
    kind = "binary" if len(levels) == 2 else "categorical"
    return Column(name, kind, tuple(levels)), np.array([float(code[cell]) for cell in cells])  # type: ignore[arg-type]


def _two_values(numbers: Sequence[float]) -> bool:
    return len(set(numbers[:4096])) <= 2 and len(set(numbers)) == 2


def _number(cell: str) -> float | None:
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
