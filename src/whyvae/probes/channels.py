"""A target that is one channel of what the encoder is shown, or should be: a signal beside its slope, a picture beside its mask."""

from __future__ import annotations

import torch
from torch import Tensor

from whyvae.distances import squared_distances

FEW = 16  # examples below which two sets look alike whatever they are
SEED, PERMUTATIONS = 31, 400
MOST = 256  # examples of either set: their distances are all held at once
CHANCE = 0.01  # of exchanged sets are further apart than two of one kind are, at most


def channel_like(target: Tensor, data: Tensor) -> Tensor | None:
    """The channel of `data` [n, ...] that `target` [n, D] equals, or else the one nearest to it example by example of those
    that hold the same kind of thing, [n, D]; None where none does, and target and input are not to be compared.
    """
    channels = [c.reshape(len(target), -1) for c in _channels(target, data)]
    same = [c for c in channels if torch.allclose(c, target, rtol=1e-5, atol=1e-7)]
    alike = same or [c for c in channels if len(target) >= FEW and of_one_kind(target, c)]
    return min(alike, key=lambda c: float((c - target).norm()), default=None)


def _channels(target: Tensor, data: Tensor) -> list[Tensor]:
    axes = {1, data.dim() - 1} if data.dim() > 2 else set()
    return [c for axis in axes if data.shape[axis] * target.numel() == data.numel() for c in data.unbind(axis)]


def of_one_kind(a: Tensor, b: Tensor) -> bool:
    """Can two sets of as many examples, [n, D] each, not be told apart? By the energy distance (Székely & Rizzo 2013), against
    the same for random exchanges between the sets.
    """
    a, b, n = a[:MOST], b[:MOST], len(a[:MOST])
    both = torch.cat([a, b])
    apart = squared_distances(both, both).sqrt()
    generator = torch.Generator().manual_seed(SEED)
    sides = torch.ones(2 * n, dtype=apart.dtype)
    sides[n:] = -1
    drawn = torch.stack([sides[torch.randperm(2 * n, generator=generator)] for _ in range(PERMUTATIONS)])
    energy = -((drawn @ apart) * drawn).sum(1)  # -s' d s: what is between the sets less what is within them
    return float((energy >= -(sides @ apart @ sides)).double().mean()) > CHANCE
