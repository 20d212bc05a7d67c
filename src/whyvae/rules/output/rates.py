"""What OUT03 and OBJ08 say of a rate that is taken for its logarithm."""

from __future__ import annotations

from whyvae.probes.output import OutputActivation, OutputRange
from whyvae.probes.rates import RARE, maker
from whyvae.verdict import Remedy


def harm(counts: OutputRange) -> str:
    if counts.rare > RARE:
        return f"no rate below 1 can be put out, and {counts.rare:.0%} of the counts have a smaller mean"
    return "what is sampled or shown as a rate is its logarithm, and no rate below 1 can be put out"


def remedy(output: OutputActivation) -> Remedy:
    name = maker(output)
    return Remedy(
        "make the rate positive once",
        f"F.poisson_nll_loss(rate, x, log_input=False) on what `{name}` gives, or no `{name}` at the decoder's end",
        "certain",
    )
