"""The comparison with searches: its scripts, what it counts, and what it makes of searches that arrived nowhere."""

import ast
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))  # bench is a folder of commands, not installed

from bench.cure.arms import Ledger, Row
from bench.cure.knobs import ACTIVATIONS, RANGES, SCRIPTS, replaced
from bench.cure.page import interval, page, ratio
from bench.time_to_cure import lowest


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda s: s.name)
def test_every_knob_turns_something(script):
    own = script.turned(script.own)
    ast.parse(own)
    ast.parse(script.reference())
    for name, value in script.own.items():
        other = next(a for a in ACTIVATIONS if a != value) if name == "activation" else value + 1
        assert script.turned(script.own | {name: other}) != own, name


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda s: s.name)
def test_the_search_may_go_where_the_script_was(script):
    """Down to the broken value itself, on a scale whose ends are further: the space is not drawn around the cure."""
    for name, value in script.own.items():
        if name != "activation":
            low, high = RANGES[name]
            assert low <= value <= high


def test_a_replacement_that_finds_nothing_is_told():
    with pytest.raises(ValueError, match="'b' is not in the script"):
        replaced("a", (("b", "c"),), {})


def ledger(*rows, end=None):
    return {"rows": [{"name": n, "all_steps": a, "steps": s, "score": v} for n, a, s, v in rows], "end": end}


RUN = {
    "script": "s", "seed": 0, "limit": 0.8, "reference": [0.85, 0.85], "broken": 0.1, "unturned": 0.1, "training": 100, "load": 1.0,
    "found": ["OBJ01"],
    "fix": ledger(("control", 150, 100, 0.1), ("round1-0", 250, 100, 0.9), ("placebo", 100, 100, 0.1), end="round1-0"),
    "tpe": ledger(*[(str(i), 100, 100, 0.2) for i in range(9)], ("9", 100, 100, 0.81), end="9"),
    "random": ledger(("control", 100, 100, 0.1), ("0", 100, 100, 0.2), ("1", 100, 100, 0.3)),
}  # fmt: skip


def test_all_steps_until_the_score_or_the_proof():
    assert ratio(RUN, "tpe", "all_steps", proven=False) == (1000 / 250, False)
    assert ratio(RUN, "tpe", "all_steps", proven=True) == (1000 / 500, False)
    assert ratio(RUN, "tpe", "steps", proven=True) == (1000 / 300, False)


def test_a_search_that_arrives_nowhere_counts_with_what_it_spent():
    assert ratio(RUN, "random", "steps", proven=False) == (300 / 200, True)


def test_a_fix_that_settles_on_something_else_has_not_arrived():
    other = RUN | {"fix": {**RUN["fix"], "end": "placebo"}}
    assert ratio(other, "tpe", "steps", proven=True) == (0.0, False)
    assert Ledger([Row(**r) for r in other["fix"]["rows"]], "placebo").first(0.8) == 250


def test_the_interval_of_the_median_comes_from_scripts():
    """Ten scripts with two ratios, 4 and 32: their median may be either."""
    few = [RUN | {"script": str(i), "seed": s} for i in range(5) for s in range(2)]
    many = [r | {"script": f"m{r['script']}", "tpe": ledger(("0", 8000, 8000, 0.9))} for r in few]
    assert interval(few, "tpe", "all_steps", proven=False) == (4.0, 4.0, 4.0)
    middle, low, high = interval(few + many, "tpe", "all_steps", proven=False)
    assert (low, high) == (4.0, 32.0)
    assert low <= middle <= high


def test_the_page_names_what_it_left_out():
    text = page([RUN, RUN | {"script": "fine", "broken": 0.9}], "how", "torch 2")
    assert "| s | 0 | OBJ01 | 0.850, 0.800 | 0.10 | 2.5 / 5.0 (3) | 10.0 (10) | > 3.0 (3) | 4.0, 2.0 |" in text
    assert "reaches the score: fine (seed 0)" in text


def test_reached_is_what_a_further_training_of_the_repaired_script_reaches():
    scores = [0.90, 0.92, 0.88, 0.94, 0.86]
    sd = (0.004 / 4) ** 0.5
    assert lowest(scores) == pytest.approx(0.9 - 2.132 * sd * (1 + 1 / 5) ** 0.5, abs=1e-4)
    assert lowest([0.9] * 5) == pytest.approx(0.9 - 2.132 * 0.02 / 2**0.5 * (1 + 1 / 5) ** 0.5, abs=1e-4)
