"""TRN01: see the page of the same name."""

from __future__ import annotations

from typing import ClassVar

from whyvae.probes.finite import Finiteness
from whyvae.rule import Rule
from whyvae.testing import Patient, elbo
from whyvae.verdict import Evidence, Finding, Healthy, Limit, Remedy, Verdict
from whyvae.watch.subject import Subject

BROKEN = Limit(">", 0, "a NaN or Inf in the loss makes every weight NaN at the next step")


DOMAINS = {  # what a function may be given, by its name: in the gradient the ends count too
    "log": "log is finite above 0 only: from logits, binary_cross_entropy_with_logits or logsigmoid; else log(p + 1e-6)",
    "sqrt": "sqrt needs an argument above 0, and so does its gradient: sqrt(v + 1e-8)",
    "div": "nothing may be divided by 0: x / (spread + 1e-6), or leave out what never varies",
    "exp": "exp runs over at 89 in float32: logvar = logvar.clamp(-30, 20); a wide guard, which hides steps that are too large",
    "pow": "a power below 1 has no gradient at 0, a negative one no value: (v + 1e-8) ** p",
    "acos": "acos is defined from -1 to 1, and its gradient between them only: v.clamp(-1 + 1e-6, 1 - 1e-6)",
}
ALIASES = {
    "log_": "log", "log2": "log", "log10": "log", "log1p": "log", "logit": "log", "xlogy": "log", "rsqrt": "sqrt",
    "sqrt_": "sqrt", "__pow__": "pow", "__truediv__": "div", "div_": "div", "__rtruediv__": "div",
    "reciprocal": "div", "true_divide": "div", "divide": "div", "exp_": "exp", "expm1": "exp", "asin": "acos",
    "cosh": "exp", "sinh": "exp",
}  # fmt: skip


def _remedies(numbers: Finiteness) -> tuple[Remedy, ...]:
    name = ALIASES.get(numbers.op, numbers.op)
    slower = Remedy(
        "take smaller steps",
        f"learning rate {numbers.lr / 10:.1g} instead of {numbers.lr:.1g}, and clip the gradient norm to 1",
    )
    if name not in DOMAINS:
        return (slower,)
    guarded = Remedy(f"keep `{name}` where it is defined", DOMAINS[name])
    if numbers.step == 0 or numbers.steps == 0:  # no step had been taken: none was too large
        return (guarded,)
    return (slower, guarded) if name == "exp" else (guarded, slower)


class NotFinite(Rule):
    """The loss, a gradient or a parameter became NaN or Inf."""

    code = "TRN01"
    kind = "symptom"
    stage = 80
    beside: ClassVar = {"TRN02": "numbers that stop being finite need a cause; the smallest is a large step"}

    @staticmethod
    def check(numbers: Finiteness) -> Verdict:
        broken = numbers.broken
        when = (
            "the loss was not finite in the first step"
            if numbers.step == 0
            else f"the loss was not finite at step {numbers.step} of {numbers.steps}"
            if numbers.step is not None
            else f"after {numbers.steps} steps the script stopped with {numbers.raised}"
            if numbers.raised
            else "parameters ended as NaN or Inf"
            if not numbers.parameters_finite
            else f"after {numbers.steps} steps the loss or its gradient is not finite"
            if broken
            else "loss and parameters stayed finite"
        )
        evidence = (Evidence("numbers that are not finite", float(broken), BROKEN, text=when),)
        if not broken:
            return Healthy(evidence)
        part = "the gradient of " if numbers.backward else ""
        where = f", first in {part}`{numbers.op}`" if numbers.op else ""
        return Finding(
            evidence,
            f"Training broke: {when}{where}.",
            "error",
            0.99,
            numbers.at,
            remedies=_remedies(numbers),
        )

    @staticmethod
    def specimen() -> Subject:
        return Patient(lr=300.0, steps=60, loss=elbo).train()
