"""A rate that a Poisson likelihood takes for the logarithm of one. Made by `exp`, the activation is applied twice (OUT03);
made otherwise, the likelihood is told the wrong thing about the output (OBJ08).
"""

from __future__ import annotations

from collections.abc import Callable

from whyvae.probes.output import OutputActivation, OutputRange

POSITIVE = {"softplus", "relu", "relu_", "exp", "abs", "square", "sigmoid", "sigmoid_", "softmax"}
LINKS = {"softplus", "exp"}  # that people make rates with; what others bound may be meant for a logarithm
RARE = 0.1  # of the counts of an example: rates of 1 and more may be meant where hardly one has a smaller mean


def taken_for_logarithms(
    family: str, output: OutputActivation, reach: Callable[[], OutputRange | None]
) -> OutputRange | None:
    """Where the output is a rate and the loss, of this family, makes a rate of it: its range, else None."""
    if family != "poisson" or POSITIVE.isdisjoint(output.activations) or output.low < -0.001:
        return None
    counts = reach()
    link = output.activations[-1] in LINKS
    return counts if counts is not None and (link or counts.rare > RARE) else None


def by_exp(output: OutputActivation) -> bool:
    return output.activations[-1:] == ("exp",)


def maker(output: OutputActivation) -> str:
    return next(n for n in output.activations if n in POSITIVE).rstrip("_")
