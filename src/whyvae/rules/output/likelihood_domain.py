"""OUT02: see the page of the same name."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from whyvae.probes.data import Data
from whyvae.probes.objective import Objective
from whyvae.rule import EXACT, Rule
from whyvae.testing import Patient, kl
from whyvae.verdict import Evidence, Finding, Healthy, Limit, Remedy, Skipped, Verdict
from whyvae.watch.subject import Subject

HIGH = Limit(
    ">",
    1 + 1e-6,
    "binary cross-entropy is a likelihood on [0, 1]; above it the loss has no lower end",
)
LOW = Limit("<", -1e-6, "binary cross-entropy is a likelihood on [0, 1]; below it the loss has no lower end")
NEGATIVE = Limit("<", -1e-6, "a Poisson likelihood is one of counts; below 0 the loss has no lower end")


def _bce(output: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    return (F.binary_cross_entropy_with_logits(output, x, reduction="sum") + kl(mu, logvar)) / x.shape[0]


class LikelihoodDomain(Rule):
    """The data lies outside the range on which the likelihood is defined."""

    code = "OUT02"
    stage = EXACT
    each_part = True
    requires = ("DAT01",)
    explains = ("TRN01", "POS01")

    @staticmethod
    def check(data: Data, objective: Objective) -> Verdict:
        if objective.family.startswith("poisson"):
            return _counts(data, objective)
        if not (
            objective.bernoulli
            or objective.loss_function.startswith("binary_cross_entropy")
            or objective.family == "swapped bernoulli"
        ):
            return Skipped("does not apply: the likelihood is defined for every number")
        evidence = (
            Evidence("largest target", data.target_high, HIGH),
            Evidence("smallest target", data.target_low, LOW),
        )
        guilty = tuple(e for e in evidence if e.incriminating)
        if not guilty:
            return Healthy(evidence)
        return Finding(
            guilty,
            f"Binary cross-entropy is given targets from {data.target_low:.4g} to {data.target_high:.4g}, outside [0, 1]: the loss falls without end and outputs saturate.",
            "error",
            0.99,
            objective.likelihood_at,
            remedies=(
                Remedy(
                    "scale the data to [0, 1]",
                    f"x = (x - {data.target_low:.4g}) / {data.target_high - data.target_low:.4g}",
                ),
                Remedy(
                    "use a Gaussian likelihood",
                    "F.mse_loss(out, x, reduction='sum') and no sigmoid at the output",
                    "architecture",
                ),
            ),
        )

    @staticmethod
    def specimen() -> Subject:
        return Patient(loss=_bce, steps=200).train()


def _counts(data: Data, objective: Objective) -> Verdict:
    evidence = Evidence("smallest target", data.target_low, NEGATIVE)
    if not evidence.incriminating:
        return Healthy((evidence,))
    return Finding(
        (evidence,),
        f"A Poisson likelihood is given targets from {data.target_low:.4g} to {data.target_high:.4g}, and counts are never negative: "
        "the loss falls without end as rates go to 0.",
        "error",
        0.99,
        objective.likelihood_at,
        remedies=(
            Remedy(
                "give it the counts",
                "the loss compares with the raw counts; what is scaled or centred goes to the encoder alone",
            ),
            Remedy(
                "use a Gaussian likelihood",
                "F.mse_loss(out, x, reduction='sum') for data that are scaled or centred",
                "architecture",
            ),
        ),
    )
