"""What was done to an array between torch and a picture: the arithmetic that turns one into the other, exactly."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

LEAST = 16  # numbers: fewer are turned into each other by chance
MOST_ROWS = 64
ENDS = {-1.0, 0.0, 1.0, 255.0}  # at which people clip
# What people write before they make whole numbers of an array: factor and offset.
USUAL = (
    (1.0, 0.0),
    (255.0, 0.0),
    (256.0, 0.0),
    (127.5, 127.5),
    (128.0, 128.0),
    (127.5, 128.0),
    (127.0, 128.0),
    (255.0, 0.5),
)


@dataclass(frozen=True, slots=True)
class Recipe:
    """shown = whole(clip(factor * array + offset)). `rows`: which rows of the array, all of them where None."""

    factor: float = 1.0
    offset: float = 0.0
    low: float = -math.inf  # where it was clipped, after the arithmetic
    high: float = math.inf
    whole: bool = False  # converted to unsigned bytes
    rows: tuple[int, int] | None = None
    stretched: bool = False  # by the array's own smallest and largest number
    ordered: bool = True  # number by number, in the order of the array

    def scaled(self, array: Tensor) -> Tensor:
        return self.factor * array + self.offset

    def of(self, array: Tensor) -> Tensor:
        made = self.scaled(array.double()).clamp(self.low, self.high)
        return made.trunc().remainder(256) if self.whole else made


def recipe(array: Tensor, shown: Tensor) -> Recipe | None:
    """How `shown` was made of `array` or of its first rows, whatever was done to the order; None: in another way."""
    if shown.dim() == 3 and shown.shape[-1] in {3, 4} and bool((shown[..., :3] == shown[..., :1]).all()):
        shown = shown[..., 0]  # grey, repeated
    if shown.numel() < LEAST or array.dim() == 0:
        return None
    after = shown.double().flatten().sort().values
    for rows in _parts(array, shown.numel()):
        part = array if rows is None else array[rows[0] : rows[1]]
        before = part.double().flatten().sort().values
        if torch.equal(before, after):
            return Recipe(rows=rows, ordered=torch.equal(part.double().flatten(), shown.double().flatten()))
        if float(before[-1] - before[0]) < 1e-9:
            continue
        whole = shown.dtype == torch.uint8 and array.is_floating_point()
        found = _to_bytes(before, after) if whole else _affine(before, after)
        if found is not None:
            near = (found.of(part).flatten() - shown.double().flatten()).abs() <= 1e-3 * float(
                after[-1] - after[0]
            ) + found.whole
            return replace(found, rows=rows, ordered=bool(near.double().mean() > 0.98))
    return None


def _parts(array: Tensor, numbers: int) -> list[tuple[int, int] | None]:
    if array.numel() == numbers:
        return [None]
    size = array[:1].numel()
    count = numbers // size if size and numbers % size == 0 else 0
    if not 0 < count < array.shape[0]:
        return []
    return [(0, count)] if count > 1 else [(i, i + 1) for i in range(min(MOST_ROWS, array.shape[0]))]


def _affine(before: Tensor, after: Tensor) -> Recipe | None:
    """From the numbers that were not clipped: those that are neither the smallest nor the largest shown."""
    inner = (after > after[0]) & (after < after[-1])
    x, y = before[inner], after[inner]
    if x.numel() < LEAST // 2 or float(x.var()) == 0:
        return None
    factor = float(((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum())
    offset = float(y.mean()) - factor * float(x.mean())
    low = float(after[0]) if float(after[0]) in ENDS and int((after == after[0]).sum()) > 1 else -math.inf
    high = float(after[-1]) if float(after[-1]) in ENDS and int((after == after[-1]).sum()) > 1 else math.inf
    made = (factor * before + offset).clamp(low, high)
    near = float((made - after).abs().max()) <= 1e-4 * float(after[-1] - after[0])
    return Recipe(factor, offset, low, high) if near and factor > 0 else None


def _to_bytes(before: Tensor, after: Tensor) -> Recipe | None:
    """Numbers above 255 and below 0 begin again at the other end, as numpy and torch do it."""
    counts = torch.bincount(after.long(), minlength=256)
    span = float(before[-1] - before[0])
    own = (255 / span, -255 * float(before[0]) / span)
    for factor, offset in (*USUAL, own):
        for low, high in ((-math.inf, math.inf), (0.0, 255.0)):
            scaled = (factor * before + offset).clamp(low, high)
            for whole in (scaled.trunc(), scaled.round()):
                made = torch.bincount(whole.remainder(256).long(), minlength=256)
                if int((made - counts).abs().sum()) <= 0.02 * after.numel():  # float32 rounds some to a neighbour
                    return Recipe(factor, offset, low, high, whole=True, stretched=(factor, offset) == own)
    return None
