"""CAP01: see the page of the same name."""

from __future__ import annotations

from statistics import NormalDist

from torch import Tensor

from whyvae.probes.amortisation import Amortisation
from whyvae.rule import Rule
from whyvae.testing import Patient, digits, kl
from whyvae.verdict import Evidence, Finding, Healthy, Limit, Remedy, Verdict
from whyvae.watch.subject import Subject

MATERIAL = Limit(
    ">",
    2.0,
    "nats; well-fitted encoders lose 1.1 to 1.3 (theory.md 7.4; Cremer et al. 2018), encoders that are too small 3 and more",
)


def _sure(amortisation: Amortisation) -> float:
    """Probability that the gap exceeds its limit, from its standard error."""
    z = (amortisation.gap - MATERIAL.value) / max(amortisation.error, 1e-9)
    return min(0.99, NormalDist().cdf(z))


def _fitting(output: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    return ((output - x).pow(2).sum() / (2 * 0.02) + kl(mu, logvar)) / x.shape[0]


class EncoderTooSmall(Rule):
    """The posterior found by the encoder is far from the best one the decoder allows."""

    code = "CAP01"
    stage = 5
    requires = (
        "DAT01",
        "WIR05",
        "WIR04",
        "OBJ04",
        "OBJ05",
        "OBJ08",
        "OUT02",
        "OUT03",
        "POS02",
        "POS03",
        "OBJ06",
        "OBJ02",
        "OBJ01",
        "OBJ03",
        "OUT01",
        "DAT02",
        "POS04",
        "WIR01",
        "WIR02",
    )

    @staticmethod
    def check(amortisation: Amortisation) -> Verdict:
        gap = Evidence(
            "nats per example gained by fitting each example's own posterior, decoder frozen",
            amortisation.gap,
            MATERIAL,
            unit="nats",
        )
        if not gap.incriminating:
            return Healthy((gap,))
        rest = Evidence(
            "nats still missing on other examples after training the encoder alone",
            amortisation.after_training,
            MATERIAL,
            unit="nats",
        )
        if amortisation.after_training == amortisation.after_training and not rest.incriminating:
            return Healthy((gap, rest))
        held = (
            ""
            if amortisation.gap_held_out != amortisation.gap_held_out
            else f" ({amortisation.gap_held_out:.2g} on held-out data)"
        )
        return Finding(
            (gap, *((rest,) if amortisation.after_training == amortisation.after_training else ())),
            f"The encoder cannot find the codes the decoder could use: each example's own best posterior is {amortisation.gap:.2g} nats better{held}.",
            "error" if amortisation.gap > amortisation.rate / 4 else "warning",
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
