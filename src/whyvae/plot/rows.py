"""Rows of data as pictures: images of any channels as sheets, sequences as lines, tables by their columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from whyvae.plot.figure import GREY, INK, LINES, PALE, drawn, new, titled
from whyvae.plot.tables import effects, kept, spreads

Array = Any
COLUMNS, TILES = 8, 64  # of a sheet
LINES_SHOWN, UNITS_SHOWN, CHANNELS = 5, 12, len(LINES)
WIDEST = 40  # columns of a table that are still told apart
SQUARE = 8  # side from which on a square number of values is taken for a flattened image


@drawn
def panels(parts: Sequence[tuple[str, Array]], kind: str = "", names: Sequence[str] = ()) -> Any:
    """Rows [n, ...] side by side under their titles, all in the range of the first part, which is the real one."""
    figure = new(4 * len(parts), 4.4)
    real = np.asarray(parts[0][1], np.float64)
    for axes, (title, rows) in zip(figure.subplots(1, len(parts), squeeze=False)[0], parts, strict=True):
        rows = np.asarray(rows, np.float64)
        titled(axes, title + _not_finite(rows))
        _draw(axes, rows, real, kind or kind_of(real), names)
    return figure


@drawn
def reconstructions(inputs: Array, outputs: Array, kind: str = "", names: Sequence[str] = ()) -> Any:
    """Inputs [n, ...] beside what came of them, [n, ...]; of a table the share of each column's variance that is kept."""
    inputs, outputs = np.asarray(inputs, np.float64), np.asarray(outputs, np.float64)
    kind = kind or kind_of(inputs)
    figure = new(7.5, 4.6)
    axes = figure.subplots()
    titled(axes, "Examples and their reconstructions" + _not_finite(outputs))
    if kind == "image":
        _pairs(axes, inputs, outputs)
    elif kind == "table":
        kept(axes, inputs, outputs, names)
    elif inputs[0].size == 2:
        a, b = inputs.reshape(-1, 2), outputs.reshape(-1, 2)
        axes.plot(*np.stack([a, b]).transpose(2, 0, 1), color=PALE, linewidth=0.8, zorder=0)
        axes.plot(*a.T, "o", color=GREY, markersize=4, label="example")
        axes.plot(*b.T, "x", color=INK, markersize=4, label="its reconstruction")
        axes.legend(frameon=False)
    else:
        _lines(axes, inputs, GREY, 3.0)
        _lines(axes, outputs, INK, 1.0, like=inputs)
        axes.set_xlabel("thick grey: example, thin black: its reconstruction")
    return figure


@drawn
def traversals(
    rows: Array, rates: Array, at: Array, kind: str = "", names: Sequence[str] = (), units: Sequence[int] = ()
) -> Any:
    """rows [k, steps, ...]: one example with one unit moved to the values `at` [steps]; `rates` [k] in nats.

    `units` [k] are their numbers, by default 0 .. k - 1. They stand in the order of their rate; the least informative ones
    are left out where there are many.
    """
    rows, rates = np.asarray(rows, np.float64), np.asarray(rates, np.float64)
    order = np.argsort(-np.nan_to_num(rates, nan=-1.0))[:UNITS_SHOWN]
    numbers = units if len(units) else range(len(rows))
    rows, told = rows[order], [f"unit {numbers[i]}: {rates[i]:.2f} nats" for i in order]
    kind = kind or kind_of(rows[:, 0])
    if kind == "image":
        return _image_traversals(rows, told, at)
    return effects(rows, told, names) if kind == "table" else _line_traversals(rows, told, at)


def kind_of(rows: Array) -> str:
    """image, table or sequence, by the shape of rows [n, ...]."""
    shape = rows.shape[1:]
    if _pixels(rows[:1]) is not None:
        return "image"
    return "table" if len(shape) < 2 and rows[0].size <= WIDEST and rows[0].size != 2 else "sequence"


def _pixels(rows: Array) -> Array | None:
    """[n, C, H, W], [n, H, W, C], [n, H, W] or [n, side^2] -> [n, H, W, 1 or 3]; None for anything else."""
    shape = rows.shape[1:]
    side = round(float(np.prod(shape)) ** 0.5)
    if len(shape) == 3:
        images = rows if shape[2] <= 4 < shape[0] else np.moveaxis(rows, 1, -1)
    elif len(shape) == 2 and min(shape) > 4:
        images = rows[..., None]
    elif len(shape) <= 2 and (len(shape) == 1 or 1 in shape) and side >= SQUARE and side * side == np.prod(shape):
        images = rows.reshape(len(rows), side, side, 1)
    else:
        return None
    channels = images.shape[-1]
    return images[..., :3] if channels in {3, 4} else images if channels == 1 else images.mean(-1, keepdims=True)


def _draw(axes: Any, rows: Array, real: Array, kind: str, names: Sequence[str]) -> None:
    images = _pixels(rows) if kind == "image" else None
    if images is not None:
        _show(axes, _sheet(_scaled(images, real), COLUMNS))
    elif rows[0].size == 2:
        axes.plot(*rows.reshape(-1, 2).T, ".", color=INK, markersize=3)
        _limits(axes, real.reshape(-1, 2))
    elif kind == "table":
        spreads(axes, rows.reshape(len(rows), -1), real.reshape(len(real), -1), names)
    else:
        _lines(axes, rows, INK, 1.0, like=real)


