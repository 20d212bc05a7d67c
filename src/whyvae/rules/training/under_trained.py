"""TRN03: see the page of the same name."""

from __future__ import annotations

from dataclasses import replace
from math import isnan
from statistics import NormalDist
from typing import get_args

from whyvae.probe import OnDemand
from whyvae.probes.branch import BARELY, ENOUGH_STEPS, Arm, BranchTest, worth
from whyvae.probes.generalisation import Generalisation
from whyvae.probes.sides import HIDDEN
from whyvae.probes.straight import Straight
from whyvae.probes.units import Part
from whyvae.probes.wider import LONGER, STEPS, WiderBlocks
from whyvae.probes.widths import Widths
from whyvae.rule import EARLIER, Rule
from whyvae.rules.capacity.gains import FASTER, lacking, missed_for_width
from whyvae.rules.training.overfit import Overfit
from whyvae.testing import Patient
from whyvae.verdict import Evidence, Finding, Healthy, Limit, Remedy, Skipped, Verdict
from whyvae.watch.subject import Subject

MATERIAL = Limit(">", 1.0, "nats; two runs of one script with different seeds differ by less")
SHARE = Limit(
    ">",
    0.15,
    "of what the outputs are worth: of 69 healthy runs of the bank, whose families are not those it is examined on, "
    "the most that more steps gained was 0.11; the healthy scripts of the test panel, stopped after 100 steps, gain 0.12 to 0.9",
)
SEVERE = 0.25  # of what the outputs are worth
SHORT = Limit(
    "<",
    LONGER * STEPS,
    "as many as the longest trial of a wider part takes: what such a trial gains over a run that is shorter, it may gain by learning faster",
)
WIDE = Limit(
    ">", HIDDEN - 1, "as wide as the network tried beside it, so that what that one gains is not a matter of width"
)
# Probability that a short run that stands still does so on a plateau. A guess: one such run was met, of 240 steps, and five times as many took a ninth off its loss
PLATEAU = 0.7
DECAYED = 0.3  # of the largest rate: below it a schedule ended the training, not the last step


def _sure(branch: BranchTest, arm: Arm) -> float:
    """Probability that the gain exceeds its limits, from its standard error."""
    needed = SHARE.value / (1 - SHARE.value) * max(0.0, worth(branch.achieved, branch.offered))
    limit = max(needed, MATERIAL.value) if branch.unit == "nats" else needed
    return min(0.97, NormalDist().cdf((arm.gain - limit) / max(arm.error, 0.05 * abs(arm.gain), 1e-12)))


def _told(branch: BranchTest, arm: Arm) -> tuple[str, Remedy]:
    """The sentence, and what to do."""
    enough = branch.share(branch.same) > SHARE.value  # at the rate that the run had
    decayed = branch.last_rate < DECAYED * branch.rate
    if decayed and enough:
        arm = branch.same
    took = f"take another {arm.gain:.3g} {branch.unit} per example off the loss"
    rates = f"{arm.rate:.1g} instead of {branch.rate:.1g}"
    if not enough or arm.factor > BARELY:
        same = f"at {branch.rate:.1g} only {branch.same.gain:.2g}"
        summary = f"The learning rate is too small: {branch.steps} more steps at {rates} {took}, {same}."
        return summary, Remedy("raise the learning rate", f"{rates}; watch that the loss falls")
    if decayed:
        end = f"it ended at {branch.last_rate:.1g}"
        summary = f"The learning rate was lowered too early: {end}, and {branch.steps} steps at {arm.rate:.1g} {took}."
        return summary, Remedy("lower the learning rate later", "let the schedule end with the training, not before it")
    summary = (
        f"Training stopped too early: {branch.steps} more steps {took}, after {branch.trained} that are not enough."
    )
    return summary, Remedy("train longer", f"several times the {branch.trained} steps, until the loss no longer falls")


def _of_size(arm: Arm, wider: WiderBlocks | None, widths: Widths | None) -> Evidence | None:
    """What a wider part gains, where a narrow one is what training is slow for: more than twice what more steps gain; of a part
    with no more hidden units than latents in use, of which it is known that it is too small (gains.FASTER), more.
    """
    if wider is None or widths is None:
        return None
    for part in get_args(Part):
        gain, choked = getattr(wider.own, part), widths.choked(part)
        reason = "the part is too small for what it is trained to do"
        limit = Limit(
            "<",
            arm.gain if choked else FASTER * arm.gain,
            f"{'' if choked else 'twice '}what more steps gain: {reason}",
        )
        if widths.tight(part) and lacking(missed_for_width(part, wider, widths)) and gain > limit.value:
            return Evidence(f"nats per example that a wider {part} gains within a few steps", gain, limit, unit="nats")
    return None


