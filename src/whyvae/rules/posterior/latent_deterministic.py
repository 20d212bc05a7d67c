"""POS02: see the page of the same name."""

from __future__ import annotations

from torch import Tensor

from whyvae.probes.noise import Noise
from whyvae.rule import EXACT, Rule
from whyvae.testing import Patient
from whyvae.verdict import Evidence, Finding, Healthy, Limit, Remedy, Verdict
from whyvae.watch.subject import Subject

DRAWN = Limit(
    "<",
    1,
    "without noise the KL is paid for nothing: neighbours of an encoding are never decoded, so draws from N(0, I) land in untrained space",
)


def _mean(mu: Tensor, logvar: Tensor) -> Tensor:
    return mu


class LatentDeterministic(Rule):
    """No noise is sampled in training."""

    code = "POS02"
    stage = EXACT
    requires = ("DAT01",)

    @staticmethod
    def check(noise: Noise) -> Verdict:
        drawn = noise.drawn_by != ""
        text = (
            f"z is made with noise from `{noise.drawn_by}`"
            if drawn
            else "nothing random enters z on a training step, though the loss has a KL"
        )
        evidence = (Evidence("noise in z", float(drawn), DRAWN, text=text),)
        if drawn:
            return Healthy(evidence)
        return Finding(
            evidence,
            "No noise is sampled in training: the decoder only ever sees mu, so this is an autoencoder with a penalty.",
            "error",
            0.99,
            noise.at,
            remedies=(
                Remedy(
                    "sample z",
                    "z = mu + torch.randn_like(mu) * torch.exp(0.5 * logvar) while training",
                    "certain",
                ),
            ),
        )

    @staticmethod
    def specimen() -> Subject:
        return Patient(sample=_mean, steps=300).train()
