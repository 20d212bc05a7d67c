"""OBJ06: see the page of the same name."""

from __future__ import annotations

import math

from torch import Tensor

from whyvae.probes.objective import Objective
from whyvae.rule import EARLIER, Rule
from whyvae.testing import Patient, kl, squared_error
from whyvae.verdict import Evidence, Finding, Healthy, Limit, Remedy, Skipped, Verdict
from whyvae.watch.subject import Subject

SAME = Limit(
    ">",
    0.1,
    "the ELBO is a sum over examples: how its terms weigh cannot depend on how many stand in a batch",
)

ESTIMATED = Limit(
    ">",
    0.5,
    "the noise variance is read off the residuals of this very batch, and halves of a batch differ by chance; a reduction that was forgotten moves it by 1",
)


def _summed_kl(output: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    return squared_error(output, x) / x.shape[0] + kl(mu, logvar)


class BatchDependentBalance(Rule):
    """The balance of reconstruction and KL changes with the batch size."""

    code = "OBJ06"
    stage = 20
    requires = EARLIER
    explains = ("POS01",)

    @staticmethod
    def check(objective: Objective) -> Verdict:
        by_pull = objective.family == "unknown" and objective.regulariser.weighed and not objective.not_auditable
        if not objective.weight_known and not by_pull:
            return Skipped(objective.not_auditable or "the weight of the KL is not known")
        ratio = objective.noise_variance_half_batch / objective.noise_variance
        if math.isnan(ratio):
            return Skipped("does not apply: the step could not be replayed with half its batch")
        evidence = (
            Evidence(
                "change of the implied noise variance when the batch is halved (factor, in powers of two)",
                abs(math.log2(ratio)),
                ESTIMATED if objective.learned_scale or objective.family in {"error", "density"} else SAME,
            ),
        )
        if not evidence[0].incriminating:
            return Healthy(evidence)
        grows = ratio < 1
        return Finding(
            evidence,
            f"The balance of reconstruction and KL depends on the batch size: half the batch makes the KL {'half' if grows else 'twice'} as heavy (one term is averaged over the batch, the other summed).",
            "warning",
            0.99,
            objective.regulariser_at,
            remedies=(
                Remedy(
                    "reduce both alike",
                    "sum each term over features or latents, and average both over the batch: recon.sum(1).mean() + kl.sum(1).mean()",
                    "certain",
                ),
            ),
        )

    @staticmethod
    def specimen() -> Subject:
        return Patient(loss=_summed_kl).train()