def _scaled(images: Array, real: Array) -> Array:
    """To [0, 1] by the range of the real rows; what is no number becomes grey."""
    good = real[np.isfinite(real)]
    low, high = (float(good.min()), float(good.max())) if good.size else (0.0, 1.0)
    return np.nan_to_num(np.clip((images - low) / max(high - low, 1e-12), 0, 1), nan=0.5)


def _sheet(images: Array, columns: int, most: int = TILES) -> Array:
    """[n, H, W, C] in [0, 1] -> one image, a line between the tiles."""
    images = images[: columns * max(1, most // columns)]
    columns = min(columns, len(images))
    missing = -len(images) % columns
    images = np.concatenate([images, np.ones((missing, *images.shape[1:]))])
    n, h, w, c = images.shape
    line = max(1, h // 28)
    framed = np.ones((n, h + line, w + line, c))
    framed[:, :h, :w] = images
    lines = n // columns
    sheet = framed.reshape(lines, columns, h + line, w + line, c).transpose(0, 2, 1, 3, 4)
    return sheet.reshape(lines * (h + line), columns * (w + line), c)[:-line, :-line]


def _show(axes: Any, sheet: Array) -> None:
    axes.imshow(sheet.squeeze(-1) if sheet.shape[-1] == 1 else sheet, cmap="gray", vmin=0, vmax=1)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def _pairs(axes: Any, inputs: Array, outputs: Array) -> None:
    """Two lines of a sheet for each line of examples."""
    n = min(len(inputs), len(outputs), 3 * COLUMNS)
    n -= n % COLUMNS if n > COLUMNS else 0
    columns = min(n, COLUMNS)
    one, other = (_scaled(_shown(r[:n]), inputs) for r in (inputs, outputs))
    lines = n // columns
    both = np.stack([x.reshape(lines, columns, *x.shape[1:]) for x in (one, other)], 1)
    sheet = _sheet(both.reshape(-1, *one.shape[1:]), columns)
    _show(axes, sheet)
    tile = (sheet.shape[0] + max(1, one.shape[1] // 28)) / (2 * lines)
    axes.set_yticks([(i + 0.5) * tile for i in range(2 * lines)], ["example", "comes back as"] * lines)
    axes.tick_params(length=0)


def _shown(rows: Array) -> Array:
    images = _pixels(rows)
    assert images is not None  # noqa: S101 - the caller knows the kind
    return images


def _lines(axes: Any, rows: Array, color: str, width: float, like: Array | None = None) -> None:
    """Examples one above the other, channels by line style, in the range of `like`."""
    scale = rows if like is None else like
    good = scale[np.isfinite(scale)]
    low, high = (float(good.min()), float(good.max())) if good.size else (0.0, 1.0)
    flat = rows if rows.ndim > 2 else rows.reshape(len(rows), 1, -1)
    flat = flat.swapaxes(1, 2) if flat.shape[1] > flat.shape[2] else flat  # the longer axis is time
    shown = flat[:LINES_SHOWN, :CHANNELS]
    for i, example in enumerate(shown):
        for channel, style in zip(example, LINES, strict=False):
            axes.plot((channel - low) / max(high - low, 1e-12) - 1.15 * i, style, color=color, linewidth=width)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.set_ylim(-1.15 * (len(shown) - 1) - 0.2, 1.2)


def _image_traversals(rows: Array, told: list[str], at: Array) -> Any:
    units, steps = rows.shape[:2]
    images = _shown(rows.reshape(-1, *rows.shape[2:]))
    sheet = _sheet(_scaled(images, rows), steps, most=units * steps)
    tile_h, tile_w = sheet.shape[0] / units, sheet.shape[1] / steps
    figure = new(7.5, 1.2 + 5.6 * sheet.shape[0] / sheet.shape[1])
    axes = figure.subplots()
    titled(axes, "One example, one unit moved at a time")
    _show(axes, sheet)
    axes.set_yticks([(i + 0.5) * tile_h for i in range(units)], told)
    axes.set_xticks(
        [(i + 0.5) * tile_w for i in range(steps)], [f"{v:g}" for v in np.round(np.asarray(at), 1).tolist()]
    )
    axes.set_xlabel("the unit's value (95 % of N(0, 1) lie within 2)")
    axes.tick_params(length=0)
    return figure


def _line_traversals(rows: Array, told: list[str], at: Array) -> Any:
    figure = new(7.5, 1 + 1.2 * len(rows))
    for axes, unit, said in zip(
        figure.subplots(len(rows), 1, sharex=True, squeeze=False)[:, 0], rows, told, strict=True
    ):
        for step, value in enumerate(unit):
            channel = (
                value.reshape(-1) if value.ndim < 2 else value[0] if value.shape[0] <= value.shape[1] else value[:, 0]
            )
            axes.plot(channel, color=str(0.8 * (1 - step / max(1, len(unit) - 1))))
        axes.set_ylabel(said, rotation=0, ha="right", va="center")
        axes.set_yticks([])
    figure.suptitle(f"One example, one unit moved from {at[0]:g} (pale) to {at[-1]:g} (black)", ha="left", x=0.02)
    return figure


def _limits(axes: Any, real: Array) -> None:
    good = real[np.isfinite(real).all(1)]
    if len(good):
        low, high = good.min(0), good.max(0)
        room = 0.3 * np.maximum(high - low, 1e-12)
        axes.set_xlim(low[0] - room[0], high[0] + room[0])
        axes.set_ylim(low[1] - room[1], high[1] + room[1])


def _not_finite(rows: Array) -> str:
    bad = int((~np.isfinite(rows)).sum())
    return f" ({bad} values are no numbers)" if bad else ""
