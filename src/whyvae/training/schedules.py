"""Learning rates and KL weights as functions of the step: nothing to save, nothing to restore."""

from __future__ import annotations

import math
from typing import Literal

Schedule = Literal["cosine", "step", "plateau", "one-cycle", "none"]


def rate(schedule: Schedule, step: int, steps: int, warmup: float, reductions: int = 0) -> float:
    """Factor of the learning rate. `warmup` is a share of `steps`; `reductions` counts plateaus met."""
    at, start = step / steps, max(warmup, 1e-9)
    if schedule == "one-cycle":  # up over three tenths, down to nothing over the rest (Smith & Topin 2019)
        return 0.04 + 0.96 * _cosine(1 - at / 0.3) if at < 0.3 else _cosine((at - 0.3) / 0.7)
    begin = min(1.0, (at + 1 / steps) / start)
    match schedule:
        case "cosine":
            return begin * _cosine(max(0.0, (at - warmup) / (1 - warmup)))
        case "step":
            return begin * 0.1 ** (int(at * 10 >= 6) + int(at * 10 >= 9))
        case "plateau":
            return begin * 0.3**reductions
    return begin


def _cosine(at: float) -> float:
    """1 at 0, 0 at 1."""
    return 0.5 * (1 + math.cos(math.pi * min(1.0, max(0.0, at))))


def kl_weight(weight: float, step: int, steps: int, warmup: float) -> float:
    """Rises in a straight line over the `warmup` share of `steps`, and arrives."""
    return weight * min(1.0, (step + 1) / max(1.0, warmup * steps))
