"""WIR04: see the page of the same name."""

from __future__ import annotations

from torch import Tensor

from whyvae.probes.target import TargetMatch
from whyvae.rule import EXACT, Rule
from whyvae.testing import Patient
from whyvae.verdict import Evidence, Finding, Healthy, Limit, Remedy, Skipped, Verdict
from whyvae.watch.subject import Subject

OWN = Limit(
    "<",
    0.5,
    "a target made from its own input resembles it more than any other example's; by chance 1 in a batch does",
)
NO = Limit(">", 0, "an output compared with several targets is pulled to their mean")
SAME = Limit(
    ">",
    1e-3,
    "an output trained on other units than the input's is in other units when it is sampled",
)


def _shuffled(data: Tensor, rows: Tensor) -> Tensor:
    return data[rows.roll(1)]


class TargetMisaligned(Rule):
    """The loss compares the output with something that is not its own input."""

    code = "WIR04"
    stage = EXACT
    requires = ("DAT01",)
    explains = ("POS01",)

    @staticmethod
    def check(target: TargetMatch) -> Verdict:
        if target.broadcast:
            evidence = (Evidence("shapes that do not match", 1, NO, text=target.broadcast),)
            return Finding(
                evidence,
                "The shapes of output and target differ, so torch compares every output with many targets: the optimum is their average.",
                "error",
                0.99,
                target.at,
                remedies=(
                    Remedy(
                        "match the shapes",
                        "assert output.shape == target.shape before the loss; drop the unsqueeze or add .view_as(x)",
                        "certain",
                    ),
                ),
            )
        if not target.comparable:
            return Skipped("does not apply: input and target are of different kinds or sizes")
        evidence = (Evidence("examples whose target resembles their own input most", target.own_row, OWN),)
        if evidence[0].incriminating and (target.reordered or target.repeated or not target.same_origin):
            shuffled = target.own_feature < 0.5  # False for NaN
            how = (
                "all examples of a batch are compared with one and the same target"
                if target.repeated
                else "the features are in another order"
                if shuffled and target.same_origin
                else "it belongs to another example"
            )
            return Finding(
                evidence,
                f"The loss does not compare an output with its own input: {how}.",
                "error",
                0.99,
                target.at,
                remedies=(
                    Remedy(
                        "compare with the input",
                        "use the very tensor the encoder was given as the target, in the same order",
                        "certain",
                    ),
                ),
            )
        if target.affine and not target.exact and not target.same_origin:
            moved = (
                Evidence(
                    "difference of the units of target and input",
                    max(abs(target.slope - 1), abs(target.offset)),
                    SAME,
                ),
            )
            if moved[0].incriminating:
                return Finding(
                    moved,
                    f"The target is not the input but {target.slope:.3g} * input {target.offset:+.3g}: the two were normalised differently.",
                    "warning",
                    0.9,
                    target.at,
                    remedies=(
                        Remedy(
                            "normalise once",
                            "normalise x once and use it both as input and as target",
                        ),
                    ),
                )
        return Healthy(evidence)

    @staticmethod
    def specimen() -> Subject:
        return Patient(target=_shuffled).train()
