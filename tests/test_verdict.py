import math

import pytest

from whyvae.verdict import Evidence, Finding, Limit, Where


def test_a_limit_without_reason_does_not_construct():
    with pytest.raises(ValueError, match="gives no reason"):
        Limit("<", 0.25, " ")


@pytest.mark.parametrize(
    ("op", "measured", "broken"),
    [
        (">", 2.0, True),
        (">", 1.0, False),  # on the limit is not over it
        (">", 0.0, False),
        ("<", 0.0, True),
        ("<", 1.0, False),
        (">", math.nan, True),
        ("<", math.nan, True),
        (">", math.inf, True),
        ("<", math.inf, False),
    ],
)
def test_limit_broken(op, measured, broken):
    assert Limit(op, 1.0, "a test").broken_by(measured) is broken


def test_the_sentence_is_rendered_from_the_numbers():
    limit = Limit(">", 5.31, "largest eigenvalue")
    ill = Evidence("implied noise variance", 392.0, limit)
    well = Evidence("implied noise variance", 0.5, limit, unit="px")
    assert str(ill) == "implied noise variance: 392, above the limit 5.31 (largest eigenvalue)"
    assert str(well) == ("implied noise variance: 0.5 px, not above the limit 5.31 px (largest eigenvalue)")


def test_yes_or_no_reads_as_words():
    evidence = Evidence("z", 0, Limit("<", 1, "a VAE samples"), text="no noise enters z")
    assert evidence.incriminating
    assert str(evidence) == "no noise enters z (a VAE samples)"


def test_confidence_is_a_probability():
    with pytest.raises(ValueError, match="probability"):
        Finding((), "summary", "error", 99)


def test_where_reads_as_editors_write_it():
    assert str(Where("train.py", 17)) == "train.py:17"
