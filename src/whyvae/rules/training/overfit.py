"""TRN04: see the page of the same name."""

from __future__ import annotations

from math import isnan
from statistics import NormalDist

import torch
from torch import Tensor

from whyvae.probes.generalisation import Generalisation
from whyvae.rule import EARLIER, Rule
from whyvae.testing import Patient, digits, kl, squared_error
from whyvae.verdict import Evidence, Finding, Healthy, Limit, Remedy, Skipped, Verdict
from whyvae.watch.subject import Subject

MATERIAL = Limit(">", 1.0, "nats; two runs of one script with different seeds differ by less")
GAP = Limit(
    ">",
    0.25,
    "a quarter; healthy scripts of the test panel lose 0.01 to 0.14, small models of 60 to 300 examples 0.15 to 0.5",
)
FORGOTTEN = Limit(
    ">",
    0.1,
    "a tenth: what is learnt by heart is forgotten slowly, so that models that lose 0.15 to 0.5 on held-out examples "
    "showed 0.07 to 0.21, and those that lose 0.03 showed 0.02",
)
SEVERE = 0.4


def _remedies(test: Generalisation) -> tuple[Remedy, ...]:
    few = f"it has about {test.examples:.0f} examples" if test.examples < 1e6 else "it has too few examples"
    return (
        Remedy("more data", f"{few}; use all there are, or vary those (shifts, flips, noise)"),
        Remedy("a smaller model, or fewer steps", "stop where the loss on held-out examples is lowest; weight decay"),
    )


def _judged(test: Generalisation, what: str, cost: float, error: float, limit: Limit) -> Verdict:
    sure = max(0.0, cost - 2 * error)
    share = sure / max(test.achieved, 1e-300)
    nats = Evidence(f"{what}, less two standard errors", sure, MATERIAL, unit="nats")
    part = Evidence("that, as a share of what the outputs are worth on training examples", share, limit)
    evidence = (nats, part) if test.unit == "nats" else (part,)
    if not all(e.incriminating for e in evidence):
        return Healthy(evidence)
    seen = f" Each of about {test.examples:.0f} examples was seen {test.epochs:.0f} times." if test.epochs > 1 else ""
    needed = max(limit.value * test.achieved, MATERIAL.value if test.unit == "nats" else 0.0)
    return Finding(
        evidence,
        f"The model has learnt its examples by heart: {what}: {cost:.3g} {test.unit}.{seen}",
        "error" if share > SEVERE else "warning",
        min(0.95, NormalDist().cdf((cost - needed) / max(error, 0.05 * cost))),
        test.at,
        nats=cost if test.unit == "nats" else None,
        remedies=_remedies(test),
    )


def _by_heart(output: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    return (squared_error(output, x) / 2 + kl(mu, logvar)) / x.shape[0]


class Overfit(Rule):
    """Held-out loss far above training loss."""

    code = "TRN04"
    stage = 60
    requires = EARLIER

    @staticmethod
    def check(test: Generalisation) -> Verdict:
        if test.reason:
            return Skipped(test.reason)
        if isnan(test.achieved) or test.achieved <= 0:
            return Skipped("what the outputs are worth is not known, so no difference can be weighed")
        if not isnan(test.gap):
            what = f"loss of one of {test.held} held-out examples above that of a training example"
            return _judged(test, what, test.gap, test.gap_error, GAP)
        what = f"rise of the loss of examples left out of {test.steps} further steps"
        return _judged(test, what, test.forgotten, test.forgotten_error, FORGOTTEN)

    @staticmethod
    def specimen() -> Subject:
        order = torch.randperm(1797, generator=torch.Generator().manual_seed(0))[:133]
        return Patient(
            data=digits()[order], loss=_by_heart, latents=8, hidden=256, decoder_hidden=256, steps=1500
        ).train()  # fmt: skip
