"""OBJ07: see the page of the same name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import count
from math import isinf

from torch import Tensor

from whyvae.probes.balance import Balance
from whyvae.probes.objective import Objective
from whyvae.probes.schedule import Schedule
from whyvae.rule import EARLIER, Rule
from whyvae.rules.objective.weight import harm_heavy, harm_light
from whyvae.testing import Patient, kl, squared_error
from whyvae.verdict import Evidence, Finding, Healthy, Limit, Remedy, Verdict
from whyvae.watch.subject import Subject

MOVING = 1.1
RISING = Limit(
    ">",
    MOVING,
    "a schedule that has arrived keeps its weight; a straight ramp from 0 gains a factor 1.5 in its last third",
)
FALLING = Limit("<", 1 / MOVING, "a schedule that has arrived keeps its weight")


class ScheduleNeverArrives(Rule):
    """An annealed weight never reaches its end in this run."""

    code = "OBJ07"
    stage = 25
    requires = EARLIER
    explains = ("POS01",)

    @staticmethod
    def check(schedule: Schedule, objective: Objective, balance: Balance) -> Verdict:
        rising = Evidence(
            "weight of the KL at the end of the run, over that at two thirds of it", schedule.late_change, RISING
        )
        falling = Evidence(rising.what, schedule.late_change, FALLING)
        if falling.incriminating and schedule.lowest >= schedule.last / MOVING and balance.too_heavy:
            return _found(schedule, objective, balance, (falling, harm_heavy(objective, balance)), "falling", "heavy")
        back = schedule.highest > MOVING * schedule.last  # a cycle: it was higher before
        if not rising.incriminating or back or schedule.arrived:
            return Healthy((rising,))
        low = Evidence(
            "effective beta" if objective.own_variance else "noise variance the loss implies",
            schedule.at_end,
            Limit(
                "<", balance.fitting / 2, "half of what fits (1 for BCE, the residual's variance for squared errors)"
            ),
        )
        harm = harm_light(balance)
        seen = (rising, low) if balance.excess_unknown else (rising, low, harm)
        if low.incriminating and harm.incriminating:
            return _found(schedule, objective, balance, seen, "rising", "light")
        if low.incriminating:  # samples may do without it: this is still not the model that was asked for
            return replace(
                _found(schedule, objective, balance, (rising, low), "rising", "light"), severity="warning", nats=None
            )
        return Healthy(seen)

    @staticmethod
    def specimen() -> Subject:
        return Patient(loss=_slow_warm_up(), steps=1500).train()


def _slow_warm_up() -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]:
    steps = count()

    def loss(output: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
        return (squared_error(output, x) + min(1.0, next(steps) / 1e6) * kl(mu, logvar)) / x.shape[0]

    return loss


def _found(
    schedule: Schedule, objective: Objective, balance: Balance, evidence: tuple[Evidence, ...], way: str, still: str
) -> Finding:
    left = schedule.steps_until(balance.fitting)
    pace = (
        ""
        if isinf(left)
        else f"; at this pace a fitting weight is {left:,.0f} steps away, and the run had {schedule.count:,}"
    )
    return Finding(
        evidence,
        f"The KL weight is still {way} when the run ends, and too {still} for this data{pace}: the schedule is longer than "
        "the training.",
        "error" if still == "heavy" or balance.licensed else "warning",
        0.9,
        objective.regulariser_at,
        nats=balance.nats_lost or None,
        remedies=(
            Remedy(
                "let the schedule arrive",
                "count it in steps of this run: beta = beta_end * min(1, step / (0.3 * total_steps)); check whether it "
                "counts steps or epochs",
            ),
        ),
    )
