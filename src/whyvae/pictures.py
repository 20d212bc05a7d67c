"""Rows as a picture: a grid of images, written with Pillow where it is installed."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

SMALLEST = 48  # pixels of a tile: smaller images are enlarged


def grid(rows: Any, low: float, high: float, columns: int = 0) -> Any:
    """Images [n, C, H, W] in [low, high] -> one of bytes [H, W] or [H, W, 3], with a line between tiles."""
    n, c, h, w = rows.shape
    columns = columns or math.ceil(math.sqrt(n))
    times = max(1, math.ceil(SMALLEST / max(h, w)))
    tiles = np.clip((rows.astype(np.float32) - low) / (high - low) * 255, 0, 255).round().astype(np.uint8)
    tiles = tiles[:, :3] if c >= 3 else tiles[:, :1]
    tiles = tiles.repeat(times, 2).repeat(times, 3)
    lines = math.ceil(n / columns)
    step_h, step_w = h * times + 1, w * times + 1
    canvas = np.full((tiles.shape[1], lines * step_h - 1, columns * step_w - 1), 128, np.uint8)
    for i, tile in enumerate(tiles):
        top, left = i // columns * step_h, i % columns * step_w
        canvas[:, top : top + h * times, left : left + w * times] = tile
    return canvas[0] if len(canvas) == 1 else canvas.transpose(1, 2, 0)


def write_grid(rows: Any, low: float, high: float, path: Path, columns: int = 0) -> bool:
    """False where Pillow is not installed."""
    try:
        from PIL import Image
    except ImportError:
        return False
    Image.fromarray(grid(rows, low, high, columns)).save(path)
    return True
