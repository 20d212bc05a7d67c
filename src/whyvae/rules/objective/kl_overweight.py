"""OBJ01: see the page of the same name."""

from __future__ import annotations

from torch import Tensor

from whyvae.probes.balance import Balance
from whyvae.probes.objective import Objective
from whyvae.rule import EARLIER, Rule
from whyvae.rules.objective.weight import harm_heavy
from whyvae.testing import Patient, kl, squared_error
from whyvae.verdict import Evidence, Finding, Healthy, Limit, Remedy, Verdict
from whyvae.watch.subject import Subject


def _heavy(output: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    return (squared_error(output, x) + 400 * kl(mu, logvar)) / x.shape[0]


class KLOverweight(Rule):
    """The KL weighs more than the data can pay for: its weight is too high or has no warm-up."""

    code = "OBJ01"
    stage = 30
    requires = EARLIER
    explains = ("POS01",)

    @staticmethod
    def check(objective: Objective, balance: Balance) -> Verdict:
        evidence = (harm_heavy(objective, balance),)
        if not balance.too_heavy or balance.scale_fits(objective):
            return Healthy(evidence)
        fitting = f"{balance.fitting / balance.s:.2g} times its present weight"
        extra = Evidence(
            "effective beta" if objective.own_variance else "noise variance the loss implies",
            balance.s,
            Limit(
                ">",
                balance.fitting,
                "1: the ELBO itself"
                if objective.own_variance
                else "mean squared error of this model: the variance that fits",
            ),
        )
        return Finding(
            (*evidence, extra),
            "The KL weighs more than the data can pay for: ignoring the input is cheaper than describing it."
            if balance.collapse_predicted
            else "The KL is too heavy: reconstructions and samples lose more of the data than they keep.",
            "error",
            0.99 if balance.collapse_predicted else 0.9,
            objective.regulariser_at,
            nats=balance.nats_lost or None,
            remedies=(
                Remedy(
                    "weigh the KL less",
                    f"multiply the KL by {fitting}, or let the loss choose: loss = D / 2 * log(mse) + kl",
                ),
                Remedy(
                    "warm the KL up",
                    "raise the weight from 0 over the first third of training (helps only below the collapse threshold)",
                ),
            ),
        )

    @staticmethod
    def specimen() -> Subject:
        return Patient(loss=_heavy).train()
