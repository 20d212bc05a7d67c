"""OUT01: see the page of the same name."""

from __future__ import annotations

import torch

from whyvae.probes import output as outputs
from whyvae.probes.objective import Objective
from whyvae.rule import EXACT, Rule
from whyvae.testing import Patient
from whyvae.verdict import Evidence, Finding, Healthy, Limit, Remedy, Skipped, Verdict
from whyvae.watch.subject import Subject

FLOOR = Limit(
    ">",
    0.01,
    "an error floor no weights can remove; above one part in a hundred of the data's variance it stands beside any reconstruction error",
)


def _scaled(output: outputs.OutputRange) -> str:
    shifted = f"(x - {output.data_low:.4g})" if output.data_low else "x"
    return f"x = {shifted} / {output.data_high - output.data_low:.4g}"


class OutputRange(Rule):
    """The output activation cannot reach the data's values."""

    code = "OUT01"
    stage = EXACT
    each_part = True
    requires = ("DAT01", "OUT02", "OUT03", "WIR04")
    explains = ("POS01",)

    @staticmethod
    def check(output: outputs.OutputRange, objective: Objective) -> Verdict:
        if objective.bernoulli or objective.of_classes:
            return Skipped("does not apply: the likelihood sets the output's range (see OUT02)")
        share = output.unreachable / output.variance if output.variance > 0 else 0.0
        evidence = (
            Evidence(
                "squared error no weights can remove, as a share of the data's variance",
                share,
                FLOOR,
            ),
        )
        if not evidence[0].incriminating:
            return Healthy(evidence)
        layer = output.activation or "the last layer"
        return Finding(
            evidence,
            f"The output ends in `{layer}` and stays in [{output.low:.3g}, {output.high:.3g}], but the data runs from {output.data_low:.4g} to {output.data_high:.4g}: {output.outside:.0%} of it cannot be reached.",
            "error",
            0.99,
            output.at or objective.likelihood_at,
            remedies=(
                Remedy(
                    "scale the data into the range",
                    f"{_scaled(output)} before training, and undo it after sampling",
                ),
                Remedy(
                    "remove the activation",
                    f"end the decoder in its linear layer (no `{layer}`) when the loss is a squared error",
                    "architecture",
                ),
            ),
        )

    @staticmethod
    def specimen() -> Subject:
        return Patient(output=torch.sigmoid).train()
