"""OBJ02: see the page of the same name."""

from __future__ import annotations

import math

from torch import Tensor

from whyvae.probes.balance import FOUR, Balance
from whyvae.probes.objective import Objective
from whyvae.rule import EARLIER, Rule
from whyvae.rules.objective.weight import harm_heavy, harm_light
from whyvae.testing import Patient, kl
from whyvae.verdict import Evidence, Finding, Healthy, Limit, Remedy, Verdict
from whyvae.watch.subject import Subject

MISMATCH = Limit(">", 1.5, "reduced alike, the factor is 1")
NEARER = Limit(
    ">",
    4,
    "the factor a calibrated variance may be off by without visible harm is about 2 on either side (Rybkin et al. 2021)",
)


def _averaged(output: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    return (output - x).pow(2).mean() + kl(mu, logvar) / x.shape[0]


def _counted(batch: float, examples: int) -> str:
    return f" ({examples} of it for the examples in a batch)" if abs(math.log(batch)) > math.log(MISMATCH.value) else ""


def _summed(objective: Objective) -> str:
    loss = "mse_loss"
    if objective.of_classes:
        loss = "cross_entropy"
    elif objective.bernoulli:
        loss = "binary_cross_entropy_with_logits" if objective.family.endswith("logits") else "binary_cross_entropy"
    return f"F.{loss}(out, x, reduction='sum')"


class ReductionMismatch(Rule):
    """Reconstruction and KL are reduced differently, so the KL weight is off by a dimension."""

    code = "OBJ02"
    each_part = True
    stage = 20
    requires = EARLIER
    explains = ("POS01",)

    @staticmethod
    def check(objective: Objective, balance: Balance) -> Verdict:
        whole = objective.reductions.ratio
        batch = objective.batch**objective.batch_power  # a batch alone that one term is averaged over is OBJ06
        ratio = whole / batch
        heavy = ratio > 1
        off = max(ratio, 1 / ratio)
        mended = balance.s / whole  # both terms reduced alike, the user's own factor kept
        harmed = balance.too_heavy if heavy else balance.too_light
        # a heavy KL also raises the error of the model that it made: what a linear one reaches bounds it from above.
        # It raises that of no number by more than s (reverse water-filling), so a far larger error is not its work.
        fit = balance.reachable if heavy and balance.s * FOUR >= balance.fitting else balance.fitting
        fit = balance.fitting if math.isnan(fit) else fit
        nearer = abs(math.log(balance.s / fit)) - abs(math.log(mended / fit))
        counted = Evidence(
            "numbers the reconstruction is averaged over, against the KL"
            if heavy
            else "numbers the KL is averaged over, against the reconstruction",
            off,
            MISMATCH,
        )
        explained = Evidence(
            "factor by which reducing both alike brings the weight nearer to what fits",
            math.exp(nearer),
            NEARER,
        )
        evidence = (counted, harm_heavy(objective, balance) if heavy else harm_light(balance))
        if not counted.incriminating or not (explained.incriminating or (harmed and objective.mostly_reductions)):
            return Healthy(evidence)
        term, other = ("reconstruction", "KL") if heavy else ("KL", "reconstruction")
        return Finding(
            evidence if harmed else (counted, explained),
            f"The {term} is averaged where the {other} is summed: the KL weighs {max(whole, 1 / whole):.4g} times "
            f"{'more' if heavy else 'less'} than in the ELBO{_counted(batch, objective.batch)}, "
            f"as if the data had a noise variance of {balance.s:.3g}.",
            "error" if harmed else "warning",
            0.99,
            objective.likelihood_at if heavy else objective.regulariser_at,
            nats=balance.nats_lost or None,
            remedies=(
                Remedy(
                    "sum over features",
                    f"recon = {_summed(objective)} / len(x); kl = kl.sum(1).mean(): "
                    "sum over features and latents, average over examples only",
                ),
            ),
        )

    @staticmethod
    def specimen() -> Subject:
        return Patient(loss=_averaged).train()
