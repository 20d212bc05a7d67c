"""What larger parts would gain: the user's VAE trained on with side networks, against the same without."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Self

from whyvae.probe import CannotMeasure, OnDemand, Probe
from whyvae.probes.balance import LICENCE
from whyvae.probes.branch import BranchTest, worth
from whyvae.probes.gaps import left_out
from whyvae.probes.missed import MissedDirections
from whyvae.probes.objective import Objective
from whyvae.probes.sampling_mode import MOVED, SamplingMode, moved_statistics
from whyvae.probes.sides import Beside, Parts, Score, Trials
from whyvae.probes.widths import EMPTY, Widths
from whyvae.watch.draws import DIAGONAL

STEPS, LEAST_STEPS = 200, 60
# Times, where some part is too small for sure, as reconstructions miss much, and the gain leaves open which; and where a part
# has no hidden layer: what bends is all to be learnt (of two of the bank, one gained a thirtieth of this in STEPS, one half).
LONGER = 3
OPEN = 0.5  # of the rate: a total gain below it leaves that open
# Floating-point operations that a trial may cost, and a longer one: about five and ten seconds of one core. A step of a
# fully connected VAE of 400 hidden units on 128 digits of MNIST takes 0.5e9, of a convolutional one of 32 and 64 channels 4e9.
WORK, MOST_WORK = 6e11, 1.2e12
# Seconds of the processor for a trial of STEPS, and for one of LEAST_STEPS or a longer one: some operations (a transposed
# convolution of few channels) do a tenth of the work in their time that others do, so that the work alone does not tell.
SECONDS, MOST_SECONDS = 6.0, 12.0
COSTLY = "a step of this model is too costly to train larger parts beside it"
NOTHING = 0.05  # of the rate: a total gain below it is not attributed


@dataclass(frozen=True)
class Gains:
    """Nats per held-out example, in one currency. `encoder` and `decoder` share what both gain together as Shapley
    values do: the mean of what each adds alone and what it adds to the other.
    """

    continued: float  # by training on unchanged
    encoder: float
    decoder: float
    total: float  # the sum of the two; where it is nothing, they are not measured and stand at 0


@dataclass(frozen=True)
class WiderBlocks(Probe):
    """Gains of side networks of two layers beside the encoder and the decoder.

    All trials start at the trained model's function and train everything for the same steps with the same noise, on
    three of four recorded examples; gains are measured on the fourth, over what training on unchanged gains.
    `own`: in the user's objective, the KL with weight 1. `calibrated`: of a Gaussian likelihood at its best variance,
    (D/2) log(MSE0 / MSE1) - (KL1 - KL0); else at weight 1.
    """

    own: Gains
    calibrated: Gains
    error: float  # standard error of own.total
    rate: float  # nats the code carries
    rows: int
    steps: int
    drift: float = math.nan  # standard error of own.continued
    worth: float = math.nan  # nats that outputs are worth (BranchTest), where that is known

    @classmethod
    def measure(
        cls, subject: Any, objective: Objective, mode: OnDemand[SamplingMode], missed: OnDemand[MissedDirections],
        widths: OnDemand[Widths], branch: OnDemand[BranchTest], beside: Beside,
    ) -> Self:  # fmt: skip
        judgeable(subject, objective, mode)
        return replace(cls._blocks(beside.trials, missed, widths), worth=_worth(branch()))

    @classmethod
    def _blocks(cls, trials: Trials, missed: OnDemand[MissedDirections], widths: OnDemand[Widths]) -> Self:
        before, layers = weighed(trials), widths()
        if layers is not None and 0 in {layers.encoder, layers.decoder}:
            return cls._tried(trials, before, affordable(trials, LONGER * STEPS))
        found = cls._tried(trials, before, affordable(trials, STEPS))
        residual = missed()
        # a code that is all but empty is to be filled first, which takes its time
        if found.rate < EMPTY or (residual is not None and residual.large and found.own.total < OPEN * found.rate):
            return cls._tried(trials, before, affordable(trials, LONGER * STEPS))
        return found

    @classmethod
    def _tried(cls, trials: Trials, before: Score, steps: int) -> Self:
        scores = {"continued": trials.after(Parts(), steps), "both": trials.after(Parts(True, True), steps)}
        rate = float(before.kl.mean())
        gained = {k: own_gain(trials, before, s) for k, s in scores.items()}
        if gained["both"] - max(0.0, gained["continued"]) > NOTHING * rate:
            for name, parts in (("encoder", Parts(encoder=True)), ("decoder", Parts(decoder=True))):
                scores[name] = trials.after(parts, steps)
        gains = [
            _gains({k: gain(trials, before, s) for k, s in scores.items()}) for gain in (own_gain, calibrated_gain)
        ]
        if not all(math.isfinite(v) for g in gains for v in vars(g).values()):
            raise CannotMeasure("trained on, the model gives numbers that are not finite")
        error, drift = _error(trials, scores["continued"], scores["both"]), _error(trials, before, scores["continued"])
        return cls(gains[0], gains[1], error, rate, before.kl.numel(), steps, drift)


def _worth(branch: BranchTest | None) -> float:
    if branch is None or branch.unit != "nats":
        return math.nan
    return worth(branch.achieved, branch.offered)


def judgeable(subject: Any, objective: Objective, mode: OnDemand[SamplingMode]) -> None:
    if subject.broken:
        raise CannotMeasure("explained by TRN01: the trained parameters are no numbers to measure at")
    if not objective.weight_known or objective.posterior != DIAGONAL or subject.lineage.eps < 0:
        raise CannotMeasure("needs a diagonal Gaussian posterior and a known weight")
    if moved_statistics(mode(), subject.count):
        raise CannotMeasure(MOVED)
    if objective.regulariser.flow or objective.regulariser.conditional:
        raise CannotMeasure("does not apply: trials know the KL to N(0, I), and this model's prior is its own")
    if not objective.closed:
        raise CannotMeasure(f"does not apply: no closed form for the likelihood ({objective.likelihood_name})")
    if subject.tape.slots[subject.lineage.z].numel > subject.lineage.latents * subject.batch:
        raise CannotMeasure("does not apply: each example draws several samples, and trials draw one")
    if left_out(subject, {}) is not None:
        raise CannotMeasure(
            "does not apply: the loss leaves some numbers of each example out, and trials know none that do"
        )


def weighed(trials: Trials) -> Score:
    """Where trials begin, if a nat is worth something there: not at a noise variance that the error exceeds 25 times, as in the
    first stage of another model.
    """
    before, objective = trials.before(), trials.objective
    error = float(before.reconstruction.mean()) / objective.features
    if objective.gaussian and objective.noise_variance < LICENCE * error:
        raise CannotMeasure(
            "does not apply: the KL weighs next to nothing, so what a code costs tells nothing of its size"
        )
    return before


def affordable(trials: Trials, wanted: int) -> int:
    """Steps of a trial, at most `wanted`."""
    share = max(1, wanted / STEPS)
    steps = min(wanted, int(min(WORK * share, MOST_WORK) / max(1.0, trials.flops)))
    if steps < LEAST_STEPS:  # before steps so costly are timed
        raise CannotMeasure(f"{COSTLY} ({trials.flops / 1e9:.2g} GFLOP)")
    in_time = min(SECONDS * share, MOST_SECONDS) / trials.seconds
    if in_time < LEAST_STEPS <= MOST_SECONDS / trials.seconds:
        in_time = LEAST_STEPS
    steps = min(steps, stepped(in_time))
    if steps < LEAST_STEPS:
        raise CannotMeasure(f"{COSTLY} ({trials.seconds:.2g} s)")
    return steps


def stepped(steps: float) -> int:
    """Rounded down to LEAST_STEPS times a power of the square root of 2: clocks differ a little from run to run, and the verdict
    is not to.
    """
    if steps < LEAST_STEPS:
        return 0
    return int(LEAST_STEPS * math.sqrt(2) ** math.floor(2 * math.log2(steps / LEAST_STEPS) + 1e-9))


def own_gain(trials: Trials, before: Score, after: Score) -> float:
    loss = trials.game.loss
    return float((loss(before.reconstruction, before.kl) - loss(after.reconstruction, after.kl)).mean())


def calibrated_gain(trials: Trials, before: Score, after: Score) -> float:
    kl = float((after.kl - before.kl).mean())
    old, new = float(before.reconstruction.mean()), float(after.reconstruction.mean())
    if trials.objective.gaussian:
        return trials.objective.features / 2 * math.log(max(old, 1e-300) / max(new, 1e-300)) - kl
    return old - new - kl


def _error(trials: Trials, one: Score, other: Score) -> float:
    """Of the difference of the two, paired by example."""
    first, second = (trials.game.loss(score.reconstruction, score.kl) for score in (one, other))
    return float((first - second).std()) / math.sqrt(first.numel())


def _gains(gain: dict[str, float]) -> Gains:
    """From what each trial gained over the start. A larger part need not be used: it gains at least what less gains."""
    continued = gain["continued"]
    base = max(0.0, continued)
    if "encoder" not in gain:
        return Gains(continued, 0.0, 0.0, gain["both"] - base)
    encoder, decoder = (max(0.0, gain[part] - base) for part in ("encoder", "decoder"))
    both = max(gain["both"] - base, encoder, decoder)
    return Gains(continued, 0.5 * (encoder + both - decoder), 0.5 * (decoder + both - encoder), both)
