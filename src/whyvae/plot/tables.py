"""Rows of a table as pictures: by column."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from whyvae.plot.figure import GREY, INK, new, titled, words

Array = Any
MOST = 30  # columns that are drawn: the names of more cannot be read, and cost seconds


def spreads(axes: Any, rows: Array, real: Array, names: Sequence[str]) -> None:
    """Of each column the middle half (thick), nine tenths (thin) and the median (ring), in real standard deviations."""
    shown, of = _shown(rows.shape[1]), rows.shape[1]
    rows, real = rows[:, shown], real[:, shown]
    centre, spread = np.nanmean(real, 0), np.nanstd(real, 0)
    scaled = (rows - centre) / np.where(spread > 0, spread, 1.0)
    parts = np.nanquantile(np.where(np.isfinite(scaled), scaled, np.nan), (0.05, 0.25, 0.5, 0.75, 0.95), 0)
    at = np.arange(rows.shape[1])
    axes.hlines(at, parts[0], parts[4], color=GREY, linewidth=1)
    axes.hlines(at, parts[1], parts[3], color=INK, linewidth=5)
    axes.plot(parts[2], at, "o", color="white", markeredgecolor=INK, markersize=5)
    axes.set_yticks(at, _names(names, shown, of))
    axes.set_xlim(-3.5, 3.5)
    axes.invert_yaxis()
    axes.set_xlabel("in real standard deviations" + _left(shown, of))


def kept(axes: Any, inputs: Array, outputs: Array, names: Sequence[str]) -> None:
    a, b = (x.reshape(len(x), -1) for x in (inputs, outputs))
    variance = np.nanvar(a, 0)
    shown, of = _shown(a.shape[1]), a.shape[1]
    share = (1 - np.nanmean((a - b) ** 2, 0) / np.where(variance > 0, variance, 1.0))[shown]
    at = np.arange(len(share))
    axes.barh(at, np.clip(np.nan_to_num(share), 0, 1), color=GREY)
    for i, value in enumerate(share.tolist()):
        axes.text(min(1, max(0, np.nan_to_num(value))) + 0.01, i, f"{value:.0%}" if value >= 0 else "none", va="center")
    axes.set_yticks(at, _names(names, shown, of))
    axes.set_xlim(0, 1.1)
    axes.invert_yaxis()
    axes.set_xlabel("share of the column's variance that comes back" + _left(shown, of))


def effects(rows: Array, told: list[str], names: Sequence[str]) -> Any:
    """Of a table: how far each column moves with each unit."""
    flat = rows.reshape(*rows.shape[:2], -1)
    shown, of = _shown(flat.shape[2]), flat.shape[2]
    flat = flat[..., shown]
    spread = np.nanmax(flat, (0, 1)) - np.nanmin(flat, (0, 1))
    moved = (flat[:, -1] - flat[:, 0]) / np.where(spread > 0, spread, 1.0)
    figure = new(max(6.0, 2.5 + 0.55 * moved.shape[1]), 1.8 + 0.4 * len(moved))
    axes = figure.subplots()
    titled(axes, "What a unit moves: change of each column,\nas a share of its largest" + _left(shown, of))
    axes.imshow(np.abs(np.nan_to_num(moved)), cmap="Greys", vmin=0, vmax=1.4, aspect="auto")
    for i, j in np.ndindex(*moved.shape):
        ink = "white" if abs(moved[i, j]) > 0.7 else INK
        axes.text(j, i, f"{moved[i, j]:+.1f}", ha="center", va="center", fontsize=8, color=ink, in_layout=False)
    axes.set_yticks(range(len(moved)), told)
    axes.set_xticks(range(moved.shape[1]), _names(names, shown, of), rotation=60, ha="right")
    return figure


def _names(names: Sequence[str], shown: Array, of: int) -> list[str]:
    return [words(names[i]) if len(names) == of else f"column {i + 1}" for i in shown.tolist()]


def _shown(of: int) -> Array:
    """Positions of the columns that are drawn."""
    return np.linspace(0, of - 1, min(of, MOST)).round().astype(int)


def _left(shown: Array, of: int) -> str:
    return f"\n{len(shown)} of {of} columns" if len(shown) < of else ""
