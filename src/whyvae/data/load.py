"""DATA of the command line -> Dataset."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from whyvae.data.dataset import Dataset
from whyvae.data.files import read_npy, read_npz, read_pt, read_safetensors
from whyvae.data.idx import looks_like_idx, read_idx
from whyvae.data.images import read_folder
from whyvae.data.named import read_callable, read_hf, read_sklearn, read_torchvision
from whyvae.data.raw import DataError, Kind, Raw
from whyvae.data.summary import Streamed
from whyvae.data.tables import read_csv, read_parquet

FITS = 2 * 2**30  # bytes of float32 held in memory; more is streamed
NAMED = {"sklearn": read_sklearn, "torchvision": read_torchvision, "hf": read_hf}
KEYED = {".npz": read_npz, ".pt": read_pt, ".pth": read_pt, ".safetensors": read_safetensors}
KNOWN = (
    "a folder of images, .npy, .npz, .pt, .safetensors, .csv, .parquet, IDX (MNIST's -ubyte files), sklearn:digits, "
    "torchvision:NAME, hf:NAME or module:callable"
)


def load(
    source: str,
    *,
    kind: Kind | None = None,
    label: str | None = None,
    size: int | None = None,
    download: bool = False,
    stream: bool | None = None,
) -> Dataset:
    """Reads the whole of `source`; `stream` reads rows of a .npy from the disk as they are needed (default: if large).

    Raises:
        DataError: one line that says what is wrong and what to do.
    """
    raw = _read(source, label, size, download=download)
    if isinstance(raw.rows, np.memmap):
        large = raw.rows.size * 4 > FITS
        rows = Streamed(Path(source)) if (large if stream is None else stream) else np.array(raw.rows)
        raw = replace(raw, rows=rows)
    elif stream:
        raise DataError(f"only a .npy file can be streamed, not {source}: save the rows as .npy")
    return Dataset.of(raw, source, kind)


def _read(source: str, label: str | None, size: int | None, *, download: bool) -> Raw:
    path = Path(source)
    if path.is_dir():
        return read_folder(path, size)
    if path.is_file():
        return _file(path, label)
    before, _, after = source.rpartition(":")
    if before and Path(before).is_file() and Path(before).suffix.lower() in KEYED:
        return KEYED[Path(before).suffix.lower()](Path(before), after)
    if before in NAMED:
        return NAMED[before](after, download=download)
    if before and "/" not in source and after.isidentifier():
        return read_callable(before, after)
    raise DataError(f"{source} does not exist; DATA is {KNOWN}")


def _file(path: Path, label: str | None) -> Raw:
    ending = path.suffix.lower()
    if looks_like_idx(path):
        return read_idx(path)
    if ending == ".npy":
        return read_npy(path)
    if ending in KEYED:
        return KEYED[ending](path)
    if ending in {".csv", ".tsv"}:
        return read_csv(path, label)
    if ending == ".parquet":
        return read_parquet(path, label)
    raise DataError(f"{path} is of no known kind; DATA is {KNOWN}")
