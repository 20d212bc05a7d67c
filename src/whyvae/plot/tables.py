"""Rows of a table as pictures: by column."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from whyvae.plot.figure import GREY, INK, new, titled, words

Array = Any


def spreads(axes: Any, rows: Array, real: Array, names: Sequence[str]) -> None:
    """Of each column the middle half (thick), nine tenths (thin) and the median (ring), in real standard deviations."""
    centre, spread = np.nanmean(real, 0), np.nanstd(real, 0)
    scaled = (rows - centre) / np.where(spread > 0, spread, 1.0)
    parts = np.nanquantile(np.where(np.isfinite(scaled), scaled, np.nan), (0.05, 0.25, 0.5, 0.75, 0.95), 0)
    at = np.arange(rows.shape[1])
    axes.hlines(at, parts[0], parts[4], color=GREY, linewidth=1)
    axes.hlines(at, parts[1], parts[3], color=INK, linewidth=5)
    axes.plot(parts[2], at, "o", color="white", markeredgecolor=INK, markersize=5)
    axes.set_yticks(at, _names(names, rows.shape[1]))
    axes.set_xlim(-3.5, 3.5)
    axes.invert_yaxis()
    axes.set_xlabel("standard deviations of the real column")


def kept(axes: Any, inputs: Array, outputs: Array, names: Sequence[str]) -> None:
    a, b = (x.reshape(len(x), -1) for x in (inputs, outputs))
    variance = np.nanvar(a, 0)
    share = 1 - np.nanmean((a - b) ** 2, 0) / np.where(variance > 0, variance, 1.0)
    at = np.arange(len(share))
    axes.barh(at, np.clip(np.nan_to_num(share), 0, 1), color=GREY)
    for i, value in enumerate(share.tolist()):
        axes.text(min(1, max(0, np.nan_to_num(value))) + 0.01, i, f"{value:.0%}" if value >= 0 else "none", va="center")
    axes.set_yticks(at, _names(names, len(share)))
    axes.set_xlim(0, 1.1)
    axes.invert_yaxis()
    axes.set_xlabel("share of the column's variance that comes back")


def effects(rows: Array, told: list[str], names: Sequence[str]) -> Any:
    """Of a table: how far each column moves with each unit."""
    flat = rows.reshape(*rows.shape[:2], -1)
    spread = np.nanmax(flat, (0, 1)) - np.nanmin(flat, (0, 1))
    moved = (flat[:, -1] - flat[:, 0]) / np.where(spread > 0, spread, 1.0)
    figure = new(max(6.0, 2.5 + 0.55 * moved.shape[1]), 1.8 + 0.4 * len(moved))
    axes = figure.subplots()
    titled(axes, "What a unit moves: change of each column,\nas a share of its largest")
    axes.imshow(np.abs(np.nan_to_num(moved)), cmap="Greys", vmin=0, vmax=1.4, aspect="auto")
    for i, j in np.ndindex(*moved.shape):
        ink = "white" if abs(moved[i, j]) > 0.7 else INK
        axes.text(j, i, f"{moved[i, j]:+.1f}", ha="center", va="center", fontsize=8, color=ink)
    axes.set_yticks(range(len(moved)), told)
    axes.set_xticks(range(moved.shape[1]), _names(names, moved.shape[1]), rotation=60, ha="right")
    return figure


def _names(names: Sequence[str], n: int) -> list[str]:
    return [words(name) for name in names] if len(names) == n else [f"column {i + 1}" for i in range(n)]
