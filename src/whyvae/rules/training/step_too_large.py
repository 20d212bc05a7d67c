"""TRN02: see the page of the same name."""

from __future__ import annotations

from math import isfinite, isnan
from statistics import NormalDist

from whyvae.probe import OnDemand
from whyvae.probes.branch import Arm, BranchTest, worth
from whyvae.probes.finite import Finiteness
from whyvae.probes.generalisation import Generalisation
from whyvae.probes.killed import SLOWER, Killed
from whyvae.probes.rewind import Rewind
from whyvae.probes.units import HiddenUnits
from whyvae.probes.wider import WiderBlocks
from whyvae.rule import EARLIER, Rule
from whyvae.rules.capacity.gains import lacking
from whyvae.rules.training.dead_units import MOST, harmed, share_dead
from whyvae.rules.training.overfit import Overfit
from whyvae.testing import Patient
from whyvae.verdict import Evidence, Finding, Healthy, Limit, Remedy, Severity, Skipped, Verdict
from whyvae.watch.subject import Subject

MATERIAL = Limit(">", 1.0, "nats; two runs of one script with different seeds differ by less")
SHARE = Limit(
    ">",
    0.15,
    "of what the outputs are worth: of 69 healthy runs of the bank, whose families are not those it is examined on, "
    "the most that smaller steps gained was 0.12; one in twenty gained 0.08",
)
LOSES = Limit(
    ">",
    0.25,
    "of what the outputs are worth: of 78 healthy runs of the bank, whose families are not those it is examined on, two lost "
    "0.17 and 0.19 and all others less than 0.08",
)
BREAKS = Limit(">", 0, "the same start, batches and loss: only the size of the steps differs")
EXPLODED = 10.0  # times the loss of the first step
HUGE = 10_000  # nats: a ruin, whatever the number
LIVE = Limit("<", MOST.value, "the same start and batches: only the size of the steps differs")
SEVERE = 0.25
DECAYED = 0.3  # of the largest rate: below it a schedule has made the steps small


def _smaller(rate: float) -> tuple[Remedy, ...]:
    return (
        Remedy("take smaller steps", f"learning rate {rate:.1g}"),
        Remedy(
            "clip the gradients",
            "torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0) between backward() and step(), where single "
            "gradients are far longer than the others",
        ),
    )


def _size(gain: float) -> str:
    return f"{gain:.3g}" if gain < HUGE else f"more than {HUGE:.0f}"


def _sure(arm: Arm) -> float:
    """Probability that there is a gain to speak of."""
    limit = MATERIAL.value
    return min(0.97, NormalDist().cdf((arm.gain - limit) / max(arm.gain - arm.sure, 0.1 * abs(arm.gain), 1e-12) * 2))


def _broke(rewind: Rewind, numbers: Finiteness) -> Verdict:
    """Of a run that ended in numbers that are not finite."""
    arm, users = rewind.best, rewind.users
    better = isfinite(arm.gain) and arm.sure > 0
    worse = users is not None and not (isfinite(users.gain) and users.gain > 0)
    exploded = numbers.largest_loss > EXPLODED * max(numbers.first_loss, 1e-300)
    breaks = worse or exploded
    told = (
        f"at {rewind.rate:.1g} it rose or broke within {rewind.steps} steps" if worse
        else f"at {rewind.rate:.1g} it rose to {numbers.largest_loss:.3g}" if exploded
        else f"at {rewind.rate:.1g} it falls for the first {rewind.steps} steps"
    )  # fmt: skip
    evidence = (
        Evidence("breaks at the rate of the run, from the same start", float(breaks), BREAKS, text=f"the loss: {told}"),
        Evidence(
            f"gained per example in {rewind.steps} steps from the start at {arm.rate:.1g}",
            max(0.0, arm.sure), BREAKS, unit=rewind.unit,
        ),
    )  # fmt: skip
    if not (better and breaks):
        return Healthy(evidence)
    summary = (
        f"The steps are too large: with a learning rate of {rewind.rate:.1g} the loss stops being a number; "
        f"from the same start at {arm.rate:.1g} it falls."
    )
    return Finding(evidence, summary, "error", 0.95, rewind.at, remedies=_smaller(arm.rate))


def _decayed(branch: BranchTest) -> bool:
    return branch.last_rate < DECAYED * branch.rate


def _ruined(rewind: Rewind, branch: BranchTest) -> Finding | None:
    """A short course from the start, at a smaller rate, ends better than the whole run."""
    if not rewind.arms:
        return None
    arm = rewind.best
    stopped = _decayed(branch) and branch.arms and branch.onward.gain > arm.gain  # by its schedule: TRN03
    evidence = _weighed(
        f"by which {rewind.steps} steps from the start at {arm.rate:.1g} end lower than {rewind.trained} at "
        f"{rewind.rate:.1g}", rewind, arm,
    )  # fmt: skip
    if stopped or not all(e.incriminating for e in evidence):
        return None
    summary = (
        f"The steps were too large: {rewind.steps} steps from the same start at a learning rate of {arm.rate:.1g} end "
        f"{_size(arm.gain)} {rewind.unit} per example lower than all {rewind.trained} at {rewind.rate:.1g}."
    )
    nats = arm.gain if rewind.unit == "nats" else None
    return Finding(evidence, summary, "error", _sure(arm), rewind.at, nats, _smaller(arm.rate))


