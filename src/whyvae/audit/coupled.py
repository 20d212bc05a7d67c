"""A regulariser that compares examples with each other (an MMD, a covariance, a contrast), told from a wrong KL."""

from __future__ import annotations

import torch
from torch import Tensor

from whyvae.audit.cut import cut, gradient, injected
from whyvae.watch.lineage import Lineage
from whyvae.watch.replay import Replay

DIRECTION = 1e-5  # by which a gradient must turn: rounding turns it by 1e-7, a factor of the whole loss not at all


def coupled(lineage: Lineage, replay: Replay, values: list[Tensor], loss: int | None = None) -> bool:
    """Does what an example's posterior is pulled to depend on the posteriors of others?

    A KL is a sum over examples, each with one posterior: other examples change its gradient at most by a common factor
    (|KL - C|, log KL). `values`: what the heads give, [n, ...] each.
    """
    n = min((v.shape[0] for v in values if v.dim() > 1), default=0)
    if n < 4 or any(v.dim() < 2 or v.shape[0] != n for v in values):
        return False
    here, other = injected(values, 1.0), injected(values, 1.0, seed=1)
    mixed = [torch.cat([a[: n // 2], b[n // 2 :]]) for a, b in zip(here, other, strict=True)]
    one, two = (_of_first(lineage, replay, heads, n // 2, loss) for heads in (here, mixed))
    size = float(one @ one)
    turned = float((two - one * (float(one @ two) / max(size, 1e-300))).norm())
    return size > 0 and turned > DIRECTION * float(two.norm())


def _of_first(lineage: Lineage, replay: Replay, heads: list[Tensor], n: int, loss: int | None) -> Tensor:
    """The direct gradient at the first `n` examples."""
    step = cut(lineage, replay, heads=heads, loss=loss)
    parts = gradient(step.loss, step.heads).split([head.numel() for head in step.heads])
    return torch.cat([part.reshape(head.shape)[:n].flatten() for part, head in zip(parts, step.heads, strict=True)])
