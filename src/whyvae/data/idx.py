"""IDX files, plain or gzipped: the format of MNIST.

Two zero bytes, a type code, the number of axes, each axis as a big-endian int32, then the values.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from whyvae.data.raw import Array, DataError, Raw, as_labels

TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def looks_like_idx(path: Path) -> bool:
    return "-ubyte" in path.name or path.name.removesuffix(".gz").endswith((".idx", ".idx1", ".idx3"))


def read_idx(path: Path) -> Raw:
    """Images, with the labels of the file beside it where MNIST's naming tells which that is.

    Raises:
        DataError: not IDX, cut short or too long, or a file of labels.
    """
    rows = read_array(path)
    if rows.ndim == 1:
        raise DataError(f"{path} holds {rows.size} labels (one number an example), not rows: give the file of images")
    beside = path.with_name(path.name.replace("images", "labels").replace("idx3", "idx1"))
    if beside == path or not beside.is_file():
        return Raw(rows)
    labels = read_array(beside)
    if labels.shape != (len(rows),):
        raise DataError(
            f"{beside} holds {labels.shape} labels, {path.name} {len(rows)} rows: they do not belong together"
        )
    return Raw(rows, as_labels(labels))


def read_array(path: Path) -> Array:
    try:
        content = path.read_bytes()
        return _parsed(gzip.decompress(content) if path.name.endswith(".gz") else content, path)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}") from error


def _parsed(content: bytes, path: Path) -> Array:
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in TYPES:
        raise DataError(f"{path} is not an IDX file: it does not begin with two zero bytes and a known type")
    axes, kind = content[3], np.dtype(TYPES[content[2]])
    start = 4 + 4 * axes
    shape = struct.unpack(f">{axes}I", content[4:start]) if len(content) >= start else ()
    wanted, got = math.prod(shape) * kind.itemsize, len(content) - start
    if len(shape) != axes or wanted != got:
        raise DataError(f"{path} is cut short or damaged: its header promises {wanted} bytes of values, it holds {got}")
    return np.frombuffer(content, kind, offset=start).reshape(shape).astype(kind.newbyteorder("="))
