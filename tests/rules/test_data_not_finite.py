"""DAT01 on literal measurements."""

from dataclasses import replace

from literal import DATA, DATA_AT, found

from whyvae.rules.data.data_not_finite import DataNotFinite
from whyvae.verdict import Healthy

check = DataNotFinite.check


def test_one_number_that_is_none_is_enough():
    found(check(replace(DATA, not_finite=1)), "1 number is NaN or infinite", at=DATA_AT)


def test_says_how_many():
    found(check(replace(DATA, not_finite=110)), "110 numbers", at=DATA_AT)


def test_numbers_only_are_healthy():
    assert isinstance(check(DATA), Healthy)


def test_batches_that_were_left_out_are_told():
    found(check(replace(DATA, not_finite=7, refused=7)), "no step is taken", at=DATA_AT)
    found(check(replace(DATA, not_finite=8, refused=7)), "into every weight", at=DATA_AT)
