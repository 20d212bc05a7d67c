"""OBJ08 on literal measurements."""

from dataclasses import replace
from math import nan

import pytest
from literal import LIKELIHOOD_AT, OBJECTIVE, found

from whyvae.probes.exchange import Exchange
from whyvae.rules.objective.reconstruction_formula import ReconstructionFormula
from whyvae.verdict import Healthy, Skipped, Where

STRAIGHT = Exchange(False, None)


def check(exchange=STRAIGHT, **changes):
    return ReconstructionFormula.check(replace(OBJECTIVE, **changes), exchange)


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


def test_skips():
    assert check(family="none") == Skipped("the output was not found in the loss")
    assert check(pull=nan).reason.startswith("does not apply")
