"""POS03: see the page of the same name."""

from __future__ import annotations

import torch
from torch import Tensor

from whyvae.probes.latents import LatentUsage
from whyvae.probes.noise import Noise
from whyvae.probes.objective import Objective
from whyvae.rule import EXACT, Rule
from whyvae.testing import Patient
from whyvae.verdict import Evidence, Finding, Healthy, Limit, Remedy, Skipped, Verdict
from whyvae.watch.draws import DIAGONAL, NOT_GAUSSIAN
from whyvae.watch.subject import Subject

NEGATIVE = Limit(">", 0, "a standard deviation is positive")
SHARED = Limit(">", 0, "each latent of each example needs a draw of its own")
ANEW = Limit(">", 1, "noise is drawn anew in each step; two draws of normal numbers are never the same")
SCALED = Limit(">", 0, "the KL must be that of the posterior that is sampled")


def _finding(evidence: Evidence, summary: str, noise: Noise) -> Finding:
    how = "z = mu + torch.randn_like(mu) * torch.exp(0.5 * logvar): standard normal noise of z's shape, drawn in the step, times the standard deviation"
    return Finding(
        (evidence,),
        summary,
        "error",
        0.99,
        noise.at,
        remedies=(Remedy("draw N(0, 1) noise", how, "certain"),),
    )


def _uniform(mu: Tensor, logvar: Tensor) -> Tensor:
    return mu + torch.rand_like(mu) * torch.exp(0.5 * logvar)


class NoiseWrong(Rule):
    """The noise is not N(0, sigma^2): it is uniform, shared, rescaled or scaled by the variance."""

    code = "POS03"
    stage = EXACT
    requires = ("DAT01", "POS02")
    explains = ("POS01",)

    @staticmethod
    def check(noise: Noise, usage: LatentUsage, objective: Objective) -> Verdict:
        if noise.count == 0:
            return Skipped("does not apply: no noise is drawn")
        if objective.posterior.startswith(NOT_GAUSSIAN):
            return Skipped(f"does not apply: z is no noise that is scaled and shifted ({objective.posterior})")
        normal = Evidence(
            "distance of the drawn noise from N(0, 1) (Kolmogorov-Smirnov)",
            noise.kolmogorov,
            Limit(
                ">",
                noise.critical,
                "exceeded once in a million by true N(0, 1) noise of this many draws",
            ),
        )
        if noise.shared:
            return _finding(
                Evidence("shared noise", 1, SHARED, text=noise.shared),
                "The same noise is used for many latents or examples: z of one example tells of another's, and the KL does not know.",
                noise,
            )
        if noise.repeated:
            return _finding(
                Evidence("recorded steps that were given the very same noise", noise.repeated, ANEW),
                "Every training step is given the same noise: it was drawn once, or the stream is seeded again in the step. The "
                "decoder learns these few draws, and samples are others.",
                noise,
            )
        if usage.negative_sigma > 0 and objective.posterior == DIAGONAL:  # below a diagonal any sign is right
            return _finding(
                Evidence(
                    "share of latents whose noise scale is negative",
                    usage.negative_sigma,
                    NEGATIVE,
                ),
                "The noise is multiplied by something that can be negative, as a log-variance is: it is no standard deviation.",
                noise,
            )
        if noise.uniform or normal.incriminating:
            kind = "uniform" if noise.uniform else f"not N(0, 1) (mean {noise.mean:.2g}, sd {noise.sd:.2g})"
            return _finding(
                normal,
                f"The noise of the reparametrisation is {kind}: the KL assumes a Gaussian posterior.",
                noise,
            )
        if objective.sampling_mistake:
            return _finding(
                Evidence("noise scale against the KL's sigma", 1, SCALED, text=objective.sampling_mistake),
                f"z is sampled with another spread than the KL is computed for: {objective.sampling_mistake}.",
                noise,
            )
        return Healthy((normal,))

    @staticmethod
    def specimen() -> Subject:
        return Patient(sample=_uniform, steps=300).train()
