"""DAT02 on literal measurements."""

from dataclasses import replace

import pytest
from literal import DATA, DATA_AT, OBJECTIVE, found

from whyvae.probes.output import LastLayer
from whyvae.rules.data.data_unscaled import LARGE, MIXED, DataUnscaled
from whyvae.verdict import Healthy


def check(layer=None, **changes):
    return DataUnscaled.check(replace(DATA, **changes), lambda: OBJECTIVE, lambda: layer)


@pytest.mark.parametrize("changes", [{}, {"input_rms": 10.0}, {"spread_ratio": 100.0}])
def test_healthy_up_to_the_limits(changes):
    assert isinstance(check(**changes), Healthy)


def test_bytes_are_to_be_divided_by_their_largest():
    finding = found(check(input_rms=10.1, high=255.0), "from 0 to 255", at=DATA_AT, severity="warning")
    assert [e.limit for e in finding.evidence] == [LARGE]
    assert finding.remedies[0].how == "x = x / 255"


def test_numbers_of_both_signs_are_to_be_standardised():
    finding = found(check(input_rms=80.0, low=-300.0, high=255.0), "from -300 to 255", at=DATA_AT, severity="warning")
    assert "x.std(0)" in finding.remedies[0].how


def test_one_feature_in_another_unit():
    finding = found(check(spread_ratio=101.0), "101 times larger", at=DATA_AT, severity="warning")
    assert [e.limit for e in finding.evidence] == [MIXED]
    assert "x.std(0)" in finding.remedies[0].how


def test_counts_are_judged_where_the_encoder_reads_them():
    counts = replace(OBJECTIVE, family="poisson")
    raw = replace(DATA, target_rms=400.0, spread_ratio=300.0)
    for layer in (None, LastLayer(400.0)):  # a logarithm of a rate, for which the counts say nothing
        assert isinstance(DataUnscaled.check(raw, lambda: counts, lambda layer=layer: layer), Healthy)
    finding = found(
        DataUnscaled.check(replace(raw, input_rms=400.0), lambda: counts, lambda: None),
        "The input runs",
        at=DATA_AT,
        severity="warning",
    )
    assert [e.limit for e in finding.evidence] == [LARGE]


def test_a_squared_error_of_large_numbers_is_one_whatever_the_encoder_makes_of_them():
    found(check(target_rms=140.0, high=255.0), "from 0 to 255", at=DATA_AT, severity="warning")


@pytest.mark.parametrize(("rms", "ill"), [(10.0, False), (10.1, True), (float("nan"), False)])
def test_a_decoder_may_bring_its_numbers_to_the_units_of_the_data(rms, ill):
    verdict = check(LastLayer(rms), target_rms=140.0, high=255.0)
    assert (not isinstance(verdict, Healthy)) is ill


def test_a_column_that_is_put_beside_others_in_the_step():
    """The data that were found are small; what they enter the encoder with is not."""
    changes = {"input_rms": 600.0, "high": 6.0, "entering": (-3.0, 8000.0)}
    finding = found(
        check(**changes, entering_spread=2000.0), "-3 to 8000", "2e+03 times", at=DATA_AT, severity="warning"
    )
    assert "that column" in finding.remedies[0].how
    found(check(**changes, entering_spread=2.0), "runs from -3 to 8000", at=DATA_AT, severity="warning")
