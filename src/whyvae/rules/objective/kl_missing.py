"""OBJ04: see the page of the same name."""

from __future__ import annotations

from torch import Tensor

from whyvae.probes.objective import Objective
from whyvae.rule import EXACT, Rule
from whyvae.testing import Patient, squared_error
from whyvae.verdict import Evidence, Finding, Healthy, Limit, Remedy, Skipped, Verdict
from whyvae.watch.subject import Subject

NONE = Limit(
    "<",
    1,
    "a KL that has no gradient regularises nothing: the encodings go wherever the reconstruction is easiest",
)


def _alone(output: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    return squared_error(output, x) / x.shape[0]


class KLMissing(Rule):
    """No KL gradient reaches the posterior: its weight is 0, or it is detached or misplaced."""

    code = "OBJ04"
    stage = EXACT
    requires = ("DAT01", "POS02")
    explains = ("GEN01",)

    @staticmethod
    def check(objective: Objective) -> Verdict:
        form = objective.regulariser.form
        if objective.not_auditable:
            return Skipped(objective.not_auditable)
        missing = form == "none"
        text = (
            "with the heads moved at random, the loss has no gradient to mu or sigma but through z"
            if missing
            else "the loss has a gradient to mu and sigma of its own"
        )
        evidence = (Evidence("KL gradient at the heads", float(not missing), NONE, text=text),)
        if not missing:
            return Healthy(evidence)
        return Finding(
            evidence,
            "No KL reaches the posterior (weight 0, detached, or computed on something else): this trains a plain autoencoder, and N(0, I) was never covered.",
            "error",
            0.99,
            objective.likelihood_at,
            remedies=(
                Remedy(
                    "add the KL",
                    "loss = reconstruction + kl, kl = -0.5 * (1 + logvar - mu.pow(2) - logvar.exp()).sum(1).mean(), not detached, no .item()",
                    "certain",
                ),
            ),
        )

    @staticmethod
    def specimen() -> Subject:
        return Patient(loss=_alone, steps=400).train()
