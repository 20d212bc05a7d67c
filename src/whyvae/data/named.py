"""Data by name: sklearn:NAME, torchvision:NAME, hf:NAME, module:callable. Nothing is fetched without `download`."""

from __future__ import annotations

import inspect
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from whyvae.data.raw import Column, DataError, Raw, as_labels, needed

BUNDLED = {"digits", "iris", "wine", "breast_cancer", "diabetes"}  # inside scikit-learn: no download
CACHE = Path("~/.cache/whyvae").expanduser()


def read_sklearn(name: str, *, download: bool = False) -> Raw:
    from sklearn import datasets

    if name not in BUNDLED:
        raise DataError(f"sklearn:{name} is unknown; there are {', '.join(f'sklearn:{n}' for n in sorted(BUNDLED))}")
    bunch = getattr(datasets, f"load_{name}")()
    labels = None if name == "diabetes" else as_labels(bunch.target)
    if name == "digits":
        return Raw(bunch.images, labels, "image")
    columns = tuple(Column(str(n)) for n in bunch.feature_names)
    return Raw(bunch.data, labels, "table", columns)


def read_torchvision(name: str, *, download: bool = False) -> Raw:
    module = needed("torchvision.datasets", "torchvision", f"torchvision:{name}")
    kind = getattr(module, name, None)
    if kind is None:
        raise DataError(f"torchvision.datasets has no {name!r}")
    part = {"train": True} if "train" in inspect.signature(kind).parameters else {"split": "train"}
    try:
        held = kind(str(CACHE / "torchvision"), download=download, **part)
    except RuntimeError as error:
        hint = "" if download else " (--download fetches it)"
        raise DataError(f"torchvision:{name} could not be loaded: {_first(error)}{hint}") from error
    data = getattr(held, "data", None)
    if data is not None:
        labels = getattr(held, "targets", getattr(held, "labels", None))
        return Raw(np.asarray(data), None if labels is None else as_labels(labels), "image")
    return _pairs(f"torchvision:{name}", [held[i] for i in range(len(held))])


def _pairs(source: str, examples: list[Any]) -> Raw:
    rows = [np.asarray(e[0] if isinstance(e, tuple | list) else e) for e in examples]
    shapes = {r.shape for r in rows}
    if len(shapes) != 1:
        raise DataError(f"{source}: images differ in size, such as {sorted(shapes)[:2]}: save them in one size first")
    return Raw(np.stack(rows), kind="image")


def read_hf(name: str, *, download: bool = False) -> Raw:
    """The first image column, else all numeric columns, of the split "train"."""
    datasets = needed("datasets", "datasets", f"hf:{name}")
    try:
        only = datasets.DownloadConfig(local_files_only=not download)
        held = datasets.load_dataset(name, split="train", download_config=only)
    except Exception as error:
        hint = "" if download else " (--download fetches it)"
        raise DataError(f"hf:{name} could not be loaded: {_first(error)}{hint}") from error
    image = next((c for c, f in held.features.items() if type(f).__name__ == "Image"), None)
    if image is not None:
        raw = _pairs(f"hf:{name}", list(held[image]))
        label = next((c for c in ("label", "labels", "fine_label") if c in held.column_names), None)
        return Raw(raw.rows, None if label is None else as_labels(held[label]), "image")
    from whyvae.data.tables import table

    return table(
        f"hf:{name}", held.column_names, [["" if v is None else str(v) for v in held[c]] for c in held.column_names]
    )


def read_callable(module: str, function: str) -> Raw:
    """What `function()` returns: rows, or (rows, labels)."""
    sys.path.insert(0, str(Path.cwd()))
    try:
        made = getattr(import_module(module), function)()
    except Exception as error:
        raise DataError(f"{module}:{function} could not be called: {type(error).__name__}: {_first(error)}") from error
    finally:
        sys.path.remove(str(Path.cwd()))
    rows, labels = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
    return Raw(_array(rows, f"{module}:{function}"), None if labels is None else as_labels(_array(labels, function)))


def _array(values: Any, source: str) -> Any:
    array = np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)
    if array.dtype == object:
        raise DataError(f"{source} returned rows of different lengths, or no numbers")
    return array


def _first(error: Any) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
