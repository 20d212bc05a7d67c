"""DAT02: see the page of the same name."""

from __future__ import annotations

import math

from torch import Tensor

from whyvae.probe import OnDemand
from whyvae.probes.data import Data
from whyvae.probes.objective import Objective
from whyvae.probes.output import LastLayer
from whyvae.rule import Rule
from whyvae.testing import Patient, factors, kl
from whyvae.verdict import Evidence, Finding, Healthy, Limit, Remedy, Verdict
from whyvae.watch.subject import Subject

LARGE = Limit(
    ">",
    10,
    "standard initialisations keep the scale of activations for inputs of size about 1; ten times that saturates or explodes the first layers",
)
MIXED = Limit(
    ">",
    100,
    "squared errors weigh features by their scale squared: a feature 100 times smaller counts one part in 10,000",
)


def _plain(output: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    return (output - x).pow(2).sum() / 2 + kl(mu, logvar)


class DataUnscaled(Rule):
    """The scale of the features breaks training or the likelihood (0-255 pixels, mixed units)."""

    code = "DAT02"
    stage = 20
    requires = ("DAT01", "OUT02", "OUT01")
    explains = ("TRN01", "POS01", "TRN05")

    @staticmethod
    def check(data: Data, objective: OnDemand[Objective], last: OnDemand[LastLayer]) -> Verdict:
        known = objective()
        own = (
            known is not None and known.own_variance
        )  # then each feature is weighed by a variance of its own, and counts are in no unit
        compared = math.nan if own else data.target_rms
        if not own and LARGE.broken_by(compared) and (layer := last()) is not None:
            compared = layer.rms  # the decoder brings its own numbers to the data's units
        evidence = (
            Evidence("root mean square of what enters the encoder's first layer", data.input_rms, LARGE),
            Evidence("root mean square of what the loss compares with", compared, LARGE),
            Evidence("largest feature over the median one, by how far they reach", data.spread_ratio, MIXED),
        )
        guilty = tuple(
            e for e in evidence if e.incriminating and not math.isnan(e.measured) and not (own and e.limit is MIXED)
        )
        if not guilty:
            return Healthy(evidence)
        summary, how = _described(data, guilty)
        return Finding(guilty, summary, "warning", 0.95, data.at, remedies=(Remedy("scale the data", how),))

    @staticmethod
    def specimen() -> Subject:
        return Patient(data=factors() * 80 + 120, loss=_plain, steps=300).train()


def _described(data: Data, guilty: tuple[Evidence, ...]) -> tuple[str, str]:
    """(What is wrong with the data, what to do)."""
    each = "x = (x - x.mean(0)) / x.std(0)"
    if guilty[0].limit is MIXED:
        return (
            f"One feature is {data.spread_ratio:.3g} times larger than the median one: the loss only sees the large one.",
            each,
        )
    low, high = data.low, data.high
    if data.part and LARGE.broken_by(data.input_rms):
        low, high = data.entering
        if data.entering_spread > MIXED.value:
            summary = (
                f"What enters the encoder runs from {low:.4g} to {high:.4g}: one number of an example is {data.entering_spread:.3g} "
                "times larger than the median one, and the first layer sees little else."
            )
            return summary, f"{each}  # of that column"
    how = each if low < 0 else f"x = x / {high:.4g}"
    return (
        f"The input runs from {low:.4g} to {high:.4g}: networks and the squared error expect numbers of size about 1.",
        how,
    )
