"""GEN02: see the page of the same name."""

from __future__ import annotations

from math import isnan

import torch

from whyvae.probes.sampling import TASTE, Draws, Sampling
from whyvae.rule import Rule
from whyvae.testing import Model, Patient
from whyvae.verdict import Evidence, Finding, Healthy, Limit, Remedy, Verdict
from whyvae.watch.subject import Subject

OFF = Limit(">", TASTE, "multiplying z by 0.7 costs 0.10 nats and is a matter of taste; beyond it, other latents are drawn than the decoder was trained on")  # fmt: skip
SAME = Limit("<", 2, "equal latents decode to equal samples")
OWN = Limit("<", 2, "each latent unit of the prior has a number of its own")


def _evidence(draws: Draws) -> Evidence:
    if draws.identical:
        return Evidence(f"different latents among the {draws.rows} decoded", draws.distinct, SAME)
    if draws.one_number:
        return Evidence(
            f"different numbers among the {draws.units} latent units of one sample", draws.distinct_units, OWN
        )
    return Evidence("distance of the latents drawn for new samples from the prior", draws.nats, OFF, "nats per unit")


def _drawn(draws: Draws) -> str:
    return f"`{draws.drawn_by}`" if draws.drawn_by else "numbers from outside torch"


def _kind(draws: Draws, prior: tuple[float, float]) -> str:
    mean, sd = prior[0] + prior[1] * draws.mean, prior[1] * draws.sd
    found = f"mean {mean:.2g}, standard deviation {sd:.2g}"
    return f"uniform noise ({found})" if draws.uniform else f"{_drawn(draws)} with {found}"


def _summary(draws: Draws, prior: tuple[float, float]) -> str:
    if draws.identical:
        return f"All {draws.rows} latents that are decoded for new samples are the same, so all samples are the same."
    if draws.one_number:
        return f"One number is used for all {draws.units} latent units of a sample: samples come from a single line through latent space."
    if isnan(prior[0]):
        return (
            f"New samples are decoded from {_drawn(draws)}, while training brings the encodings to a prior of the model's own, and they "
            "lie elsewhere: the decoder is asked for codes it has hardly seen."
        )
    return (
        f"New samples are decoded from {_kind(draws, prior)}, while training brings the encodings to "
        f"N({prior[0]:.3g}, {prior[1]:.3g}^2): the decoder is asked for codes it has hardly seen, or for few of those it knows."
    )


def _finding(draws: Draws, prior: tuple[float, float]) -> Finding:
    how = (
        "draw z from the prior that the loss uses (its mixture), not from a standard normal; no new training is needed" if isnan(prior[0])
        else "z = torch.randn(count, latents): standard normal, own numbers for each unit of each sample, not rescaled; no new training is needed"
    )  # fmt: skip
    remedy = Remedy("draw from the prior", how, "certain")
    confidence = 0.99 if draws.drawn_by else 0.9
    return Finding((_evidence(draws),), _summary(draws, prior), "error", confidence, draws.at, remedies=(remedy,))


def _uniform(model: Model) -> None:
    with torch.no_grad():
        model.decoder(torch.rand(16, model.mu.out_features))


class PriorDrawsWrong(Rule):
    """New samples are decoded from draws that are not the prior."""

    code = "GEN02"
    stage = 70
    requires = ("DAT01",)  # exact, and not healed by repairing the training: stands beside what is wrong there

    @staticmethod
    def check(sampling: Sampling) -> Verdict:
        worst = sampling.worst
        if worst is not None:
            return _finding(worst, sampling.prior)
        return Healthy(tuple(_evidence(d) for d in sampling.places if d.judged and not d.wrong))

    @staticmethod
    def specimen() -> Subject:
        return Patient(generate=_uniform).train()
