"""Tensors and facts in one file, written so that a kill at any moment leaves the old one or the new one, whole."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

JSON = dict[str, Any]


class BrokenCheckpoint(ValueError):
    """Not written by us, or damaged."""


def write(path: Path, tensors: Mapping[str, Tensor], facts: JSON) -> None:
    """The facts stand as JSON in the file's header."""
    held = {name: t.detach().to("cpu").contiguous() for name, t in tensors.items()}
    atomically(path, save(held, {"whyvae": json.dumps(facts)}))


def read(path: Path) -> tuple[dict[str, Tensor], JSON]:
    """
    Raises:
        BrokenCheckpoint: the file is missing, damaged, or not ours.
    """
    try:
        with safe_open(str(path), framework="pt") as file:
            facts = json.loads(file.metadata()["whyvae"])
            return {name: file.get_tensor(name) for name in file.keys()}, facts  # noqa: SIM118 - no mapping
    except (OSError, SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise BrokenCheckpoint(f"{path} is no checkpoint of whyvae: {error}") from error


def atomically(path: Path, content: bytes) -> None:
    """Beside the file first, onto the disk, and only then in its place."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    with beside.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": t for name, t in tensors.items()}


def of(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What `under` put there."""
    start = f"{prefix}."
    return {name.removeprefix(start): t for name, t in tensors.items() if name.startswith(start)}
