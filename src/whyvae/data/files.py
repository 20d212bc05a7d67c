"""Array files: .npy (memory-mapped), .npz, .pt, .safetensors. Nothing pickled is executed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from whyvae.data.raw import Array, DataError, Raw, as_labels

ROWS = ("x_train", "train_x", "x", "images", "train_images", "data", "rows", "inputs", "imgs")
LABELS = ("y_train", "train_y", "y", "labels", "train_labels", "target", "targets")


def read_npy(path: Path) -> Raw:
    try:
        return Raw(np.load(path, mmap_mode="r", allow_pickle=False))
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path} cannot be read as .npy: {_first(error)}") from error


def read_npz(path: Path, key: str = "") -> Raw:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return chosen(str(path), {name: archive[name] for name in archive.files}, key)
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{path} cannot be read as .npz: {_first(error)}") from error


def read_pt(path: Path, key: str = "") -> Raw:
    import torch

    try:
        held = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise DataError(
            f"{path} holds more than tensors, and pickled code is not run: save the tensor alone"
        ) from error
    if isinstance(held, torch.Tensor):
        return Raw(held.numpy())
    if isinstance(held, list | tuple):
        held = {str(i): value for i, value in enumerate(held)}
    if not isinstance(held, Mapping):
        raise DataError(f"{path} holds a {type(held).__name__}, not a tensor")
    return chosen(str(path), {str(k): v.numpy() for k, v in held.items() if isinstance(v, torch.Tensor)}, key)


def read_safetensors(path: Path, key: str = "") -> Raw:
    from safetensors.numpy import load_file

    try:
        held = load_file(path)
    except Exception as error:
        raise DataError(f"{path} cannot be read as .safetensors: {_first(error)}") from error
    return chosen(str(path), held, key)


def chosen(source: str, arrays: Mapping[str, Array], key: str = "") -> Raw:
    """The rows among named arrays: the one asked for, the only one of two axes and more, or one called as rows are."""
    listed = ", ".join(f"{name} {list(a.shape)}" for name, a in arrays.items()) or "none"
    if key and key not in arrays:
        raise DataError(f"{source} has no array {key!r}; it has {listed}")
    able = [name for name, a in arrays.items() if a.ndim > 1]
    named = [name for wanted in ROWS for name in able if name.lower() == wanted]
    picked = key or (able[0] if len(able) == 1 else next(iter(named), ""))
    if not picked:
        raise DataError(f"{source}: which array holds the rows? It has {listed}: give {source}:NAME")
    rows = arrays[picked]
    labels = next((as_labels(a) for name, a in arrays.items() if _labels_of(name, a, rows)), None)
    others = [name for name in able if name != picked]
    notes = (f"rows are the array {picked!r}; {', '.join(others)} not read",) if others else ()
    return Raw(rows, labels, notes=notes)


def _labels_of(name: str, values: Array, rows: Array) -> bool:
    return name.lower() in LABELS and values.shape in {(len(rows),), (len(rows), 1)}


def _first(error: Any) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
