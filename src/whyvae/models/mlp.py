"""Fully connected encoder and decoder: vectors, small images, and tables of numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn


def layers(sizes: Sequence[int]) -> nn.Sequential:
    """Linear layers of these sizes, each followed by an activation."""
    made: list[nn.Module] = []
    for a, b in pairwise(sizes):
        made += [nn.Linear(a, b), nn.SiLU()]
    return nn.Sequential(*made)


class Encoder(nn.Module):
    def __init__(self, shape: Sequence[int], latents: int, widths: Sequence[int] = (512, 256)) -> None:
        super().__init__()
        self.body = layers([math.prod(shape), *widths])
        last = widths[-1] if widths else math.prod(shape)
        self.mu = nn.Linear(last, latents)
        self.logvar = nn.Linear(last, latents)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = self.body(x.flatten(1))  # [b, D] -> [b, last width]
        return self.mu(h), self.logvar(h)  # [b, latents] each


class Decoder(nn.Module):
    """`shape` is that of the output: [per_value * C, ...]."""

    def __init__(self, shape: Sequence[int], latents: int, widths: Sequence[int] = (512, 256)) -> None:
        super().__init__()
        self.shape = tuple(shape)
        inner = list(reversed(widths))
        self.body = layers([latents, *inner])
        self.out = nn.Linear(inner[-1] if inner else latents, math.prod(shape))

    def forward(self, z: Tensor) -> Tensor:
        made: Tensor = self.out(self.body(z))  # [b, latents] -> [b, D]
        return made.reshape(-1, *self.shape)  # [b, *shape]


class LinearEncoder(nn.Module):
    """One linear layer, and a posterior variance that is the same for every example: probabilistic PCA's own form."""

    def __init__(self, shape: Sequence[int], latents: int) -> None:
        super().__init__()
        self.mu = nn.Linear(math.prod(shape), latents)
        self.logvar = nn.Parameter(torch.zeros(latents))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mu = self.mu(x.flatten(1))
        return mu, self.logvar.expand_as(mu)
