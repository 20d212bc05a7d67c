"""What is said of one change that was tried."""

import pytest

from whyvae.treat.told import _said

TRIAL = {"failed": "", "verified": False, "share": 1, "cured": True, "before": 0.75, "after": 0.7, "ci95": [0.6, 0.8]}


@pytest.mark.parametrize(("changes", "said"), [
    ({}, "cured, effect not sure"), ({"ci95": [0.66, 0.74]}, "cured, but samples score less"),
    ({"ci95": None}, "cured, effect not sure"), ({"after": None}, "cured; samples have no score"), ({"cured": False, "after": None}, "did not help"),
    ({"verified": True}, "verified"), ({"verified": True, "share": 0.5}, "verified, trained 50% as long"), ({"failed": "no"}, "failed: no"),
])  # fmt: skip
def test_in_a_few_words(changes, said):
    assert _said({**TRIAL, **changes}).plain == said
