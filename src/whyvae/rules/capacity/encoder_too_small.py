"""CAP01: see the page of the same name."""

from __future__ import annotations

from math import isnan
from statistics import NormalDist

from torch import Tensor

from whyvae.probes.amortisation import Amortisation
from whyvae.rule import EARLIER, Rule
from whyvae.testing import Patient, digits, kl
from whyvae.verdict import Evidence, Finding, Healthy, Limit, Remedy, Verdict
from whyvae.watch.subject import Subject

MATERIAL = Limit(
    ">",
    2.0,
    "nats; well-fitted encoders of small models lose 1.1 to 1.3 (Cremer et al. 2018, and planted faults in small models)",
)
WASTED = Limit(
    ">",
    0.5,
    "half of what the code carries: fitted encoders lose 5 % (MNIST, Cremer et al. 2018) to 30 % of it "
    "(digits of the test panel), encoders that are too small 90 % and more",
)


def _share(gap: float, amortisation: Amortisation) -> float:
    return gap / max(amortisation.rate, 1e-9)


def _sure(amortisation: Amortisation) -> float:
    """Probability that the gap exceeds its limit, from its standard error."""
    limit = max(MATERIAL.value, WASTED.value * amortisation.rate)
    z = (amortisation.own - limit) / max(amortisation.error, 1e-9)
    return min(0.99, NormalDist().cdf(z))


def _fitting(output: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    return ((output - x).pow(2).sum() / (2 * 0.02) + kl(mu, logvar)) / x.shape[0]


class EncoderTooSmall(Rule):
    """The posterior found by the encoder is far from the best one the decoder allows."""

    code = "CAP01"
    stage = 50
    requires = EARLIER
    explains = ("GEN01",)

    @staticmethod
    def check(amortisation: Amortisation) -> Verdict:
        gap = Evidence(
            "nats per example gained by fitting each example's own posterior, decoder frozen",
            amortisation.own,
            MATERIAL,
            unit="nats",
        )
        share = Evidence(
            "that gain, as a share of the nats the code carries", _share(amortisation.own, amortisation), WASTED
        )
        if not (gap.incriminating and share.incriminating):
            return Healthy((gap, share))
        tried = not isnan(amortisation.own_after_training)
        rest = Evidence(
            "the same share on other examples, after training the encoder alone",
            _share(amortisation.own_after_training, amortisation),
            WASTED,
        )
        if tried and not rest.incriminating:
            return Healthy((gap, share, rest))  # it lags behind the decoder, it could keep up
        return Finding(
            (gap, share, *((rest,) if tried else ())),
            "The encoder cannot find the codes the decoder could use: each example's own best posterior is "
            f"{amortisation.own:.2g} nats better, and the whole code carries {amortisation.rate:.2g}.",
            "error",
            _sure(amortisation),
            nats=amortisation.gap,
            remedies=(
                Remedy(
                    "widen the encoder",
                    "several times more hidden units, or one more layer, before the mu and logvar heads",
                    "architecture",
                ),
            ),
        )

    @staticmethod
    def specimen() -> Subject:
        return Patient(data=digits(), latents=8, hidden=3, decoder_hidden=128, loss=_fitting, steps=1800).train()
