"""GEN01: see the page of the same name."""

from __future__ import annotations

from math import isnan
from typing import ClassVar

from torch import Tensor

from whyvae.probes.balance import FAR
from whyvae.probes.generation import HALF, RARE, Ladder
from whyvae.probes.objective import Objective
from whyvae.probes.use import LatentUse
from whyvae.rule import EARLIER, Rule
from whyvae.score import MATERIAL, SAYS
from whyvae.testing import Patient, digits, kl
from whyvae.verdict import Evidence, Finding, Healthy, Limit, Remedy, Skipped, Verdict
from whyvae.watch.draws import GAUSSIAN
from whyvae.watch.subject import Subject

NONE = Limit(">", RARE, "what encodings of other examples have, by construction")
REACH = Limit(
    "<",
    MATERIAL,
    "else the samples lie among real examples, and real examples among them: they are more blurred, not misplaced",
)
FURTHER = Limit(
    ">", FAR, "a twentieth of the data's variance, 5 times what 500 real examples are apart from 500 others"
)


def _place(ladder: Ladder) -> Limit:
    """On the share of quality that the place of the draws leaves: all other faults leave that of the fitted density."""
    return Limit(
        "<",
        min(HALF, ladder.fitted.quality),
        "half, or what is left of real examples' quality where encodings lie, if that is less: then the place of the draws "
        "costs more than all other faults",
    )


def _light(output: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    return ((output - x).square().sum() + 2e-4 * kl(mu, logvar)) / x.shape[0]


class PriorHole(Rule):
    """The prior puts mass where no encoding lies, and samples from there are bad."""

    code = "GEN01"
    kind = "symptom"
    stage = 80
    requires = EARLIER
    beside: ClassVar = {"OBJ03": "a hole needs a cause; the smallest is a light KL"}

    @staticmethod
    def check(objective: Objective, use: LatentUse, ladder: Ladder) -> Verdict:
        if objective.posterior not in GAUSSIAN or objective.regulariser.own_prior:
            return Skipped("does not apply: N(0, I) is not the prior of this model")
        if objective.not_auditable:
            return Skipped(
                "it is not known whether N(0, I) is the prior: "
                + objective.not_auditable.removeprefix("does not apply: ")
            )
        if use.for_another_model:
            return Skipped("does not apply: a latent map this large is drawn by another model, not from N(0, I)")
        if use.from_encodings:
            return Skipped("does not apply: the script draws z from where its encodings lie, not from N(0, I)")
        hole = Evidence(
            "share of N(0, I) where no encoding lies (lower end of its 95 % interval)", ladder.hole_low, NONE
        )
        if isnan(ladder.prior_quality):
            return Healthy((hole,))  # samples from where encodings lie are as bad: it is not the place
        evidence = (
            hole,
            Evidence(
                "quality of samples from N(0, I) as a share of that of samples from where encodings lie",
                ladder.prior_quality,
                _place(ladder),
            ),
            Evidence(
                "samples among real examples, or real examples that samples come near: the smaller share that draws from "
                "N(0, I) keep",
                ladder.prior_reach,
                REACH,
            ),
            Evidence(
                "squared distance from the data that drawing from N(0, I) adds, in the data's variances",
                ladder.prior_excess,
                FURTHER,
            ),
        )
        if not all(e.incriminating for e in evidence):
            return Healthy(evidence)
        return Finding(
            evidence,
            f"{ladder.hole:.0%} of N(0, I) lies where the decoder was never trained; drawn from where encodings lie, "
            f"samples are good, drawn from N(0, I) they are not: {SAYS[ladder.prior.kind()]}.",
            "error",
            0.9,
            remedies=(
                Remedy(
                    "find the cause",
                    "a hole is a symptom: a light or missing KL, or an encoder that cannot follow (whyvae explain GEN01)",
                ),
                Remedy(
                    "sample where encodings lie",
                    "fit a Gaussian mixture to the encodings and draw from it; no retraining",
                    "certain",
                ),
            ),
        )

    @staticmethod
    def specimen() -> Subject:
        return Patient(
            data=digits(), latents=10, hidden=128, decoder_hidden=128, batch=128, loss=_light, steps=900
        ).train()
