"""The bank of injected faults: its scripts are Python, its plan is fair, its arithmetic is right."""

import ast
import sys
from collections import Counter
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))  # bench is a folder of commands, not installed

from bench.bank import page
from bench.bank.faults import FAULTS
from bench.bank.fit import fit
from bench.bank.healthy import TWISTS, bases
from bench.bank.plan import Spec, plan
from bench.bank.program import build
from bench.bank.results import Claim, calibration_error, right, wilson
from bench.bank.styles import LAYOUTS, Style, render

PLAN = plan()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_fault_and_twist_is_a_script_in_every_layout(layout):
    for fault in FAULTS.values():
        base = next(b for b in bases() if fault.applies(b))
        for level in fault.levels:
            spec = Spec("x", base, ((fault.name, level),), "plain", Style(layout, 1, loader=True), 0, "script")
            script = render(spec.program(), spec.style, "rows.npy", 0)
            ast.parse(script.text)
            ast.parse(script.after)
    for twist, (_, applies) in TWISTS.items():
        base = next(b for b in bases() if applies(b))
        program = Spec("x", base, (), twist, Style(layout), 0, "script").program()
        ast.parse(render(program, Style(layout, distributions=True), "rows.npy", 0).text)


@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_changes_the_healthy_script(name):
    fault = FAULTS[name]
    base = next(b for b in bases() if fault.applies(b))
    healthy = render(build(base), Style(), "rows.npy", 0)
    for level in fault.levels:
        ill = Spec("x", base, ((name, level),), "plain", Style(), 0, "script").program()
        assert render(ill, Style(), "rows.npy", 0).text != healthy.text


def test_scripts_of_a_healthy_base_differ_only_by_layout_and_names():
    base = bases()[0]
    texts = {render(build(base), Style(layout, k), "rows.npy", 0).text for layout in LAYOUTS for k in range(4)}
    assert len(texts) == 24


def test_the_plan_is_large_mixed_and_the_same_every_time():
    assert plan() == PLAN
    assert len(PLAN) >= 500
    assert len({spec.id for spec in PLAN}) == len(PLAN)
    assert sum(not spec.faults for spec in PLAN) >= 0.25 * len(PLAN)
    assert sum(spec.form == "script" for spec in PLAN) >= 120
    assert 0.2 < sum(spec.exam for spec in PLAN) / len(PLAN) < 0.5


def test_a_round_holds_every_code():
    first = [spec for spec in PLAN if spec.id.startswith("00-") and len(spec.faults) == 1 and not spec.twin_of]
    assert set(Counter(code for spec in first for code in spec.codes).values()) == {1}
    assert {code for spec in first for code in spec.codes} == {fault.code for fault in FAULTS.values()}


def row(codes, found, accept=(), verdict="sick"):
    findings = [{"code": c, "severity": "error"} for c in found]
    return {"codes": codes, "accept": list(accept), "found": findings, "verdict": verdict}


def test_right_means_the_first_finding_or_a_declared_equivalent():
    assert right(row(["OBJ01"], ["OBJ01", "POS01"]))
    assert not right(row(["OBJ01"], ["POS01", "OBJ01"]))
    assert right(row(["OBJ01"], ["POS01", "OBJ01"]), among=2)
    assert right(row(["OUT04"], ["OBJ01"], accept=["OBJ01"]))
    assert right(row([], [], verdict="healthy"))
    assert not right(row([], [], verdict="inconclusive"))


def test_wilson_interval_of_a_textbook_case():
    low, high = wilson(8, 10)
    assert (low, high) == pytest.approx((0.4902, 0.9433), abs=1e-4)


def test_calibration_error_is_the_distance_between_said_and_seen():
    assert calibration_error([(0.75, True)] * 3 + [(0.75, False)]) == pytest.approx(0)
    assert calibration_error([(0.95, False)] * 10) == pytest.approx(0.95)


def test_fit_learns_that_a_code_is_often_wrong_and_that_margins_help():
    often = [Claim("CAP01", "digits", m, 0.9, right=m > 1, exam=False) for m in (0.1, 0.5, 1.5, 3.0)] * 20
    never = [Claim("TRN04", "digits", m, 0.9, right=False, exam=False) for m in (0.1, 0.5, 1.5, 3.0)] * 20
    table = fit(often + never)
    assert table["slope"] > 0
    assert table["offset"]["CAP01"] > table["offset"].get("TRN04", -9)


def test_a_renewed_second_exam_leaves_the_rest_of_the_page():
    text = "# Calibration\n\n## Main numbers\n\nall\n\n## By code, on the exam\n\nrest\n"
    once = page.renewed(text, [])
    assert page.renewed(once, []) == once
    assert once.startswith("# Calibration\n\n## Main numbers\n\nall")
    assert once.endswith("## By code, on the exam\n\nrest\n")