def _learnt_by_heart(arm: Arm, test: Generalisation | None) -> float:
    """What held-out examples cost more, where that is a finding (TRN04) and more than what training on would gain; else 0."""
    verdict = Healthy(()) if test is None else Overfit.check(test)
    cost = verdict.nats or 0.0 if isinstance(verdict, Finding) else 0.0
    return cost if cost > arm.gain else 0.0


def _longer(branch: BranchTest, wider: WiderBlocks | None) -> BranchTest:
    """`branch` with the course at the same rate that the trials of width took, which was longer."""
    if wider is None or branch.unit != "nats" or wider.steps <= branch.steps or isnan(wider.drift):
        return branch
    gain = min(wider.own.continued, wider.calibrated.continued)
    if gain <= branch.same.gain:
        return branch
    same = Arm(branch.same.factor, branch.same.rate, (gain,), wider.drift)
    return replace(branch, arms=(branch.slower, same, *branch.arms[2:]), steps=wider.steps)


def _stalled(
    branch: BranchTest, wider: WiderBlocks | None, widths: Widths | None, straight: Straight | None
) -> Finding | None:
    """Of a short run that stands still, where a network no wider than its own learns in the same few steps what it has not."""
    if wider is None or widths is None:
        return None
    for part in get_args(Part):
        if straight is not None and getattr(straight, part):
            continue  # what cannot bend lacks more than time
        evidence = (
            Evidence("optimiser steps that the run took", branch.trained, SHORT),
            Evidence(
                f"numbers that the narrowest hidden layer of the {part} makes of an example",
                getattr(widths, part), WIDE,
            ),
            *missed_for_width(part, wider, widths),
        )  # fmt: skip
        if lacking(evidence):
            gain = getattr(wider.own, part)
            summary = (
                f"Training stopped too early, on a plateau: after {branch.trained} steps another {wider.steps} gain little, but a "
                f"network of {HIDDEN} units beside the {part} gains {gain:.3g} nats in them, and no layer is narrower than that."
            )
            more = Remedy("train longer", f"several times the {branch.trained} steps, past the plateau")
            calibrated = getattr(wider.calibrated, part)
            return Finding(evidence, summary, "warning", PLATEAU, branch.at, nats=calibrated, remedies=(more,))
    return None


class UnderTrained(Rule):
    """Stopped, or slowed to nothing, while still improving."""

    code = "TRN03"
    stage = 41  # a run ruined by large steps may still be recovering
    requires = EARLIER
    explains = ("POS01",)

    @staticmethod
    def check(
        branch: BranchTest,
        wider: OnDemand[WiderBlocks],
        widths: OnDemand[Widths],
        generalisation: OnDemand[Generalisation],
        straight: OnDemand[Straight],
    ) -> Verdict:
        if branch.reason:
            return Skipped(branch.reason)
        layers = widths()
        empty = layers is not None and layers.active == 0  # a code is to be filled first, which takes its time
        if branch.steps < ENOUGH_STEPS or empty:
            branch = _longer(branch, wider())
        arm = branch.decisive
        share = branch.share(arm)
        if isnan(share):
            return Skipped("what the outputs are worth is not known for this likelihood, so no gain can be weighed")
        nats = Evidence(
            f"gained per example by {branch.steps} more steps at {arm.factor:g} times the learning rate, "
            "on batches not trained on, less two standard errors",
            max(0.0, arm.sure),
            MATERIAL,
            unit="nats",
        )
        part = Evidence("that gain, as a share of what outputs are worth here", share, SHARE)
        evidence = (nats, part) if branch.unit == "nats" else (part,)
        if empty and branch.unit == "nats":  # what gains from an empty code has not come to rest in it
            evidence = (nats,)
        slower = branch.slower.gain > branch.onward.gain  # smaller steps do it: not a matter of more of them (TRN02)
        if slower or not all(e.incriminating for e in evidence):
            short = not slower and branch.trained < SHORT.value
            return (_stalled(branch, wider(), widths(), straight()) if short else None) or Healthy(evidence)
        if branch.unit == "nats" and (size := _of_size(arm, wider(), widths())) is not None:
            return Healthy((*evidence, size))
        if branch.unit == "nats" and (cost := _learnt_by_heart(arm, generalisation())):
            return Skipped(
                f"explained by TRN04: more steps gain {arm.gain:.2g} nats on examples learnt by heart, others cost {cost:.2g} more"
            )
        summary, remedy = _told(branch, arm)
        return Finding(
            evidence,
            summary,
            "error" if share > SEVERE else "warning",
            _sure(branch, arm),
            branch.at,
            nats=arm.gain if branch.unit == "nats" else None,
            remedies=(remedy,),
        )

    @staticmethod
    def specimen() -> Subject:
        return Patient(steps=80).train()
