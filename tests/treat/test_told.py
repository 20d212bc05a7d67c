"""What is said of one change that was tried."""

import pytest

from whyvae.treat.told import _said, _what_is_compared

TRIAL = {"failed": "", "verified": False, "share": 1, "cured": True, "before": 0.75, "after": 0.7, "ci95": [0.6, 0.8]}


@pytest.mark.parametrize(("changes", "said"), [
    ({}, "cured, effect not sure"), ({"ci95": [0.66, 0.74]}, "cured, but samples score less"),
    ({"ci95": None}, "cured, effect not sure"), ({"after": None}, "cured; samples have no score"), ({"cured": False, "after": None}, "did not help"),
    ({"verified": True}, "verified"), ({"verified": True, "share": 0.5}, "verified, trained 50% as long"), ({"failed": "no"}, "failed: no"),
])  # fmt: skip
def test_in_a_few_words(changes, said):
    assert _said({**TRIAL, **changes}).plain == said


def test_what_the_numbers_mean_is_said_of_each_remedy_where_it_differs():
    one, other = (
        {"name": "density", "trial": {"metric": "likeness"}},
        {"name": "noise", "trial": {"metric": "the finding"}},
    )
    assert _what_is_compared([one, one]) == "before, after: likeness"
    assert (
        _what_is_compared([one, other, one])
        == "before, after of density: likeness\nbefore, after of noise: the finding"
    )
