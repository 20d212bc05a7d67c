"""CAP01: see the page of the same name."""

from __future__ import annotations

from whyvae.probe import OnDemand
from whyvae.probes.straight import Straight
from whyvae.probes.units import HiddenUnits
from whyvae.probes.wider import WiderBlocks
from whyvae.probes.widths import Widths
from whyvae.rule import EARLIER, Rule
from whyvae.rules.capacity.blocks import judged
from whyvae.testing import Patient, digits, fitting
from whyvae.verdict import Remedy, Verdict
from whyvae.watch.subject import Subject

WIDEN = Remedy(
    "widen the encoder",
    "several times more hidden units, or one more layer, before the mu and logvar heads",
    "architecture",
)


class EncoderTooSmall(Rule):
    """The posterior found by the encoder is far from the best one the decoder allows."""

    code = "CAP01"
    stage = 50
    requires = EARLIER
    explains = ("GEN01",)

    @staticmethod
    def check(
        wider: WiderBlocks, widths: Widths, units: OnDemand[HiddenUnits], straight: OnDemand[Straight]
    ) -> Verdict:
        return judged("encoder", wider, widths, units, straight, WIDEN)

    @staticmethod
    def specimen() -> Subject:
        return Patient(data=digits(), latents=8, hidden=3, decoder_hidden=128, loss=fitting, steps=1800).train()
