"""Did the numbers of a picture keep their places when its shape was changed?"""

from __future__ import annotations

from typing import Any, NamedTuple

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
    reshaping alone, though the axes do not mean the same. Coloured pictures are looked at one by one where several stand
    beside or below each other.
    """
    channels = _channels(subject, tape.slots[start].shape)
    picture = _picture_shape(tape.slots[end].shape, shown)
    if channels is None or picture is None:
        return ""
    colours, height, width = channels
    way = _OnWay(tape, start, end, fed, shown, how)
    if colours in COLOURS and picture[-1] == colours and len(picture) == 3 and picture[0] != colours:
        tiled = picture[0] % height == 0 and picture[1] % width == 0
        tall, wide = (height, width) if tiled else picture[:2]
        wrong = f"[{colours}, {height}, {width}] was reshaped to [{tall}, {wide}, {colours}]: the axes were not exchanged (permute, transpose)"
        return wrong if way.each_in_order((tall, wide, colours)) else ""
    if (
        colours == 1
        and len(picture) == 2
        and not (
            shown.by.startswith(("numpy.", "array.")) and picture[1] == height * width
        )  # one picture a row, stored
        and picture[1] != width
        and picture[1] % width == 0
        and picture[0] % height == 0
    ):
        wrong = f"pictures of {height} by {width} were reshaped to one of {picture[0]} by {picture[1]}: their rows were not put side by side (permute, then reshape)"
        return wrong if way.in_order() else ""
    return ""


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


class _OnWay(NamedTuple):
    """The way from a decoder's output to a picture, to try numbers on that grow, inside the range of the data."""

    tape: Tape
    start: int
    end: int
    fed: Tensor
    shown: Shown
    how: Recipe

    def in_order(self) -> bool:
        """Is the picture the output row by row, number by number?"""
        one = self.tape.slots[self.end].numel == self.fed[:1].numel()
        moved = self._moved(self._growing(self.fed[:1].numel() if one else self.fed.numel()))
        return self.how.ordered and moved is not None and _grows(moved.flatten())

    def each_in_order(self, size: tuple[int, ...]) -> bool:
        """Is each picture of this size in what is shown an example of the output, number by number?"""
        moved = self._moved(self._growing(self.fed[:1].numel()))
        if moved is None:
            return False
        pictures = _pictures(moved.squeeze(), size)
        if pictures is not None:  # torch made them
            return self.how.ordered and all(_grows(p) for p in pictures)
        return all(_grows(m) for m in moved.reshape(-1, self.fed[:1].numel())) and self._copied(size)

    def _copied(self, size: tuple[int, ...]) -> bool:
        """Is what numpy made, picture by picture, an example that left torch?"""
        left = next((x.value for x in self.shown.left if x.slot == self.end), None)
        shown = None if self.shown.value is None else torch.as_tensor(self.shown.value)
        pictures = None if shown is None else _pictures(shown.double(), size)
        if left is None or shown is None or pictures is None or left.numel() % pictures.shape[1]:
            return False
        examples = self.how.of(left).reshape(-1, pictures.shape[1])
        # float32 rounds a few numbers to the neighbouring byte
        near = 1e-3 * float(shown.max().double() - shown.min().double()) + self.how.whole
        return all(bool(((examples - p).abs() <= near).double().mean(1).max() > 0.98) for p in pictures)

    def _growing(self, count: int) -> Tensor:
        low, high = float(self.fed.min()), float(self.fed.max())
        ramp = torch.linspace(0.3, 0.7, count, dtype=torch.float64) * (high - low) + low
        return ramp.repeat(self.fed.numel() // count).reshape(self.fed.shape)

    def _moved(self, growing: Tensor) -> Tensor | None:
        try:
            with torch.no_grad():
                out = Replay(self.tape).run([self.end], feed={self.start: growing}, training=False)[self.end]
        except ReplayFailed:
            return None
        return out.double()


def _grows(numbers: Tensor) -> bool:
    return int(numbers.unique().numel()) >= LEAST and bool((numbers.diff() >= 0).all())


def _pictures(shown: Tensor, size: tuple[int, ...]) -> Tensor | None:
    """[pictures, numbers of each]: those of `size` [height, width, colours] that stand beside and below each other."""
    height, width, colours = size
    if shown.dim() != 3 or shown.shape[2] != colours or shown.shape[0] % height or shown.shape[1] % width:
        return None
    tiles = shown.reshape(shown.shape[0] // height, height, shown.shape[1] // width, width, colours)
    return tiles.permute(0, 2, 1, 3, 4).reshape(-1, height * width * colours)
