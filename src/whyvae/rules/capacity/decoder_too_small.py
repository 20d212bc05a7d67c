"""CAP02: see the page of the same name."""

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
    "widen the decoder",
    "several times more hidden units, or one more layer, between z and the output; no layer narrower than the code",
    "architecture",
)


class DecoderTooSmall(Rule):
    """Even the best latent code reconstructs badly."""

    code = "CAP02"
    stage = 50
    requires = EARLIER

    @staticmethod
    def check(
        wider: WiderBlocks, widths: Widths, units: OnDemand[HiddenUnits], straight: OnDemand[Straight]
    ) -> Verdict:
        return judged("decoder", wider, widths, units, straight, WIDEN)

    @staticmethod
    def specimen() -> Subject:
        # two units, and trained until nothing moves: an examination must not take it for one that stopped early
        return Patient(data=digits(), latents=6, hidden=128, decoder_hidden=2, loss=fitting, steps=3000).train()
