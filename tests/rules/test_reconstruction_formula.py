"""OBJ08 on literal measurements."""

from dataclasses import replace
from math import nan

import pytest
from literal import ACTIVATION, LIKELIHOOD_AT, OBJECTIVE, RANGE, found

from whyvae.probes.exchange import Exchange
from whyvae.probes.sight import Sight
from whyvae.rules.objective.reconstruction_formula import ReconstructionFormula
from whyvae.verdict import Healthy, Skipped, Where

STRAIGHT = Exchange(False, None)


def check(exchange=STRAIGHT, sight=Sight(), activation="", low=0.0, rare=0.0, **changes):  # noqa: B008 - frozen
    output = replace(ACTIVATION, activations=(activation,) if activation else (), low=low)
    reach = replace(RANGE, rare=rare)
    return ReconstructionFormula.check(replace(OBJECTIVE, **changes), exchange, sight, lambda: output, lambda: reach)


@pytest.mark.parametrize("pull", [1.0, 0.01, 0.0])
def test_a_pull_to_the_target_is_healthy(pull):
    assert isinstance(check(pull=pull), Healthy)


def test_a_pull_away():
    finding = found(check(pull=-0.01), "pushes the output away", at=LIKELIHOOD_AT)
    assert [(e.measured, e.limit.value) for e in finding.evidence] == [(-0.01, 0)]


def test_a_negative_weight_on_the_likelihood():
    assert "its sign is wrong" in check(sign=-1, pull=0.5).summary


def test_exchanged_arguments():
    finding = found(
        check(family="swapped bernoulli", pull=0.4), "exchanged in the binary cross-entropy", at=LIKELIHOOD_AT
    )
    assert "changed places" in str(finding.evidence[0])


@pytest.mark.parametrize("changes", [{"family": "none"}, {"pull": nan}, {}])
def test_exchanged_arguments_on_the_tape_of_a_run_that_broke(changes):
    found(
        check(Exchange(True, Where("a.py", 7)), **changes), "exchanged in the binary cross-entropy", at=Where("a.py", 7)
    )


@pytest.mark.parametrize(
    ("sight", "says"),
    [
        (Sight(1, 12, (1,)), ["1, below the limit 12", "errors along axis 1 cancel"]),
        (Sight(15, 64), ["15, below the limit 16"]),
        (Sight(16, 64, (0,)), ["errors along the examples cancel"]),
    ],
)
def test_errors_that_cancel(sight, says):
    finding = found(check(sight=sight, family="unknown", pull=0.2), "Errors are added up before", at=LIKELIHOOD_AT)
    assert [part in str(e) for part, e in zip(says, finding.evidence, strict=True)] == [True] * len(says)


@pytest.mark.parametrize("sight", [Sight(16, 64), Sight(12, 12), Sight(1, 1)])
def test_a_term_that_sees_every_number(sight):
    assert isinstance(check(sight=sight, family="unknown", pull=0.2), Healthy)


def test_skips():
    assert check(family="none") == Skipped("the output was not found in the loss")
    assert check(pull=nan).reason.startswith("does not apply")


@pytest.mark.parametrize(("activation", "low", "family", "rare", "ill"), [
    ("softplus", 0.0, "poisson", 0.6, True), ("softplus", 0.0, "poisson", 0.0, True), ("relu", 0.0, "poisson", 0.2, True),
    ("relu", 0.0, "poisson", 0.05, False), ("softplus", -2.0, "poisson", 0.05, False),
    ("softplus", 0.0, "poisson rates", 0.6, False), ("tanh", -1.0, "poisson", 0.6, False),
    ("exp", 0.0, "poisson", 0.6, False),  # OUT03
])  # fmt: skip
def test_a_rate_that_the_loss_takes_for_its_logarithm(activation, low, family, rare, ill):
    verdict = check(activation=activation, low=low, family=family, rare=rare)
    if ill:
        found(
            verdict,
            f"`{activation}` has made a rate of it",
            "takes the output for the logarithm of a rate",
            at=LIKELIHOOD_AT,
        )
    else:
        assert isinstance(verdict, Healthy)
