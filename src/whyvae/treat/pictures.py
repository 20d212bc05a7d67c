"""Samples before and after a cure, beside real examples, as a picture where matplotlib is installed."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from whyvae.plot import NoMatplotlib, panels, save


def before_and_after(control: Path, treated: Path, target: Path) -> Path | None:
    """None where there is nothing to draw, or nothing to draw with: the verdict does not hang on it."""
    if not all((folder / "samples.npz").is_file() for folder in (control, treated)):
        return None
    before, after = (np.load(folder / "samples.npz") for folder in (control, treated))
    parts = (("real examples", before["real"]), ("samples before", before["prior"]), ("samples after", after["prior"]))
    try:
        return save(panels(parts), target)
    except (NoMatplotlib, OSError, ValueError):
        return None
