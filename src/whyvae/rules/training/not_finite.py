"""TRN01: see the page of the same name."""

from __future__ import annotations

from typing import ClassVar

from whyvae.probes.finite import Finiteness
from whyvae.rule import Rule
from whyvae.testing import Patient, elbo
from whyvae.verdict import Evidence, Finding, Healthy, Limit, Remedy, Verdict
from whyvae.watch.subject import Subject

BROKEN = Limit(">", 0, "a NaN or Inf in the loss makes every weight NaN at the next step")


class NotFinite(Rule):
    """The loss, a gradient or a parameter became NaN or Inf."""

    code = "TRN01"
    kind = "symptom"
    stage = 80
    beside: ClassVar = {"TRN02": "numbers that stop being finite need a cause; the smallest is a large step"}

    @staticmethod
    def check(numbers: Finiteness) -> Verdict:
        broken = numbers.step is not None or not numbers.parameters_finite or numbers.raised != ""
        when = (
            f"the loss was not finite at step {numbers.step} of {numbers.steps}"
            if numbers.step is not None
            else f"after {numbers.steps} steps the script stopped with {numbers.raised}"
            if numbers.raised
            else "parameters ended as NaN or Inf"
            if broken
            else "loss and parameters stayed finite"
        )
        evidence = (Evidence("numbers that are not finite", float(broken), BROKEN, text=when),)
        if not broken:
            return Healthy(evidence)
        where = f", first in `{numbers.op}`" if numbers.op else ""
        return Finding(
            evidence,
            f"Training broke: {when}{where}.",
            "error",
            0.99,
            numbers.at,
            remedies=(
                Remedy(
                    "take smaller steps",
                    f"learning rate {numbers.lr / 10:.1g} instead of {numbers.lr:.1g}, and clip the gradient norm to 1",
                ),
                Remedy(
                    "bound the log-variance",
                    "logvar = logvar.clamp(-10, 10) keeps exp() finite; it hides the cause if steps are too large",
                ),
            ),
        )

    @staticmethod
    def specimen() -> Subject:
        return Patient(lr=300.0, steps=60, loss=elbo).train()
