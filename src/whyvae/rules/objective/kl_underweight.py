"""OBJ03: see the page of the same name."""

from __future__ import annotations

from math import isnan

from torch import Tensor, nn

from whyvae.probes.balance import LICENCE, Balance
from whyvae.probes.objective import Objective
from whyvae.probes.use import LatentUse
from whyvae.rule import EARLIER, Rule
from whyvae.rules.objective.weight import harm_light
from whyvae.testing import Patient, kl, squared_error
from whyvae.verdict import Evidence, Finding, Healthy, Limit, Remedy, Severity, Skipped, Verdict
from whyvae.watch.subject import Subject


def _light(output: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    return (squared_error(output, x) + 1e-4 * kl(mu, logvar)) / x.shape[0]


MOSTLY = Limit(
    ">",
    0.5,
    "more than half of the draws ask the decoder for what it was never trained on (samples cannot be compared with the data "
    "here); 0.01 where the encodings are N(0, I)",
)
_BROKEN = (
    "The KL weighs too little: encodings have left N(0, I) (by {gap:.2g} nats in mean and covariance alone), so draws from "
    "it decode to garbage although reconstructions are good."
)
_BY_DESIGN = (
    "The KL weighs too little to draw from N(0, I). This is by design where a second model (latent diffusion) draws the "
    "latent map {shape}, as it looks here: the map is large, and the script never decodes a draw. If you mean to draw "
    "from N(0, I), it is a fault."
)
_DRAWN_ELSEWHERE = (
    "The KL weighs too little to draw from N(0, I). This is by design where new latents are drawn from a density fitted to the "
    "encodings, as this script draws them."
)


def _told(use: LatentUse, gap: float) -> tuple[str, Severity]:
    if use.for_another_model:
        return _BY_DESIGN.format(shape=list(use.shape)), "info"
    return (_DRAWN_ELSEWHERE, "info") if use.from_encodings else (_BROKEN.format(gap=gap), "error")


class KLUnderweight(Rule):
    """The KL weighs too little for N(0, I), the prior, to be covered by the encodings."""

    code = "OBJ03"
    stage = 48
    requires = EARLIER
    explains = ("GEN01",)

    @staticmethod
    def check(objective: Objective, balance: Balance, use: LatentUse) -> Verdict:
        if balance.excess_unknown and (balance.scale_fits(objective) or not balance.licensed):
            return Healthy()
        if balance.excess_unknown and isnan(balance.hole):
            return Skipped(balance.excess_unknown)
        unseen = Evidence("share of N(0, I) where no encoding lies", balance.hole, MOSTLY)
        evidence = (unseen if balance.excess_unknown else harm_light(balance),)
        if not evidence[0].incriminating or not balance.licensed or balance.scale_fits(objective):
            return Healthy(evidence)
        extra = Evidence(
            "effective beta" if objective.own_variance else "noise variance the loss implies",
            balance.s,
            Limit(
                "<",
                LICENCE * balance.fitting,
                "1/25 of the weight that fits (1 for BCE, the residual's variance for squared errors); "
                "too small networks alone leave it above 1/15",
            ),
        )
        summary, severity = _told(use, balance.gap)
        return Finding(
            (*evidence, extra),
            summary,
            severity,
            0.9,
            objective.regulariser_at,
            remedies=(
                Remedy(
                    "weigh the KL more",
                    f"multiply the KL by about {balance.fitting / balance.s:.2g}, or let the loss choose: loss = D / 2 * log(mse) + kl",
                ),
                Remedy(
                    "sample where encodings lie",
                    "fit a Gaussian mixture to the encodings and draw from it; no retraining (a latent-diffusion autoencoder does this by design)",
                    "certain",
                ),
            ),
        )

    @staticmethod
    def specimen() -> Subject:
        # ReLUs go on in straight lines where nothing was encoded; tanh may level out there by luck
        return Patient(loss=_light, steps=1500, activation=nn.ReLU).train()
