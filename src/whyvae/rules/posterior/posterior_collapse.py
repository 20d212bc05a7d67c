"""POS01: see the page of the same name."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from whyvae.probes.latents import LatentUsage
from whyvae.rule import Rule
from whyvae.testing import Patient, kl, squared_error
from whyvae.verdict import Evidence, Finding, Healthy, Limit, Remedy, Verdict
from whyvae.watch.subject import Subject

BIT = Limit(
    "<",
    0.693,
    "one bit (log 2 nats): below it the code cannot tell even two kinds of examples apart",
)


def _heavy(output: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    return (squared_error(output, x) + 1000 * kl(mu, logvar)) / x.shape[0]


class PosteriorCollapse(Rule):
    """Most latent units carry nothing about the input."""

    code = "POS01"
    kind = "symptom"
    stage = 90
    requires = ("DAT01", "TRN01")
    beside: ClassVar = {"OBJ01": "a collapsed posterior needs a cause; the smallest is a heavy KL"}

    @staticmethod
    def check(usage: LatentUsage) -> Verdict:
        evidence = (
            Evidence(
                "nats of information in the whole latent code, per example",
                usage.information,
                BIT,
                unit="nats",
            ),
        )
        if not evidence[0].incriminating:
            return Healthy(evidence)
        return Finding(
            evidence,
            f"The latent code is all but empty: {usage.information:.2g} nats per example in {usage.units} units, so every z decodes to nearly the same.",
            "error",
            0.99,
            remedies=(
                Remedy(
                    "find the cause",
                    "collapse is a symptom: weight, reductions, wiring or the decoder cause it (whyvae explain POS01)",
                ),
            ),
        )

    @staticmethod
    def specimen() -> Subject:
        return Patient(loss=_heavy).train()