def _restless(branch: BranchTest) -> Finding | Healthy:
    """From where the run ended, only smaller steps lead on."""
    arm = branch.slower
    evidence = _weighed(f"gained per example by {branch.steps} more steps at a tenth of the learning rate", branch, arm)
    lost = _lost(branch)
    if lost is not None and evidence[0].incriminating and not evidence[-1].incriminating:
        evidence = (evidence[0], lost)
    if _decayed(branch) or branch.onward.gain > arm.gain or not all(e.incriminating for e in evidence):
        return Healthy(evidence)
    at_rate = f"{max(0.0, branch.same.gain):.2g}" if lost is None else f"as many add {_size(-branch.same.gain)} to it"
    summary = (
        f"The steps are too large to settle: {branch.steps} more at a tenth of the learning rate ({arm.rate:.1g}) take "
        f"{_size(arm.gain)} {branch.unit} per example off the loss, at {branch.rate:.1g} {at_rate}."
    )
    severity: Severity = "error" if branch.share(arm) > SEVERE else "warning"
    nats = arm.gain if branch.unit == "nats" else None
    return Finding(evidence, summary, severity, _sure(arm), branch.at, nats, _smaller(arm.rate))


def _lost(branch: BranchTest) -> Evidence | None:
    """What as many steps at the rate of the run lose for sure, where that is much: a good end was a lucky one."""
    worth_of = worth(branch.achieved, branch.offered)
    if branch.unit != "nats" or not worth_of > 0 or not isfinite(branch.same.gain):
        return None
    share = (-branch.same.gain - 2 * branch.same.error) / worth_of
    lost = Evidence(
        f"lost by {branch.steps} more steps at the rate of the run, as a share of what the outputs are worth",
        share,
        LOSES,
    )
    return lost if lost.incriminating else None


def _by_heart(found: Finding | Healthy, test: OnDemand[Generalisation]) -> Healthy | None:
    """Where the model loses more to learning its examples by heart than smaller steps on the same examples would gain."""
    if isinstance(found, Healthy) or found.nats is None:
        return None
    measured = test()
    overfit = Overfit.check(measured) if measured is not None else None
    if not isinstance(overfit, Finding) or not (overfit.nats or 0.0) > found.nats:
        return None
    limit = Limit("<", found.nats, "what smaller steps on the same examples gain: less than is lost on others")
    lost = Evidence("lost per example by having learnt by heart", overfit.nats or 0.0, limit, unit="nats")
    return Healthy((*found.evidence, lost))


def _killed(hidden: HiddenUnits, wider: OnDemand[WiderBlocks], killed: OnDemand[Killed]) -> Finding | None:
    """Units that are dead and missed died by the size of the steps: in the same course at a tenth of it they live."""
    for layer, harm in harmed(hidden, wider):
        again = killed() if lacking(harm) else None
        if again is None:
            continue
        place = hidden.layers.index(layer)
        what = f"share of dead units in that layer {again.steps} steps from the start at"
        evidence = (
            share_dead(layer), *harm,
            Evidence(f"{what} {again.rate:.1g}", again.users[place], MOST),
            Evidence(f"{what} {SLOWER * again.rate:.1g}", again.slower[place], LIVE),
        )  # fmt: skip
        if all(e.incriminating for e in evidence):
            summary = (
                f"The steps are too large: they kill {again.users[place]:.0%} of the units after `{layer.activation}` in the "
                f"{layer.part} within {again.steps} steps; at a tenth of the learning rate, {again.slower[place]:.0%} die."
            )
            return Finding(evidence, summary, "error", 0.9, layer.at, remedies=_smaller(SLOWER * again.rate))
    return None


def _weighed(what: str, test: BranchTest | Rewind, arm: Arm) -> tuple[Evidence, ...]:
    nats = Evidence(f"{what}, less two standard errors", max(0.0, arm.sure), MATERIAL, unit="nats")
    part = Evidence("that, as a share of what the outputs would be worth", test.share(arm), SHARE)
    return (nats, part) if test.unit == "nats" else (part,)


class StepTooLarge(Rule):
    """Learning rate or gradient too large: diverges, oscillates or kills units."""

    code = "TRN02"
    stage = 40
    requires = EARLIER
    explains = ("TRN01", "POS01", "TRN05")

    @staticmethod
    def check(
        rewind: Rewind, branch: BranchTest, numbers: Finiteness, units: OnDemand[HiddenUnits],
        wider: OnDemand[WiderBlocks], killed: OnDemand[Killed], test: OnDemand[Generalisation],
    ) -> Verdict:  # fmt: skip
        if rewind.users is not None:
            return _broke(rewind, numbers)
        hidden = units()
        deaths = _killed(hidden, wider, killed) if hidden is not None else None
        if not branch.arms:
            return _ruined(rewind, branch) or deaths or Skipped(branch.reason)
        if isnan(branch.achieved):
            return deaths or Skipped(
                "what the outputs are worth is not known for this likelihood, so no gain can be weighed"
            )
        found = _ruined(rewind, branch) or deaths or _restless(branch)
        return _by_heart(found, test) or found

    @staticmethod
    def specimen() -> Subject:
        return Patient(lr=0.2, steps=400).train()
