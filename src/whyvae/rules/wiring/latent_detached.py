"""WIR05: see the page of the same name."""

from __future__ import annotations

from torch import Tensor

from whyvae.probes.wiring import Wiring
from whyvae.rule import EXACT, Rule
from whyvae.testing import Patient, reparametrise
from whyvae.verdict import Evidence, Finding, Healthy, Limit, Remedy, Skipped, Verdict
from whyvae.watch.subject import Subject

REACHES = Limit("<", 1, "without this gradient nothing tells the encoder what the decoder needs")


def _detached(mu: Tensor, logvar: Tensor) -> Tensor:
    return reparametrise(mu, logvar).detach()


class LatentDetached(Rule):
    """The reconstruction gradient never reaches the encoder."""

    code = "WIR05"
    stage = EXACT
    requires = ("DAT01",)
    explains = ("POS01",)

    @staticmethod
    def check(wiring: Wiring) -> Verdict:
        reaches = wiring.reconstruction_reaches_encoder
        seen = (
            "the decoder's gradient at z reaches mu and sigma"
            if reaches
            else "the decoder's gradient at z stops there: mu and sigma get none of it"
        )
        evidence = (Evidence("gradient from z to the encoder", float(reaches), REACHES, text=seen),)
        if wiring.output_depends_on_latent == 0:
            return Skipped("does not apply: the output does not depend on the encoder here")
        if reaches:
            return Healthy(evidence)
        return Finding(
            evidence,
            "z is cut off from the encoder (`.sample()`, `.detach()`, `.data` or `no_grad`): the encoder learns nothing from the reconstruction.",
            "error",
            0.99,
            wiring.latent_at,
            remedies=(
                Remedy(
                    "reparametrise",
                    "z = mu + std * torch.randn_like(std), or q.rsample() instead of q.sample(), outside no_grad",
                    "certain",
                ),
            ),
        )

    @staticmethod
    def specimen() -> Subject:
        return Patient(sample=_detached, steps=300).train()
