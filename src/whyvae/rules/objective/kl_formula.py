"""OBJ05: see the page of the same name."""

from __future__ import annotations

from math import isfinite

from torch import Tensor

from whyvae.probe import OnDemand
from whyvae.probes.objective import Objective
from whyvae.probes.sampling import Sampling
from whyvae.rule import EXACT, Rule
from whyvae.testing import Patient, squared_error
from whyvae.verdict import Evidence, Finding, Healthy, Limit, Remedy, Skipped, Verdict
from whyvae.watch.subject import Subject

FITS = Limit(
    ">",
    1e-3,
    "share of the gradient that no Gaussian KL explains; rounding leaves 1e-7, wrong formulas leave more than 5e-3",
)
STANDARD = Limit(
    ">",
    0.02,
    "samples are drawn from N(0, I): a prior with another scale or mean puts them elsewhere",
)
WRITTEN = Limit(">", 0, "mu^2, sigma^2 and -log sigma must enter with one weight")


def _write_out() -> Remedy:
    return Remedy(
        "correct the KL",
        "kl = -0.5 * (1 + logvar - mu.pow(2) - logvar.exp()).sum(1).mean(), with std = exp(0.5 * logvar) in the sampling",
        "certain",
    )


def _to_own_prior() -> Remedy:
    return Remedy(
        "correct the KL",
        "kl = kl_divergence(q, p), q the posterior and p the prior of each example: "
        "log(sigma_p / sigma_q) + (sigma_q^2 + (mu_q - mu_p)^2) / (2 sigma_p^2) - 1/2",
        "certain",
    )


def _without_square(output: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    return (squared_error(output, x) - 0.5 * (1 + logvar - logvar.exp()).sum()) / x.shape[0]


class KLFormula(Rule):
    """The regulariser is not the KL of the posterior that was sampled."""

    code = "OBJ05"
    stage = EXACT
    requires = ("DAT01", "POS03", "POS02", "POS05")
    explains = ("POS01", "TRN01")

    @staticmethod
    def check(objective: Objective, sampling: OnDemand[Sampling]) -> Verdict:
        reg = objective.regulariser
        if objective.not_auditable:
            return Skipped(objective.not_auditable)
        if not isfinite(reg.residual):
            return Skipped("the loss or its gradient is not finite, so the KL part cannot be read from it (see TRN01)")
        kind = "KL to any density" if reg.form == "prior density" else "Gaussian KL"
        fits = Evidence(f"share of the regulariser's gradient that no {kind} explains", reg.residual, FITS)
        if reg.form in {"exact", "free bits", "none", "prior density"}:
            return Healthy((fits,))
        if reg.form == "learned prior":
            off = max(abs(reg.prior_sd - 1), abs(reg.prior_mean))
            evidence = (Evidence("distance of the prior in the loss from N(0, 1)", off, STANDARD),)
            if objective.prior_is_learned or not evidence[0].incriminating:
                return Healthy(evidence)
            drawn = sampling()
            if drawn is not None and drawn.of_the_prior:
                return Healthy(())
            return Finding(
                evidence,
                f"The KL pulls towards N({reg.prior_mean:.2g}, {reg.prior_sd:.3g}^2), not N(0, 1): its terms do not have the weights of the formula.",
                "warning",
                0.95,
                objective.regulariser_at,
                remedies=(_write_out(),),
            )
        c = ", ".join(f"{v:.3g}" for v in reg.coefficients)
        weights = f"weights of mu^2/2, sigma^2/2, -log sigma and mu are {c}"
        wrong = (
            fits
            if fits.incriminating
            else Evidence(
                "weights of mu^2/2, sigma^2/2, -log sigma, mu",
                1,
                WRITTEN,
                text="its gradient is exactly that of this mistake" if reg.conditional else weights,
            )
        )
        what = reg.mistake or "its gradient is not that of any Gaussian KL of the posterior that is sampled"
        return Finding(
            (wrong,),
            f"The KL is computed wrongly: {what}.",
            "error",
            0.99,
            objective.regulariser_at,
            remedies=(_to_own_prior() if reg.conditional else _write_out(),),
        )

    @staticmethod
    def specimen() -> Subject:
        return Patient(loss=_without_square, steps=300).train()
