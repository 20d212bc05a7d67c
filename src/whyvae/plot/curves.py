"""Numbers over units, steps, directions of the data, and settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from whyvae.plot.figure import GREY, INK, drawn, new, plain, titled

Array = Any
ACTIVE = 0.005  # nats, as `LatentUsage` counts
MARKED = ("s", "*", "D", "^")
SETTLED = 0.05  # share of the steps after which the range of an axis is taken: before, losses fall from anywhere


@drawn
def rates(rates: Array, to: str = "the prior") -> Any:
    """KL of each unit's posterior to the prior, or what `to` names, in nats [units], largest first."""
    rates = np.asarray(rates, np.float64)
    order = np.argsort(-np.nan_to_num(rates, nan=-1.0))
    active = int((rates > ACTIVE).sum())
    figure = new(7.5, 3.6)
    axes = figure.subplots()
    titled(
        axes,
        f"Information in each latent unit: {active} of {len(rates)} carry some, {np.nansum(rates):.1f} nats in all",
    )
    axes.bar(range(len(rates)), np.nan_to_num(rates[order]), color=GREY)
    axes.set_ylim(0, 1.1 * max(0.1, np.nanmax(rates, initial=0.0)))  # nothing is not drawn as something
    few = len(rates) <= 32
    axes.set_xticks(range(len(rates)) if few else [], [f"{i}" for i in order] if few else [])
    if len(rates) <= 16:
        for place, unit in enumerate(order):
            axes.text(place, np.nan_to_num(rates[unit]), f"{rates[unit]:.2f}", ha="center", va="bottom", fontsize=8)
    axes.set_xlabel("latent unit" if few else f"{len(rates)} latent units, largest first")
    axes.set_ylabel(f"KL to {to} (nats)")
    return figure


@drawn
def course(curves: Mapping[str, tuple[Sequence[float], Sequence[float]]]) -> Any:
    """Name -> (steps, values), one panel each above a common axis; two values far apart are drawn with markers."""
    figure = new(7.5, 0.8 + 1.6 * max(1, len(curves)))
    rows = figure.subplots(max(1, len(curves)), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (name, (steps, values)) in zip(rows, curves.items(), strict=False):
        at, y = np.asarray(steps, np.float64), np.asarray(values, np.float64)
        good = np.isfinite(y)
        titled(axes, name + ("" if good.all() else f" ({int((~good).sum())} values are no numbers)"))
        axes.plot(at[good], y[good], "o-" if good.sum() < 5 else "-", color=INK)
        if good.any():
            axes.annotate(
                f"{y[good][-1]:.4g}", (at[good][-1], y[good][-1]), (5, 0), textcoords="offset points", va="center"
            )
            _range(axes, at[good], y[good])
    rows[-1].set_xlabel("training step")
    return figure


def _range(axes: Any, at: Array, y: Array) -> None:
    late = y[at >= at[0] + SETTLED * (at[-1] - at[0])] if len(y) > 20 else y
    low, high = float(late.min()), float(late.max())
    if low > 0 and high > 20 * low:
        axes.set_yscale("log")
        plain(axes)
    elif high > low:
        axes.set_ylim(low - 0.08 * (high - low), high + 0.08 * (high - low))


@drawn
def spectrum(eigenvalues: Array, s: float, what: str = "variance of the data") -> Any:
    """`eigenvalues` [k], largest first, against s, the noise variance of the loss (NaN: not known)."""
    values = np.asarray(eigenvalues, np.float64)
    values = values[np.isfinite(values) & (values > 1e-9 * max(1e-300, np.nanmax(values, initial=0.0)))]
    figure = new(7.5, 4)
    axes = figure.subplots()
    axes.plot(range(1, len(values) + 1), values, "o-", color=INK, markersize=3, linewidth=0.8)
    axes.set_yscale("log")
    if len(values) > 40:
        axes.set_xscale("log")
    else:
        axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel("direction of the data, largest first")
    axes.set_ylabel(what)
    known = np.isfinite(s) and s > 0
    if known:
        axes.axhline(s, color=GREY, linestyle="--")
        words = f"s = {s:.3g}, the noise variance of the loss"
        below = len(values) > 0 and values[0] > s  # where no curve is
        where: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points"}
        axes.annotate(words, (0.02, s), (0, -4 if below else 4), va="top" if below else "bottom", **where)
    plain(axes)
    above = int((values > s).sum())
    encoded = f"{above} of {len(values)} directions stand above s: a linear VAE encodes no others"
    titled(axes, encoded if known else "Variance of the data by direction")
    axes.margins(y=0.15)
    return figure


@drawn
def importance(
    shares: Mapping[str, float], trials: Mapping[str, tuple[Sequence[Any], Sequence[float]]], score: str,
    marked: Mapping[str, int] | None = None,
) -> Any:  # fmt: skip
    """What mattered in a search: the share of each setting in the variance of the score, and every trial's score over its
    values. `marked`: a word -> the number of a trial among `trials`, up to four.
    """
    order = sorted(shares, key=lambda name: -shares[name])
    columns = min(3, max(1, len(order)))
    lines = -(-max(1, len(order)) // columns)
    figure = new(11, 1.4 + 2.3 * lines)
    left, right = figure.subfigures(1, 2, width_ratios=(1, 2))
    _bars(left.subplots(), order, shares)
    grid = right.subplots(lines, columns, squeeze=False, sharey=True)
    for axes in grid.flat[len(order) :]:
        axes.set_visible(False)
    for axes, name in zip(grid.flat, order, strict=False):
        _scattered(axes, name, *trials[name], marked or {})
    for axes in grid[:, 0]:
        axes.set_ylabel(score)
    if marked and order:
        right.legend(
            *grid.flat[0].get_legend_handles_labels(), loc="outside upper right", ncols=len(marked), frameon=False
        )
    return figure


def _bars(axes: Any, order: Sequence[str], shares: Mapping[str, float]) -> None:
    titled(axes, "Share in the score's variance over trials")
    axes.barh(range(len(order)), [shares[name] for name in order], color=GREY)
    for i, name in enumerate(order):
        axes.text(shares[name], i, f" {shares[name]:.0%}", va="center", fontsize=9)
    axes.set_yticks(range(len(order)), order)
    axes.set_xticks([])
    axes.set_xlim(0, 1.25 * max([*shares.values(), 1e-3]))
    axes.invert_yaxis()


def _scattered(axes: Any, name: str, at: Sequence[Any], y: Sequence[float], marked: Mapping[str, int]) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.plot(at, y, "o", color=GREY, markersize=3.5)
    for (word, i), marker in zip(marked.items(), MARKED, strict=False):
        axes.plot(
            [at[i]], [y[i]], marker, color=INK, markerfacecolor="none", markersize=11, linestyle="none", label=word
        )
    numbers = [v for v in at if isinstance(v, (int, float)) and v > 0]
    if len(numbers) == len(at) and numbers:
        if max(numbers) > 8 * min(numbers):
            axes.set_xscale("log")
            plain(axes)
        else:
            axes.xaxis.set_major_locator(MaxNLocator(3))
    axes.set_xlabel(name)
