"""What a source holds before anything is made of it, and what is said of one that cannot be read."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

import numpy as np

Kind = Literal["image", "sequence", "table", "vector"]
Array = Any  # numpy array, possibly memory-mapped


class DataError(ValueError):
    """The data cannot be used; the message is one line: what was asked, what was found, what to do."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table. `levels`: what the codes 0, 1, ... of a binary or categorical column stand for."""

    name: str
    kind: Literal["numeric", "binary", "categorical"] = "numeric"
    levels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Raw:
    """Rows [n, ...] in the unit of their source. `notes` are sentences for the user: what was left out, and why."""

    rows: Array
    labels: Array | None = None
    kind: Kind | None = None  # where the source knows
    columns: tuple[Column, ...] = ()
    notes: tuple[str, ...] = ()


def needed(module: str, package: str, what: str) -> Any:
    """Imports an optional dependency.

    torchvision raises a RuntimeError where it does not fit the installed torch: any error means that it is of no use.
    """
    try:
        return import_module(module)
    except Exception as error:
        why = "is not installed" if isinstance(error, ModuleNotFoundError) else f"cannot be imported ({error})"
        raise DataError(f"{what} needs {package}, which {why}: pip install {package}") from error


def as_labels(values: Any) -> Array:
    """[n] whole numbers, words numbered in their order."""
    return np.unique(np.asarray(values).reshape(-1), return_inverse=True)[1].astype(np.int64)
