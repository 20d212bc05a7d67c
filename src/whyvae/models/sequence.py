"""Sequences [b, C, T] of any length: convolutions over time, or a recurrent encoder and decoder."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def halved(length: int, times: int) -> list[int]:
    """Lengths on the way down, rounded up."""
    lengths = [length]
    for _ in range(times):
        lengths.append((lengths[-1] + 1) // 2)
    return lengths


class Encoder(nn.Module):
    """Each entry of `channels` halves the length."""

    def __init__(
        self, shape: Sequence[int], latents: int, channels: Sequence[int] = (32, 64, 64), width: int = 256
    ) -> None:
        super().__init__()
        made: list[nn.Module] = []
        for a, b in zip([shape[0], *channels], channels, strict=False):
            made += [nn.Conv1d(a, b, 5, stride=2, padding=2), nn.SiLU()]
        self.body = nn.Sequential(*made)
        self.hidden = nn.Linear(channels[-1] * halved(shape[1], len(channels))[-1], width)
        self.mu = nn.Linear(width, latents)
        self.logvar = nn.Linear(width, latents)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = self.body(x)  # [b, C, T] -> [b, channels[-1], T / 2^n]
        h = F.silu(self.hidden(h.flatten(1)))  # [b, width]
        return self.mu(h), self.logvar(h)  # [b, latents] each


class Decoder(nn.Module):
    """The encoder backwards; `shape` is that of the output [per_value * C, T]."""

    def __init__(
        self, shape: Sequence[int], latents: int, channels: Sequence[int] = (32, 64, 64), width: int = 256
    ) -> None:
        super().__init__()
        lengths = halved(shape[1], len(channels))
        self.small, self.lengths = (channels[-1], lengths[-1]), lengths[-2::-1]
        self.hidden = nn.Linear(latents, width)
        self.body = nn.Linear(width, self.small[0] * self.small[1])
        steps = zip(reversed(channels), [*reversed(channels[:-1]), channels[0]], strict=True)
        self.ups = nn.ModuleList(nn.ConvTranspose1d(a, b, 4, stride=2, padding=1) for a, b in steps)
        self.out = nn.Conv1d(channels[0], shape[0], 5, padding=2)

    def forward(self, z: Tensor) -> Tensor:
        h = self.body(F.silu(self.hidden(z))).unflatten(1, self.small)  # [b, channels[-1], T / 2^n]
        for up, length in zip(self.ups, self.lengths, strict=True):
            h = up(F.silu(h))[..., :length]
        made: Tensor = self.out(F.silu(h))  # [b, per_value * C, T]
        return made


class RecurrentEncoder(nn.Module):
    """A GRU over time, both ways; its mean state makes the heads."""

    def __init__(self, shape: Sequence[int], latents: int, width: int = 128) -> None:
        super().__init__()
        self.gru = nn.GRU(shape[0], width, batch_first=True, bidirectional=True)
        self.mu = nn.Linear(2 * width, latents)
        self.logvar = nn.Linear(2 * width, latents)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = self.gru(x.transpose(1, 2))[0].mean(1)  # [b, C, T] -> [b, T, 2 width] -> [b, 2 width]
        return self.mu(h), self.logvar(h)  # [b, latents] each


class RecurrentDecoder(nn.Module):
    """A GRU that hears z and the time at every step, never the sequence itself: so z cannot be ignored."""

    clock: Tensor

    def __init__(self, shape: Sequence[int], latents: int, width: int = 128) -> None:
        super().__init__()
        time = torch.linspace(0, 1, shape[1])[:, None] * torch.pi * 2 ** torch.arange(4)  # [T, 4]
        self.register_buffer("clock", torch.cat([time.sin(), time.cos()], 1), persistent=False)  # [T, 8]
        self.start = nn.Linear(latents, width)
        self.gru = nn.GRU(latents + 8, width, batch_first=True)
        self.out = nn.Linear(width, shape[0])

    def forward(self, z: Tensor) -> Tensor:
        steps = len(self.clock)
        heard = torch.cat(
            [z[:, None].expand(-1, steps, -1), self.clock.expand(len(z), -1, -1)], 2
        )  # [b, T, latents + 8]
        h = self.gru(heard, self.start(z).tanh()[None])[0]  # [b, T, width]
        made: Tensor = self.out(h)
        return made.transpose(1, 2)  # [b, per_value * C, T]
