"""What is said of one change that was tried."""

import pytest
from rich.console import Console

from whyvae.treat.told import _said, _what_is_compared, render

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


@pytest.mark.parametrize("why", ["", "the term is computed in code that is not yours"])
def test_what_was_proven_without_a_patch_is_told_to_be_done_by_hand(why):
    trial = {
        **TRIAL,
        "verified": True,
        "metric": "likeness",
        "why_no_edit": why,
        "where": "train.py:3",
        "snippet": "loss = rec + kl",
    }
    done = {"name": "kl_weight", "how": "the KL counts 0.1 times as much", "trial": trial}
    cure = {"rounds": [done], "tried": [done], "verified": True, "left": [], "stopped": "", "patch": None, "advice": []}
    record = {"verdict": "sick", "findings": [{"code": "OBJ01", "severity": "error", "explained_by": [], "kind": "cause"}],
              "cure": cure, "cost": {"training_s": 1, "treating_s": 1}}  # fmt: skip
    console = Console(width=120, record=True)

    console.print(render(record))

    text = console.export_text()
    assert ("by hand" in text) == ("loss = rec + kl" in text) == ("train.py:3" in text) == bool(why)
    assert why in text
