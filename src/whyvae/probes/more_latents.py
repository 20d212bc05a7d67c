"""What more latents would gain, beside what larger parts would: the user's VAE trained on with further units."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Self

from whyvae.probe import CannotMeasure, OnDemand, Probe
from whyvae.probes.latents import LatentUsage
from whyvae.probes.missed import further
from whyvae.probes.objective import Objective
from whyvae.probes.sampling_mode import SamplingMode
from whyvae.probes.sides import Beside, Parts, Score, Trials
from whyvae.probes.wider import LONGER, NOTHING, OPEN, STEPS, affordable, calibrated_gain, judgeable, own_gain, weighed
from whyvae.verdict import Where


@dataclass(frozen=True)
class MoreLatents(Probe):
    """Gain of `added` further latents, with an encoder of their own, whose draws a side network beside the decoder is given.

    Both trials have side networks beside encoder and decoder, and train everything as those of `WiderBlocks` do, from the
    trained model's function; only one has the further units. Gained is what it gains more, on examples that were not
    trained on and with the KL of the further units paid, so that width and more steps count for nothing: `own` in the user's
    objective, `calibrated` at the best noise variance.
    """

    own: float
    calibrated: float
    error: float  # standard error of `own`
    rate: float  # nats the code carries
    added: int
    steps: int
    at: Where | None  # the line that makes the heads

    @classmethod
    def measure(
        cls, subject: Any, objective: Objective, usage: LatentUsage, mode: OnDemand[SamplingMode], beside: Beside
    ) -> Self:  # fmt: skip
        judgeable(subject, objective, mode)
        trials = beside.trials
        before = weighed(trials)
        found = cls._tried(subject, trials, before, usage, affordable(trials, STEPS))
        if not NOTHING * found.rate < found.own < OPEN * found.rate:
            return found
        # new units take their time; few examples are learned by heart in it
        longer = cls._tried(subject, trials, before, usage, affordable(trials, LONGER * STEPS))
        return max(found, longer, key=lambda tried: tried.own)

    @classmethod
    def _tried(cls, subject: Any, trials: Trials, before: Score, usage: LatentUsage, steps: int) -> Self:
        added = further(usage.units)
        without = trials.after(Parts(encoder=True, decoder=True), steps)
        more = trials.after(Parts(encoder=True, decoder=True, latents=added), steps)
        own, calibrated = (
            gain(trials, before, more) - max(0.0, gain(trials, before, without)) for gain in (own_gain, calibrated_gain)
        )
        if not (math.isfinite(own) and math.isfinite(calibrated)):
            raise CannotMeasure("trained on, the model gives numbers that are not finite")
        loss = trials.game.loss
        paired = loss(without.reconstruction, without.kl) - loss(more.reconstruction, more.kl)
        error = float(paired.std()) / math.sqrt(paired.numel())
        return cls(own, calibrated, error, usage.rate, added, steps, _place(subject))


def _place(subject: Any) -> Where | None:
    position = subject.deps.producer.get(subject.lineage.heads[0]) if subject.lineage.heads else None
    place = subject.tape.ops[position].place if position is not None else None
    return Where(*place) if place else None
