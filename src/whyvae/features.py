"""What generation scores look at: rows of any shape -> one feature vector a row, no downloaded weights."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

Features = Callable[[Tensor], Tensor]  # rows [n, ...] -> [n, F]

LARGEST = 32  # pixels a side that are convolved; finer detail enters as its strength
MOST_PIXELS = 1024  # compared one by one; larger images are averaged down
CHUNK = 128  # rows at a time
LONGEST = 256  # time steps of a sequence
IMAGE = 64  # flat columns from which on a common unit means pixels (8 x 8)
ONE_UNIT = 3.0  # no column reaches further than this many times the median one
REACH = 6.0  # a column's largest deviation in units of its scale: a rare value must not outvote all others


def features_for(rows: Tensor, seed: int = 0) -> tuple[Features, Features]:
    """The defaults for rows of this shape: (for distances between rows, for the kernel); `seed` draws random filters.

    [n, C, H, W], [n, H, W, C] or square [n, H, W], images: pixels, and `random_convolutions`. Other [n, T, C] or
    [n, C, T], the longer axis being time, sequences: values, differences and spectrum. [n, D], tables: as they are.
    """
    shape = rows.shape[1:]
    if len(shape) == 3 or (len(shape) == 2 and shape[0] == shape[1] >= 8):
        return pixels, lambda r: random_convolutions(r, seed)
    if len(shape) == 2 and max(shape) >= 8:
        of_these = partial(sequences, floor=noise_floor(rows))  # one for all that is compared with these
        return of_these, of_these
    return flat, flat


def flat(rows: Tensor) -> Tensor:
    """[n, ...] -> [n, F]."""
    return rows.reshape(rows.shape[0], -1)


def pixels(rows: Tensor) -> Tensor:
    """Images -> [n, F]: their pixels, averaged down until there are no more than MOST_PIXELS."""
    x = _channels_first(rows)
    while x[0].numel() > MOST_PIXELS and min(x.shape[2:]) > 1:
        x = F.avg_pool2d(x, 2, ceil_mode=True)
    return flat(x)


def _channels_first(rows: Tensor) -> Tensor:
    if rows.dim() == 3:
        return rows[:, None]
    last = rows.shape[-1] <= 4 < rows.shape[1]
    return rows.permute(0, 3, 1, 2) if last else rows


def random_convolutions(rows: Tensor, seed: int = 0) -> Tensor:
    """Images -> [n, F]: two layers of random 3x3 filters, each averaged on a grid; and the strength of detail.

    Random filters see texture and layout, if not meaning. Detail is the mean difference between neighbouring pixels at
    full size and at halves of it, so that blur of large images is seen although they are convolved small.
    """
    generator = torch.Generator().manual_seed(seed)
    rows = _channels_first(rows)
    channels = rows.shape[1]
    one = torch.randn(16, channels, 3, 3, generator=generator) / (9 * channels) ** 0.5
    two = torch.randn(32, 16, 3, 3, generator=generator) / (9 * 16 / 2) ** 0.5
    one, two = one.to(rows.device), two.to(rows.device)
    made = [_convolved(part.to(one.dtype), one, two) for part in rows.split(CHUNK)]
    return torch.cat(made).to(rows.dtype)


def _convolved(x: Tensor, one: Tensor, two: Tensor) -> Tensor:
    detail = []
    small = x
    while True:
        detail += [_steps(small, axis) for axis in (2, 3) if small.shape[axis] > 1]
        if max(small.shape[2:]) <= LARGEST:
            break
        small = F.avg_pool2d(small, 2, ceil_mode=True)
    first = F.relu(F.conv2d(small, one, padding=1))
    second = F.relu(F.conv2d(F.avg_pool2d(first, 2, ceil_mode=True), two, padding=1))
    grids = [_grid(small, 4), _grid(first, 4), _grid(second, 2)]
    return torch.cat([g.flatten(1) for g in (*grids, *detail)], 1)


def _grid(x: Tensor, most: int) -> Tensor:
    return F.adaptive_avg_pool2d(x, (min(most, x.shape[2]), min(most, x.shape[3])))


def _steps(x: Tensor, axis: int) -> Tensor:
    return x.diff(dim=axis).abs().mean((2, 3))


def sequences(rows: Tensor, floor: Tensor) -> Tensor:
    """[n, T, C] (or [n, C, T], the longer axis being time) -> values, their differences, log power at each frequency, above
    `floor`.
    """
    x = _in_time(rows)
    power = torch.fft.rfft(x, dim=1).abs().square()
    return torch.cat([x.flatten(1), x.diff(dim=1).flatten(1), (power + floor).log().flatten(1)], 1)


def _in_time(rows: Tensor) -> Tensor:
    """[n, T, C], no more than LONGEST steps of time."""
    x = rows if rows.shape[1] >= rows.shape[2] else rows.transpose(1, 2)
    return F.adaptive_avg_pool1d(x.transpose(1, 2), LONGEST).transpose(1, 2) if x.shape[1] > LONGEST else x


def noise_floor(rows: Tensor) -> Tensor:
    """1 % of a flat spectrum's power: below it the logarithm shows rounding, not signal."""
    x = _in_time(rows)
    return (0.01 * x.shape[1] * x.square().mean()).clamp_min(1e-12)


class Scaled:
    """Features centred on the mean of `real` and in units of their spread over it, [n, F] float64.

    Pixels, flat or not, share one unit: their distances are those of pictures. All other columns have their own.
    """

    def __init__(self, real: Tensor, features: Features) -> None:
        self._features = features
        raw = self._raw(real)
        self._mean = raw.mean(0)
        away = (raw - self._mean).abs().amax(0)
        own = torch.maximum(raw.std(0), away / REACH)
        moving = own > 1e-9 * own.max()
        one_unit = features is pixels or (
            raw.shape[1] >= IMAGE and bool(away.max() <= ONE_UNIT * away[moving].median())
        )
        if one_unit:
            self._scale = raw.var(0).mean().sqrt().clamp_min(1e-300)
        else:
            usual = own[moving].median() if bool(moving.any()) else torch.ones(())
            self._scale = own.where(moving, usual)
        self.real = self(real)

    def _raw(self, rows: Tensor) -> Tensor:
        with torch.no_grad():
            made = self._features(rows.detach())
        if made.dim() != 2 or made.shape[0] != rows.shape[0]:
            raise ValueError(f"features: wanted [{rows.shape[0]}, F], got {list(made.shape)}")
        return made.cpu().double()

    def __call__(self, rows: Tensor) -> Tensor:
        scaled: Tensor = (self._raw(rows) - self._mean) / self._scale
        return scaled
