"""OUT03: see the page of the same name."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from whyvae.probe import OnDemand
from whyvae.probes.objective import Objective
from whyvae.probes.output import OutputActivation, OutputRange
from whyvae.rule import Rule
from whyvae.testing import Patient, factors, kl
from whyvae.verdict import Evidence, Finding, Healthy, Limit, Remedy, Verdict
from whyvae.watch.subject import Subject

TWICE = Limit(
    ">",
    1,
    "each squashes what the one before already squashed: outputs crowd in the middle and black and white are out of reach",
)
POSITIVE = {"softplus", "relu", "relu_", "exp", "abs", "square", "sigmoid", "sigmoid_", "softmax"}
LINKS = {"softplus", "exp"}  # that people make rates with; what others bound may be meant for a logarithm
RARE = 0.1  # of the counts of an example: rates of 1 and more may be meant where hardly one has a smaller mean
SQUASHING = {
    "sigmoid",
    "sigmoid_",
    "softmax",
    "log_softmax",
    "tanh",
    "hardsigmoid",
    "relu",
    "relu_",
    "softplus",
}


def _bce(output: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    return (F.binary_cross_entropy_with_logits(output, x, reduction="sum") + kl(mu, logvar)) / x.shape[0]


def _of_rates(evidence: tuple[Evidence, ...], output: OutputActivation, counts: OutputRange) -> Finding:
    name = next(n for n in output.activations if n in POSITIVE).rstrip("_")
    harm = (
        f"no rate below 1 can be put out, and {counts.rare:.0%} of the counts have a smaller mean"
        if counts.rare > RARE
        else "what is sampled or shown as a rate is its logarithm, and no rate below 1 can be put out"
    )
    return Finding(
        evidence,
        f"`{name}` makes a positive rate of the output, and the loss takes it for the logarithm of one: {harm}.",
        "error",
        0.99,
        output.at,
        remedies=(
            Remedy(
                "make the rate positive once",
                f"F.poisson_nll_loss(rate, x, log_input=False) on what `{name}` gives, or no `{name}` at the decoder's end",
                "certain",
            ),
        ),
    )


class DoubleActivation(Rule):
    """An activation is applied twice, such as a sigmoid before BCE-with-logits."""

    code = "OUT03"
    stage = 10
    requires = ("DAT01",)
    explains = ("POS01", "TRN05")

    @staticmethod
    def check(output: OutputActivation, objective: Objective, reach: OnDemand[OutputRange]) -> Verdict:
        applied = [name for name in output.activations if name in SQUASHING]
        count = len(applied)
        narrowed = count > 1 and (output.low > output.own_low + 0.1 or output.high < output.own_high - 0.1)
        squashed_logits = (
            objective.family == "bernoulli logits" and count > 0 and output.low >= -1.001 and output.high <= 1.001
        )
        squashed_classes = (
            objective.family in {"categorical", "multinomial"} and "softmax" in applied and output.low >= 0
        )
        positive = (
            objective.family == "poisson" and not POSITIVE.isdisjoint(output.activations) and output.low >= -0.001
        )
        counts = reach() if positive else None
        link = bool(output.activations) and output.activations[-1] in LINKS
        rates_of_rates = counts is not None and (link or counts.rare > RARE)
        inside = squashed_logits or squashed_classes or rates_of_rates
        total = max(count, 1) + 1 if inside else (count if narrowed else min(count, 1))
        evidence = (Evidence("activations between the last layer and the likelihood", total, TWICE),)
        if total < 2:
            return Healthy(evidence)
        if rates_of_rates and counts is not None:
            return _of_rates(evidence, output, counts)
        last = applied[-1].rstrip("_")
        second = (
            "the loss, which applies a sigmoid itself"
            if squashed_logits
            else "the loss, which applies a softmax itself"
            if squashed_classes
            else f"`{last}`"
        )
        return Finding(
            evidence,
            f"`{applied[0].rstrip('_')}` is followed by {second}: the activation is applied twice, and the output cannot get near the ends of its range.",
            "error",
            0.99,
            output.at,
            remedies=(
                Remedy(
                    "apply it once",
                    f"drop `{applied[0].rstrip('_')}` at the decoder's end, or use the loss without built-in activation (binary_cross_entropy on probabilities)",
                    "certain",
                ),
            ),
        )

    @staticmethod
    def specimen() -> Subject:
        return Patient(data=(factors() > 0).float(), output=torch.sigmoid, loss=_bce).train()
