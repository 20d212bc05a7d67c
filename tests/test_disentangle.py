import math

import numpy as np
import pytest

from whyvae.disentangle import dci, disentanglement, gap


def coin(n=4000, k=2, seed=0):
    """k fair coins, [n, k]."""
    return np.random.default_rng(seed).integers(0, 2, (n, k))


def test_the_gap_of_a_code_that_is_the_factors_is_one():
    grid = np.array([(a, b) for a in range(4) for b in range(4)])
    assert gap(grid.astype(float), grid) == pytest.approx(1.0)


def test_the_gap_of_two_units_that_tell_the_same_is_none():
    factor = coin(k=1)
    assert gap(np.repeat(factor, 2, 1).astype(float), factor) == pytest.approx(0.0)


def test_the_gap_by_hand():
    """One unit tells a factor of four values whole (2 bits), the other its upper bit: (2 - 1) / 2."""
    values = np.arange(4)
    codes = np.stack([values, values // 2], 1).astype(float)
    assert gap(codes, values[:, None]) == pytest.approx(0.5)


def test_a_noisy_channel_by_hand():
    """Of a coin, a unit that errs one time in ten tells 1 - H(0.1) bits, a constant one nothing."""
    coins = np.repeat([0, 1], 10)
    seen = coins.copy()
    seen[[0, 10]] = 1 - seen[[0, 10]]
    noise = -(0.1 * math.log2(0.1) + 0.9 * math.log2(0.9))
    assert gap(np.stack([seen, np.zeros(20)], 1), coins[:, None]) == pytest.approx(1 - noise)


@pytest.mark.parametrize(
    ("importance", "expected"),
    [
        ([[1, 0], [0, 1]], (1, 1)),
        ([[1, 1], [1, 1]], (0, 0)),
        ([[1, 0], [1, 0]], (1, 0)),  # both units for one factor: each is modular, the factor is split
        ([[1, 1], [0, 0]], (0, 1)),
        ([[3, 0], [1, 2]], ((3 + 3 * (1 - (math.log2(3) - 2 / 3))) / 6, (4 * (1 - (2 - 0.75 * math.log2(3))) + 2) / 6)),
    ],
)
def test_modularity_and_completeness_by_hand(importance, expected):
    assert dci(np.array(importance, float)) == pytest.approx(expected)


def test_a_turned_code_tells_as_much_and_disentangles_less():
    random = np.random.default_rng(0)
    factors = random.normal(size=(2000, 2))
    turn = np.array([[1, -1], [1, 1]]) / math.sqrt(2)
    straight, turned = disentanglement(factors, factors), disentanglement(factors @ turn, factors)
    assert straight.modularity > 0.95
    assert straight.completeness > 0.95
    assert straight.gap > 0.8
    assert turned.modularity < 0.1
    assert turned.completeness < 0.1
    assert turned.gap < 0.1
    assert turned.informativeness > 0.9


def test_a_code_of_noise_informs_of_nothing():
    random = np.random.default_rng(0)
    found = disentanglement(random.normal(size=(2000, 3)), coin(2000))
    assert found.informativeness < 0.1
    assert found.gap < 0.05


@pytest.mark.parametrize(
    ("factors", "said"),
    [(np.zeros((99, 1)), "wanted a row for each of 100"), (np.zeros((100, 2)), "column 1 has one value")],
)
def test_what_does_not_fit_is_said(factors, said):
    with pytest.raises(ValueError, match=said):
        disentanglement(np.random.default_rng(0).normal(size=(100, 2)), factors)
