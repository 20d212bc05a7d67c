"""OBJ08: see the page of the same name."""

from __future__ import annotations

from torch import Tensor

from whyvae.probe import OnDemand
from whyvae.probes.exchange import Exchange
from whyvae.probes.objective import Objective
from whyvae.probes.output import OutputActivation, OutputRange
from whyvae.probes.rates import by_exp, maker, taken_for_logarithms
from whyvae.probes.sight import Sight
from whyvae.rule import EXACT, Rule
from whyvae.rules.output.rates import harm, remedy
from whyvae.testing import Patient, kl, squared_error
from whyvae.verdict import Evidence, Finding, Healthy, Limit, Remedy, Skipped, Verdict, Where
from whyvae.watch.subject import Subject

TOWARDS = Limit("<", 0, "going against the gradient must bring the output nearer to its target")
ALONG = Limit(">", 0, "errors of opposite sign along an axis cancel where they are added before they are squared")


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


def _blind(sight: Sight, at: Where | None) -> Finding:
    seen = Limit("<", sight.expected, "a term that is smallest at the target alone pulls in all directions")
    along = " and ".join("the examples" if axis == 0 else f"axis {axis}" for axis in sight.summed)
    evidence = (
        Evidence("directions in which the reconstruction term pulls an output", sight.told_apart, seen),
        Evidence("axes along which errors cancel", len(sight.summed), ALONG, text=f"errors along {along} cancel"),
    )
    return Finding(
        tuple(e for e in evidence if e.incriminating),
        "Errors are added up before they are made positive: those of opposite sign cancel, so only their sum is trained, and "
        "outputs far from the data cost nothing.",
        "error",
        0.99,
        at,
        remedies=(
            Remedy(
                "square each difference, then sum",
                "((x_hat - x) ** 2).flatten(1).sum(1).mean(): the power (or abs) comes before the sum",
                "certain",
            ),
        ),
    )


def _of_rates(output: OutputActivation, counts: OutputRange, at: Where | None) -> Finding:
    name = maker(output)
    how = Limit("<", 1, "exp(o) - x * o is smallest at o = log x; of a rate, o - x * log(o) is smallest at o = x")
    text = f"as the logarithm of a rate, and it is one, made by `{name}`"
    return Finding(
        (Evidence("how the Poisson likelihood reads the output", 0, how, text=text),),
        f"The Poisson likelihood takes the output for the logarithm of a rate, and `{name}` has made a rate of it: {harm(counts)}.",
        "error",
        0.99,
        at,
        remedies=(remedy(output),),
    )


class ReconstructionFormula(Rule):
    """The reconstruction term is not smallest where the output equals the target."""

    code = "OBJ08"
    stage = EXACT
    each_part = True
    requires = ("DAT01", "OUT02", "WIR04")
    explains = ("POS01", "TRN01", "TRN05")

    @staticmethod
    def check(
        objective: Objective,
        exchange: Exchange,
        sight: Sight,
        activation: OnDemand[OutputActivation],
        reach: OnDemand[OutputRange],
    ) -> Verdict:
        if objective.family == "swapped bernoulli" or exchange.found:
            return _swapped(exchange.at or objective.likelihood_at)
        if objective.family == "none":
            return Skipped("the output was not found in the loss")
        unknown = objective.pull != objective.pull
        if unknown and objective.sign > 0:
            return Skipped("does not apply: the targets are classes, or output and target have different sizes")
        if sight.blind:
            return _blind(sight, objective.likelihood_at)
        output = activation()
        counts = None if output is None or by_exp(output) else taken_for_logarithms(objective.family, output, reach)
        if output is not None and counts is not None:
            return _of_rates(output, counts, objective.likelihood_at or output.at)
        evidence = (
            Evidence(
                "agreement of the loss's pull with the way from output to target (cosine)",
                -1.0 if unknown else objective.pull,  # of a cross-entropy that was turned round
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
