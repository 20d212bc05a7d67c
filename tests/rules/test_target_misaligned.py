"""WIR04 on literal measurements."""

from dataclasses import replace
from math import nan

import pytest
from literal import LIKELIHOOD_AT, TARGET, found

from whyvae.rules.wiring.target_misaligned import TargetMisaligned
from whyvae.verdict import Healthy

OTHERS = {"exact": False, "same_origin": False, "affine": False, "own_row": 0.02}
MOVED = {"exact": False, "same_origin": False}


def check(**changes):
    return TargetMisaligned.check(replace(TARGET, **changes))


def test_the_input_itself_is_healthy():
    assert isinstance(check(), Healthy)


@pytest.mark.parametrize(("own", "ill"), [(0.5, False), (0.49, True)])
def test_limit_of_examples_that_find_their_own_target(own, ill):
    verdict = check(**OTHERS | {"own_row": own})
    assert (not isinstance(verdict, Healthy)) is ill
    if ill:
        found(verdict, "it belongs to another example", at=LIKELIHOOD_AT)
        assert [(e.measured, e.limit.value) for e in verdict.evidence] == [(0.49, 0.5)]


def test_a_reordered_input():
    verdict = check(**OTHERS | {"same_origin": True, "reordered": True, "own_feature": 0.1})
    found(verdict, "the features are in another order", at=LIKELIHOOD_AT)


def test_reordered_examples():
    """Features in place, from one origin: the rows were permuted."""
    verdict = check(**OTHERS | {"same_origin": True, "reordered": True, "own_feature": 0.5})
    found(verdict, "it belongs to another example", at=LIKELIHOOD_AT)


def test_features_of_another_tensor_say_nothing_of_order():
    found(check(**OTHERS | {"own_feature": 0.1}), "it belongs to another example", at=LIKELIHOOD_AT)


def test_noise_on_the_input_is_no_misalignment():
    """A denoising VAE's input hardly resembles its own target, but both come from the same tensor."""
    assert isinstance(check(**OTHERS | {"same_origin": True}), Healthy)


def test_features_that_could_not_be_compared():
    found(check(**OTHERS | {"own_feature": nan}), "it belongs to another example", at=LIKELIHOOD_AT)


def test_shapes_that_are_blown_up():
    verdict = check(broadcast="output [64, 784] against target [64, 1, 784] is blown up to [64, 64, 784]")
    finding = found(verdict, "compares every output with many targets", at=LIKELIHOOD_AT)
    assert "[64, 64, 784]" in str(finding.evidence[0])


@pytest.mark.parametrize(
    ("slope", "offset", "ill"), [(1.001, 0.0, False), (1.0011, 0.0, True), (1.0, -0.0011, True), (1.0, 0.001, False)]
)
def test_limit_of_units(slope, offset, ill):
    verdict = check(**MOVED, slope=slope, offset=offset)
    assert (not isinstance(verdict, Healthy)) is ill


def test_says_in_which_units_the_target_is():
    found(check(**MOVED, slope=2.0, offset=-1.0), "2 * input -1", at=LIKELIHOOD_AT, severity="warning")


def test_units_changed_from_one_tensor_are_meant():
    assert isinstance(check(exact=False, slope=2.0), Healthy)


def test_other_kinds_of_targets():
    assert check(comparable=False).reason.startswith("does not apply")


def test_one_target_for_all():
    """`x[:1].expand_as(x)`: from the input's own origin, nothing permuted, and yet another example's for all but one."""
    verdict = check(**OTHERS | {"same_origin": True, "repeated": True, "own_row": 1 / 64})
    found(verdict, "one and the same target", at=LIKELIHOOD_AT)
