"""POS04: see the page of the same name."""

from __future__ import annotations

from math import exp

import torch
from torch import Tensor

from whyvae.probes.heads import Heads
from whyvae.rule import Rule
from whyvae.testing import Patient
from whyvae.verdict import Evidence, Finding, Healthy, Limit, Remedy, Verdict
from whyvae.watch.subject import Subject

REACH_LOW = Limit(
    ">",
    -2.5,
    "N(0, 1) has its mass between -2.5 and 2.5 (99 %): encodings must be able to go there",
)
REACH_HIGH = Limit("<", 2.5, "N(0, 1) has its mass between -2.5 and 2.5 (99 %): encodings must be able to go there")
NARROW = Limit(
    ">",
    0.2,
    "a unit that carries R nats needs sigma = exp(-R): a floor of 0.2 caps every unit at 1.6 nats",
)
WIDE = Limit("<", 0.95, "a unit that carries nothing needs sigma = 1, the prior's")


def _relu(mu: Tensor, logvar: Tensor) -> tuple[Tensor, Tensor]:
    return mu, torch.relu(logvar)


class HeadConstrained(Rule):
    """An activation or clamp keeps the mean or log-variance from values they need."""

    code = "POS04"
    stage = 21
    requires = ("DAT01", "WIR05", "POS02")
    explains = ("POS01",)

    @staticmethod
    def check(heads: Heads) -> Verdict:
        low, high = exp(min(heads.log_sigma_low, 50)), exp(min(heads.log_sigma_high, 50))
        evidence = (
            Evidence("lowest value mu can take", heads.mu_low, REACH_LOW),
            Evidence("highest value mu can take", heads.mu_high, REACH_HIGH),
            *(
                ()
                if heads.log_sigma_high - heads.log_sigma_low < 1e-9
                else (
                    Evidence("smallest sigma the head can give", low, NARROW),
                    Evidence("largest sigma the head can give", high, WIDE),
                )
            ),
        )
        guilty = tuple(e for e in evidence if e.incriminating)
        if not guilty:
            return Healthy(evidence)
        of_mu = guilty[0].limit in (REACH_LOW, REACH_HIGH)
        op, at = (heads.mu_op, heads.mu_at) if of_mu else (heads.log_sigma_op, heads.log_sigma_at)
        fenced = (
            f"mu to [{heads.mu_low:.3g}, {heads.mu_high:.3g}]"
            if of_mu
            else f"sigma to [{low:.3g}, {min(high, 999):.3g}]"
        )
        return Finding(
            guilty,
            f"{f'`{op}`' if op else 'An activation'} on the {'mu' if of_mu else 'log-variance'} head confines {fenced}: the posterior cannot be what the data needs.",
            "error",
            0.95,
            at,
            remedies=(
                Remedy(
                    "free the head",
                    "no activation after the last linear layer of mu and logvar (clamp logvar to [-10, 10] if it must be bounded)",
                    "architecture",
                ),
            ),
        )

    @staticmethod
    def specimen() -> Subject:
        return Patient(heads=_relu).train()
