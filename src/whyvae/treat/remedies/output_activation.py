"""The activation at the decoder's end."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

from whyvae.probes.objective import Objective
from whyvae.probes.output import OutputActivation as Activation
from whyvae.probes.output import OutputRange
from whyvae.probes.rates import taken_for_logarithms
from whyvae.treat.remedy import Remedy, Treatment
from whyvae.verdict import Safety

if TYPE_CHECKING:
    from whyvae.treat.case import Case


class OutputActivation(Remedy):
    name = "output_activation"
    treats = ("OUT01", "OUT03", "OBJ08")
    safety: ClassVar[Safety] = "architecture"
    of_part = True

    @classmethod
    def proposals(cls, case: Case, code: str) -> Iterable[Treatment]:
        output, objective = case.get(Activation), case.get(Objective)
        if output is None or not output.activations:
            return
        if code == "OBJ08" and not _rate_for_logarithm(case, objective, output):
            return
        reach = case.get(OutputRange)
        if code == "OUT01" and reach is not None and reach.low > -0.01 and reach.high < 1.01 and reach.data_low >= 0:
            return  # the activation is right for such data once that is scaled
        last = output.activations[-1].rstrip("_")
        if code == "OUT03" and objective is not None and objective.family == "bernoulli logits":
            yield cls.treatment(
                code, "takes the cross-entropy on probabilities: the decoder applies its sigmoid itself", at="loss"
            )
        if code == "OUT03" and objective is not None and objective.loss_function == "cross_entropy":
            yield cls.treatment(
                code, "gives the cross-entropy logarithms: the decoder makes probabilities itself", at="classes"
            )
        if code != "OUT01" and objective is not None and objective.family == "poisson":
            yield cls.treatment(code, "takes the output for the rate that it is, not for its logarithm", at="loss")
            if objective.loss_function == "poisson_nll_loss":
                return  # what is sampled is meant for a rate
        yield cls.treatment(code, f"leaves out `{last}` at the decoder's end", at="last")
        if len(output.activations) > 1:
            yield cls.treatment(
                code, f"leaves out `{output.activations[0].rstrip('_')}` behind the last layer", at="first"
            )


def _rate_for_logarithm(case: Case, objective: Objective | None, output: Activation) -> bool:
    return (
        objective is not None
        and taken_for_logarithms(objective.family, output, lambda: case.get(OutputRange)) is not None
    )
