"""Did the numbers of a picture keep their places when its shape was changed?"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from whyvae.probes.recipes import Recipe
from whyvae.watch.replay import Replay, ReplayFailed
from whyvae.watch.step import Shown
from whyvae.watch.tape import Tape

COLOURS = {3, 4}
LEAST = 8  # different numbers, without which an order says nothing


def scrambled(subject: Any, tape: Tape, start: int, end: int, fed: Tensor, shown: Shown, how: Recipe) -> str:
    """What is wrong with the order of the numbers, from the decoder's output `start` to the picture; "" if nothing is.

    Proven by order: numbers that grow along the output still grow along the picture, so its shape was changed by
    reshaping alone, though the axes do not mean the same.
    """
    channels = _channels(subject, tape.slots[start].shape)
    picture = _picture_shape(tape.slots[end].shape, shown)
    if channels is None or picture is None:
        return ""
    colours, height, width = channels
    if colours in COLOURS and picture[-1] == colours and len(picture) == 3 and picture[0] != colours:
        wrong = f"[{colours}, {height}, {width}] was reshaped to [{picture[0]}, {picture[1]}, {colours}]: the axes were not exchanged (permute, transpose)"
    elif (
        colours == 1
        and len(picture) == 2
        and picture[1] != width
        and picture[1] % width == 0
        and picture[0] % height == 0
    ):
        wrong = f"pictures of {height} by {width} were reshaped to one of {picture[0]} by {picture[1]}: their rows were not put side by side (permute, then reshape)"
    else:
        return ""
    return wrong if _in_order(tape, start, end, fed, how) else ""


def _channels(subject: Any, shape: tuple[int, ...]) -> tuple[int, int, int] | None:
    """(colours, height, width) of one example, as the output has them, or the data that the model was given."""
    slots, lineage = subject.tape.slots, subject.lineage
    given = [slots[s].shape for s in (lineage.output, lineage.target, lineage.data) if s is not None and s >= 0]
    for known in (shape, *given):
        if len(known) == 4 and known[1] in {1, *COLOURS} and known[-1] not in COLOURS:
            return known[1], known[2], known[3]
    return None


def _picture_shape(end: tuple[int, ...], shown: Shown) -> tuple[int, ...] | None:
    if shown.slot >= 0:
        return tuple(n for n in end if n != 1) if len(end) > 3 else end
    return shown.shape if len(shown.shape) in {2, 3} else None


def _in_order(tape: Tape, start: int, end: int, fed: Tensor, how: Recipe) -> bool:
    """Is the picture the output row by row, number by number? Tried with numbers that grow, inside the data's range."""
    low, high = float(fed.min()), float(fed.max())
    one = tape.slots[end].numel == fed[:1].numel()  # example: the numbers of each grow, so that all levels are used
    count = fed[:1].numel() if one else fed.numel()
    ramp = torch.linspace(0.3, 0.7, count, dtype=torch.float64) * (high - low) + low
    growing = ramp.repeat(fed.numel() // count).reshape(fed.shape)
    try:
        with torch.no_grad():
            out = Replay(tape).run([end], feed={start: growing}, training=False)[end]
    except ReplayFailed:
        return False
    moved = out.flatten().double()
    return how.ordered and int(moved.unique().numel()) >= LEAST and bool((moved.diff() >= 0).all())
