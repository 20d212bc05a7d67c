"""OUT03: see the page of the same name."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from whyvae.probe import OnDemand
from whyvae.probes.objective import Objective
from whyvae.probes.output import OutputActivation, OutputRange
from whyvae.probes.rates import by_exp, maker, taken_for_logarithms
from whyvae.rule import EXACT, Rule
from whyvae.rules.output.rates import harm, remedy
from whyvae.testing import Patient, factors, kl
from whyvae.verdict import Evidence, Finding, Healthy, Limit, Remedy, Verdict
from whyvae.watch.subject import Subject

TWICE = Limit(
    ">",
    1,
    "each squashes what the one before already squashed: outputs crowd in the middle and black and white are out of reach",
)
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
    return Finding(
        evidence,
        f"`{maker(output)}` makes a positive rate of the output, and the loss takes it for the logarithm of one: {harm(counts)}.",
        "error",
        0.99,
        output.at,
        remedies=(remedy(output),),
    )


class DoubleActivation(Rule):
    """An activation is applied twice, such as a sigmoid before BCE-with-logits."""

    code = "OUT03"
    stage = EXACT
    each_part = True
    requires = ("DAT01",)
    explains = ("POS01", "TRN05")

    @staticmethod
    def check(output: OutputActivation, objective: Objective, reach: OnDemand[OutputRange]) -> Verdict:
        applied = [name for name in output.activations if name in SQUASHING]
        count = len(applied)
        narrowed = count > 1 and (output.low > output.own_low + 0.1 or output.high < output.own_high - 0.1)
        bounded = count > 0 and output.low >= -1.001 and output.high <= 1.001
        squashed_logits = objective.family == "bernoulli logits" and bounded
        squashed_classes = (
            objective.family in {"categorical", "multinomial"}
            and ("softmax" in applied or bounded)
            and not output.logged
        )
        counts = taken_for_logarithms(objective.family, output, reach) if by_exp(output) else None
        inside = squashed_logits or squashed_classes or counts is not None
        total = max(count, 1) + 1 if inside else (count if narrowed else min(count, 1))
        evidence = (Evidence("activations between the last layer and the likelihood", total, TWICE),)
        if total < 2:
            return Healthy(evidence)
        if counts is not None:
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
