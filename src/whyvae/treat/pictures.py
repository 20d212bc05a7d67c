"""Samples before and after a cure, beside real examples, as a picture where matplotlib is installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

COLUMNS = 8


def before_and_after(control: Path, treated: Path, target: Path) -> Path | None:
    """None where there is nothing to draw, or nothing to draw with."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return None
    if not all((folder / "samples.npz").is_file() for folder in (control, treated)):
        return None
    before, after = (np.load(folder / "samples.npz") for folder in (control, treated))
    panels = (("real examples", before["real"]), ("samples before", before["prior"]), ("samples after", after["prior"]))
    figure = Figure(figsize=(12, 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (title, rows) in zip(figure.subplots(1, 3), panels, strict=True):
        axes.set_title(title)
        _draw(axes, rows, real=before["real"])
    figure.savefig(target, dpi=110)
    return target


def _draw(axes: Any, rows: Any, real: Any) -> None:
    """Images as a sheet; a row of numbers as lines, two numbers as points."""
    image = _sheet(rows)
    if image is not None:
        low, high = float(real.min()), float(real.max())
        axes.imshow(np.clip((image - low) / max(high - low, 1e-12), 0, 1), cmap="gray", vmin=0, vmax=1)
        axes.set_axis_off()
    elif rows[0].size == 2:
        axes.plot(*rows.reshape(-1, 2).T, ".", color="black")
    else:
        axes.plot(rows.reshape(len(rows), -1)[:16].T, color="black", alpha=0.4, linewidth=0.8)
        axes.set_ylim(float(real.min()), float(real.max()))


def _sheet(rows: Any) -> Any:
    """[n, C, H, W], [n, H, W] or [n, side^2] -> one image; None for anything else."""
    n, shape = len(rows), rows.shape[1:]
    side = round(float(np.prod(shape)) ** 0.5)
    if len(shape) == 3 and shape[0] in (1, 3):
        rows = np.moveaxis(rows, 1, -1)
    elif len(shape) == 2 and min(shape) > 4:
        rows = rows[..., None]
    elif len(shape) == 1 and side >= 8 and side * side == shape[0]:
        rows = rows.reshape(n, side, side, 1)
    else:
        return None
    lines = n // COLUMNS
    height, width, colours = rows.shape[1:]
    sheet = rows[: lines * COLUMNS].reshape(lines, COLUMNS, height, width, colours)
    return sheet.transpose(0, 2, 1, 3, 4).reshape(lines * height, COLUMNS * width, colours).squeeze()
