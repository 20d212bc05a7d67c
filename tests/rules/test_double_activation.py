"""OUT03 on literal measurements."""

from dataclasses import replace
from math import inf

import pytest
from literal import ACTIVATION, OBJECTIVE, OUTPUT_AT, RANGE, found

from whyvae.rules.output.double_activation import DoubleActivation
from whyvae.verdict import Healthy

LOGITS = "bernoulli logits"


def check(activations, low, high, family="gaussian", own=(0.0, 1.0), rare=0.0, *, logged=False):
    seen = replace(
        ACTIVATION, activations=activations, low=low, high=high, own_low=own[0], own_high=own[1], logged=logged
    )
    return DoubleActivation.check(seen, replace(OBJECTIVE, family=family), lambda: replace(RANGE, rare=rare))


def test_sigmoid_before_a_loss_with_a_sigmoid():
    finding = found(
        check(("sigmoid",), 0.0, 1.0, LOGITS),
        "`sigmoid` is followed by the loss, which applies a sigmoid",
        at=OUTPUT_AT,
    )
    assert [(e.measured, e.limit.value) for e in finding.evidence] == [(2, 1)]


@pytest.mark.parametrize(
    "low", [0.0, -2.6]
)  # given to a loss, or to a distribution that takes off a logarithm of their sum
def test_softmax_before_a_loss_with_a_softmax(low):
    found(check(("softmax",), low, low + 1, "categorical"), "which applies a softmax itself", at=OUTPUT_AT)
    assert isinstance(check(("softmax",), low, low + 1, "categorical", logged=True), Healthy)


@pytest.mark.parametrize("family", ["categorical", "multinomial"])
def test_classes_whose_logits_lie_between_0_and_1_are_as_good_as_even(family):
    """Of 784 of them, none can be told to be e times as likely as another."""
    found(
        check(("sigmoid",), 0.0, 1.0, family),
        "`sigmoid` is followed by the loss, which applies a softmax",
        at=OUTPUT_AT,
    )


@pytest.mark.parametrize(("low", "ill"), [(0.1, False), (0.11, True)])
def test_limit_of_what_two_activations_may_narrow(low, ill):
    verdict = check(("relu", "sigmoid"), low, 1.0)
    assert (not isinstance(verdict, Healthy)) is ill
    if ill:
        found(verdict, "`relu` is followed by `sigmoid`", at=OUTPUT_AT)


@pytest.mark.parametrize(("high", "ill"), [(0.9, False), (0.89, True)])
def test_the_upper_end_counts_as_well(high, ill):
    assert (not isinstance(check(("sigmoid", "tanh"), 0.0, high), Healthy)) is ill


@pytest.mark.parametrize(("low", "high"), [(-1.0, 1.0), (-1.001, 1.001)])
def test_tanh_before_a_loss_with_a_sigmoid(low, high):
    found(check(("tanh",), low, high, LOGITS), "`tanh` is followed by the loss", at=OUTPUT_AT)


@pytest.mark.parametrize(
    ("activations", "low", "high", "family"),
    [
        ((), -inf, inf, LOGITS),
        (("sigmoid",), 0.0, 1.0, "bernoulli"),
        (("relu",), 0.0, inf, LOGITS),  # one-sided, but not squashed
        (("tanh",), -1.01, 1.01, LOGITS),  # scaled afterwards
        (("leaky_relu", "sigmoid"), 0.3, 1.0, "gaussian"),  # only one of them squashes
        (("sigmoid", "sigmoid_"), 0.0, 1.0, "gaussian"),
        (("sigmoid",), 0.3, 1.0, "gaussian"),  # one activation, then arithmetic
        (("tanh",), -1.0, 1.01, LOGITS),
        (("sigmoid",), 0.0, 1.01, "categorical"),  # scaled afterwards
        (("softmax",), 0.0, 1.0, "gaussian"),
    ],
)
def test_healthy(activations, low, high, family):
    assert isinstance(check(activations, low, high, family), Healthy)


@pytest.mark.parametrize(("activation", "low", "family", "ill"), [
    ("exp", 0.0, "poisson", True), ("exp", -2.0, "poisson", False), ("exp", 0.0, "poisson rates", False),
    ("softplus", 0.0, "poisson", False), ("relu", 0.0, "poisson", False),  # OBJ08
])  # fmt: skip
def test_the_exponential_of_an_exponential(activation, low, family, ill):
    verdict = check((activation,), low, inf, family, rare=0.2)
    if ill:
        found(verdict, "`exp` makes a positive rate", "20% of the counts", at=OUTPUT_AT)
    else:
        assert isinstance(verdict, Healthy)


def test_it_is_one_however_large_the_counts():
    found(check(("exp",), 0.0, inf, "poisson", rare=0.0), "sampled or shown as a rate is its logarithm", at=OUTPUT_AT)
