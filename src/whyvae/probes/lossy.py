"""Where numbers are lost on the way from the decoder's output to a picture: clamps, whole numbers, what a viewer shows."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from whyvae.probes.recipes import Recipe
from whyvae.watch.dependencies import Dependencies
from whyvae.watch.replay import Replay
from whyvae.watch.step import Decoded, Shown
from whyvae.watch.tape import Op, Place

WHOLE = "the conversion to whole numbers"
HAIR = 0.02  # of the range: what is cut off beyond it is seen
_BYTES = {"byte", "to", "type", "type_as"}


class Way(NamedTuple):
    """From the decoder's output (`start`) to what leaves torch (`end`), and to what is shown."""

    call: Decoded
    start: int
    end: int
    recipe: Recipe
    missing: tuple[str, ...]  # activations that training has behind `start`


class Stage(NamedTuple):
    """A point on the way at which numbers outside [low, high] are lost."""

    by: str
    values: Tensor
    low: float
    high: float
    whole: bool
    place: Place | None


def stages(way: Way, shown: Shown, feed: dict[int, Tensor]) -> list[Stage]:
    """In their order, with the numbers that arrive there for what is fed."""
    tape, deps = way.call.tape, Dependencies(way.call.tape)
    on_way = deps.ancestors([way.end]) & deps.descendants([way.start])
    ops = [
        op for op in tape.ops if op.reads and op.reads[0] in on_way and not on_way.isdisjoint((*op.outs, *op.writes))
    ]
    points = [(op, loss) for op in ops if (loss := _lossy(op, tape)) is not None]
    with torch.no_grad():
        values = Replay(tape).run([*(op.reads[0] for op, _ in points), way.end], feed=feed, training=False)
    found = [Stage(by, values[op.reads[0]], low, high, whole, op.place) for op, (by, low, high, whole) in points]
    found += _shown_stages(way, shown, values[way.end])
    # arrays that are stored for later are often 0 and 1 on purpose; only what was scaled to bytes was meant as such
    return [s for s in found if not shown.by.startswith("numpy.") or _spread(s) > 2]


def _lossy(op: Op, tape: Any) -> tuple[str, float, float, bool] | None:
    """(name, low, high, whole numbers) of an op that loses what lies outside."""
    if op.name in {"clamp", "clamp_", "clip", "clip_"}:
        low, high = (op.args[i] if len(op.args) > i else op.kwargs.get(k) for i, k in ((1, "min"), (2, "max")))
        if isinstance(low, int | float) and isinstance(high, int | float):
            return f"`{op.name}({low:g}, {high:g})`", float(low), float(high), False
    bytes_made = op.name in _BYTES and op.outs and tape.slots[op.outs[0]].dtype == torch.uint8
    if bytes_made and tape.slots[op.reads[0]].dtype.is_floating_point:
        return WHOLE, 0.0, 255.0, True
    return None


def _shown_stages(way: Way, shown: Shown, end: Tensor) -> list[Stage]:
    """What numpy did after torch, and what the function that shows does."""
    how = way.recipe
    found: list[Stage] = []
    part = end if how.rows is None else end[how.rows[0] : how.rows[1]]
    if how.stretched:
        return []
    values = how.scaled(part)
    if math.isfinite(how.low) and math.isfinite(how.high) and how.low < how.high:
        found.append(Stage("clipping", values, how.low, how.high, False, shown.place))
        values = values.clamp(how.low, how.high)
    if how.whole:
        found.append(Stage(WHOLE, values, 0.0, 255.0, True, shown.place))
    limits = _limits(shown)
    if limits is not None:
        found.append(Stage(called(shown), values, *limits, shown.place))
    return found


def _limits(shown: Shown) -> tuple[float, float, bool] | None:
    """(low, high, whole numbers) of what the function can show; None: it adapts, or stores numbers as they are."""
    name, floating = shown.by.rpartition(".")[2], "float" in shown.dtype
    if name == "save_image":
        return None if shown.options.get("normalize") else (0.0, 1.0, False)
    if name in {"imshow", "imsave"} and not shown.by.startswith("skimage"):
        if len(shown.shape) == 3 and shown.shape[-1] in {3, 4}:
            return (0.0, 1.0, False) if floating else (0.0, 255.0, False)
        low, high = shown.options.get("vmin"), shown.options.get("vmax")
        known = isinstance(low, int | float) and isinstance(high, int | float)
        return (float(low), float(high), False) if known else None  # type: ignore[arg-type]
    if floating and (name == "fromarray" or shown.by == "cv2.imwrite"):
        return 0.0, 255.0, True
    return None


def called(shown: Shown) -> str:
    return f"`{shown.by.rpartition('.')[2]}`"


def outside(stage: Stage, hair: float = HAIR) -> float:
    """Share of the numbers that are lost, by more than `hair` of the range."""
    slack = hair * (stage.high - stage.low)
    out = (stage.values < stage.low - slack) | (stage.values > stage.high + slack)
    return float(out.double().mean())


def lost(stage: Stage) -> float:
    """Squared distance that cutting off moves the numbers, as a share of their variance, 1 at most: faint noise below
    black is nothing, half of standardised data is much.
    """
    moved = (stage.values - stage.values.clamp(stage.low, stage.high)).double().square().mean()
    spread = stage.values.double().var(correction=0)
    return min(1.0, float(moved / spread)) if float(spread) > 0 else float(moved > 0)


def levels(stage: Stage) -> float:
    """How many whole numbers are left."""
    low, high = ends(stage.values.clamp(stage.low, stage.high))
    return math.floor(high) - math.floor(low) + 1


def _spread(stage: Stage) -> float:
    low, high = ends(stage.values)
    return high - low


def ends(values: Tensor) -> tuple[float, float]:
    return float(values.min()), float(values.max())


def contrast(stage: Stage, meant: tuple[float, float]) -> float:
    """Range of what arrives, in units of the stage's own, over that of `meant`; NaN unless that is within [0, 1]."""
    low, high = meant
    if low < -1e-6 or high > 1 + 1e-6 or high < 0.5 or high - low < 1e-3:
        return math.nan
    given = ends(stage.values)
    return (given[1] - given[0]) / (stage.high - stage.low) / (high - low)
