"""Convolutional encoder and decoder for images of any size and number of channels, with residual blocks where wanted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F


class Block(nn.Module):
    """x + f(x), channels and size as they were."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.one = nn.Conv2d(channels, channels, 3, padding=1)
        self.two = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        added: Tensor = self.two(F.silu(self.one(F.silu(x))))
        return x + added


def halved(size: int, times: int) -> list[int]:
    """Sizes on the way down, rounded up: 28, 3 -> [28, 14, 7, 4]."""
    sizes = [size]
    for _ in range(times):
        sizes.append((sizes[-1] + 1) // 2)
    return sizes


class Encoder(nn.Module):
    """Each entry of `channels` halves height and width; `blocks` residual blocks follow at each size."""

    def __init__(
        self,
        shape: Sequence[int],
        latents: int,
        channels: Sequence[int] = (32, 64, 64),
        blocks: int = 0,
        width: int = 256,
    ) -> None:
        super().__init__()
        sizes = [halved(s, len(channels))[-1] for s in shape[1:]]
        made: list[nn.Module] = []
        for a, b in zip([shape[0], *channels], channels, strict=False):
            made += [nn.Conv2d(a, b, 3, stride=2, padding=1), *(Block(b) for _ in range(blocks)), nn.SiLU()]
        self.body = nn.Sequential(*made)
        self.hidden = nn.Linear(channels[-1] * math.prod(sizes), width)
        self.mu = nn.Linear(width, latents)
        self.logvar = nn.Linear(width, latents)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = self.body(x)  # [b, C, H, W] -> [b, channels[-1], H / 2^n, W / 2^n]
        h = F.silu(self.hidden(h.flatten(1)))  # [b, width]
        return self.mu(h), self.logvar(h)  # [b, latents] each


class Up(nn.Module):
    """Doubles height and width, to exactly `size`."""

    def __init__(self, a: int, b: int, size: tuple[int, int], blocks: int) -> None:
        super().__init__()
        self.size = size
        self.up = nn.ConvTranspose2d(a, b, 4, stride=2, padding=1)
        self.blocks = nn.Sequential(*(Block(b) for _ in range(blocks)))

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.blocks(self.up(F.silu(x))[..., : self.size[0], : self.size[1]])
        return made


class Decoder(nn.Module):
    """The encoder backwards; `shape` is that of the output [per_value * C, H, W].

    Nothing but the output has full size: its four pixels in a square are computed as channels at half the size.
    """

    def __init__(
        self,
        shape: Sequence[int],
        latents: int,
        channels: Sequence[int] = (32, 64, 64),
        blocks: int = 0,
        width: int = 256,
    ) -> None:
        super().__init__()
        self.size = tuple(shape[1:])
        heights, widths = (halved(s, len(channels)) for s in self.size)
        self.small = (channels[-1], heights[-1], widths[-1])
        self.hidden = nn.Linear(latents, width)
        self.body = nn.Linear(width, math.prod(self.small))
        steps = pairwise(reversed(channels))
        at = list(zip(heights, widths, strict=True))[-2:0:-1]
        self.ups = nn.Sequential(*(Up(a, b, size, blocks) for (a, b), size in zip(steps, at, strict=True)))
        self.out = nn.Conv2d(channels[0], 4 * shape[0], 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        h = F.silu(self.hidden(z))  # [b, width]
        h = self.ups(self.body(h).reshape(-1, *self.small))  # [b, channels[0], H / 2, W / 2]
        made = F.pixel_shuffle(self.out(F.silu(h)), 2)
        return made[..., : self.size[0], : self.size[1]]  # [b, per_value * C, H, W]
