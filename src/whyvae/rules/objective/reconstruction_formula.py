"""OBJ08: see the page of the same name."""

from __future__ import annotations

from torch import Tensor

from whyvae.probes.exchange import Exchange
from whyvae.probes.objective import Objective
from whyvae.rule import Rule
from whyvae.testing import Patient, kl, squared_error
from whyvae.verdict import Evidence, Finding, Healthy, Limit, Remedy, Skipped, Verdict, Where
from whyvae.watch.subject import Subject

TOWARDS = Limit("<", 0, "going against the gradient must bring the output nearer to its target")


def _away(output: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    return (kl(mu, logvar) - squared_error(output, x)) / x.shape[0]


def _swapped(at: Where | None) -> Finding:
    place = Limit("<", 1, "BCE(output, target) is smallest at the target; BCE(target, output) is not")
    return Finding(
        (Evidence("arguments of the cross-entropy", 0, place, text="output and target have changed places"),),
        "Output and target are exchanged in the binary cross-entropy: its minimum is at 0 or 1, not at the data.",
        "error",
        0.99,
        at,
        remedies=(
            Remedy(
                "exchange the arguments",
                "F.binary_cross_entropy(output, target): the prediction comes first",
                "certain",
            ),
        ),
    )


class ReconstructionFormula(Rule):
    """The reconstruction term is not smallest where the output equals the target."""

    code = "OBJ08"
    stage = 10
    requires = ("DAT01", "OUT02", "WIR04")
    explains = ("POS01", "TRN01", "TRN05")

    @staticmethod
    def check(objective: Objective, exchange: Exchange) -> Verdict:
        if objective.family == "swapped bernoulli" or exchange.found:
            return _swapped(exchange.at or objective.likelihood_at)
        if objective.family == "none":
            return Skipped("the output was not found in the loss")
        if objective.pull != objective.pull:
            return Skipped("does not apply: the targets are classes, or output and target have different sizes")
        evidence = (
            Evidence(
                "agreement of the loss's pull with the way from output to target (cosine)",
                objective.pull,
                TOWARDS,
            ),
        )
        if objective.sign < 0 or evidence[0].incriminating:
            return Finding(
                evidence,
                "The reconstruction term pushes the output away from the data: its sign is wrong.",
                "error",
                0.99,
                objective.likelihood_at,
                remedies=(
                    Remedy(
                        "turn the sign",
                        "minimise the negative log-likelihood: loss = -log_prob + kl",
                        "certain",
                    ),
                ),
            )
        return Healthy(evidence)

    @staticmethod
    def specimen() -> Subject:
        return Patient(loss=_away, steps=60, lr=1e-4).train()
