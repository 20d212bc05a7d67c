"""The noise that makes z: is it N(0, 1), its own for each number, and multiplied by a positive scale?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from whyvae.probe import Probe
from whyvae.verdict import Where
from whyvae.watch.dependencies import SHAPED_LIKE
from whyvae.watch.recorder import FIRST

CRITICAL = 2.694  # sqrt(n) times the distance that honest noise exceeds once in a million (Kolmogorov 1933)


@dataclass(frozen=True)
class Noise(Probe):
    """The recorded draw: what drew it, and its distribution over the run's recorded steps (re-drawn by replaying the
    draw itself, so nothing of the user's is called).
    """

    drawn_by: str  # "" when there is no draw; what draws z itself, where it is no noise that is scaled and shifted
    uniform: bool
    mean: float
    sd: float
    count: int
    kolmogorov: float  # distance of the draws to N(0, 1)
    critical: float  # of that distance at the 1e-6 level, for this many draws
    shared: str  # "" or the axes along which one number is used for several latents or examples
    at: Where | None
    repeated: int = 0  # recorded steps that were given the very same numbers; 0 where they differ

    @classmethod
    def measure(cls, subject: Any) -> Self:
        lineage, tape = subject.lineage, subject.tape
        if lineage.eps < 0:
            by = tape.ops[lineage.noise_op].name if lineage.noise_op >= 0 else ""
            return cls(by, False, math.nan, math.nan, 0, math.nan, math.nan, "", _z_place(subject))
        draws = torch.cat([d.flatten().double() for d in _draws(subject)])
        op = tape.ops[lineage.noise_op] if lineage.noise_op >= 0 else None
        name = op.name if op else "code outside torch"
        place = op.place if op else None
        n = draws.numel()
        return cls(
            name, name in {"rand", "rand_like", "uniform_"}, float(draws.mean()), float(draws.std()), n,
            _distance(draws), CRITICAL / math.sqrt(n), _shared(subject), Where(*place) if place else _z_place(subject),
            _repeated(subject),
        )  # fmt: skip


def _repeated(subject: Any) -> int:
    """So many recorded steps were all given the same noise, over more than one step of the optimiser (one of L-BFGS asks for
    its loss at many points, and they are to have the same); 0 where that is not so.
    """
    lineage = subject.lineage
    if len({step.index for step in subject.steps}) < 2:
        return 0
    if lineage.noise_op < 0:
        numbers = [tuple(feed[lineage.eps].flatten()[:FIRST].tolist()) for feed in subject.train if lineage.eps in feed]
    else:
        key, at = subject.tape.shape_key(), lineage.noise_op
        numbers = [step.tape.ops[at].first for step in subject.steps if step.tape.shape_key() == key]
    return len(numbers) if len(numbers) > 1 and len(numbers[0]) == FIRST and len(set(numbers)) == 1 else 0


def _draws(subject: Any) -> list[Tensor]:
    lineage = subject.lineage
    if lineage.noise_op < 0:
        return [feed[lineage.eps] for feed in subject.train if lineage.eps in feed]
    shapes = _shapes(subject)
    return [subject.replay.run([lineage.eps], feed=shapes, seed=seed)[lineage.eps] for seed in range(16)]


def _shapes(subject: Any) -> dict[int, Tensor]:
    """What lends the draw its shape and no more, as zeros: to draw `randn_like(mu)` again, no encoder has to run."""
    above, slots = subject.deps.ancestors([subject.lineage.eps]), subject.tape.slots
    lenders = [op.reads[0] for op in subject.tape.ops if op.name in SHAPED_LIKE and op.reads and above & set(op.outs)]
    return {s: torch.zeros(slots[s].shape, dtype=torch.float64) for s in lenders if s not in above}


def _distance(draws: Tensor) -> float:
    """Kolmogorov-Smirnov distance to the standard normal."""
    ordered = draws.sort().values
    cdf = 0.5 * (1 + torch.erf(ordered / math.sqrt(2)))
    n = ordered.numel()
    ranks = torch.arange(1, n + 1, dtype=torch.float64) / n
    return float(torch.maximum((cdf - ranks).abs(), (cdf - ranks + 1 / n).abs()).max())


def _shared(subject: Any) -> str:
    eps, z = (
        subject.tape.slots[subject.lineage.eps].shape,
        subject.tape.slots[subject.lineage.z].shape,
    )
    size_eps, size_z = (
        subject.tape.slots[subject.lineage.eps].numel,
        subject.tape.slots[subject.lineage.z].numel,
    )
    if size_eps >= size_z:
        return ""
    return f"{size_eps} numbers {list(eps)} for {size_z} latents {list(z)}"


def _z_place(subject: Any) -> Where | None:
    position = subject.deps.producer.get(subject.lineage.z)
    place = subject.tape.ops[position].place if position is not None else None
    return Where(*place) if place else None
