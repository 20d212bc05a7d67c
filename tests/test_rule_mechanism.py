"""Rules on stubs: order, injection, explanation, verdict, record. No model, no torch."""

import json
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Self

import pytest

from whyvae.examine import examine
from whyvae.probe import CannotMeasure, Probe
from whyvae.rule import EARLIER, Rule
from whyvae.verdict import Evidence, Finding, Healthy, Limit, Remedy, Skipped, Verdict, Where

LIMIT = Limit(">", 1, "a test")


@dataclass(frozen=True)
class Missing(Probe):
    @classmethod
    def measure(cls, subject) -> Self:
        raise CannotMeasure("no recorded step has a loss")


def subject(limits=()):
    return SimpleNamespace(
        facts=lambda: {"script": "train.py", "data": {"shape": (1, 28, 28)}},
        limits=lambda: list(limits),
        cost={"training_s": 2.0, "watching_s": 0.1},
    )


def finding(severity="error", **more):
    return Finding((Evidence("x", 2, LIMIT),), "It is ill.", severity, 0.9, **more)


def rule(code, verdict=None, stage=10, name="SomeRule", **more):
    """A rule class that returns `verdict`; more: class attributes."""

    def check() -> Verdict:
        return Healthy((Evidence("x", 0, LIMIT),)) if verdict is None else verdict

    body = {"code": code, "stage": stage, "check": staticmethod(check)} | more
    return type(name, (Rule,), body)


def examined(*rules, limits=(), **options):
    return examine(subject(limits), rules={r.code: r for r in rules}, **options)


def codes(entries):
    return [entry.code for entry in entries]


@pytest.mark.parametrize(
    ("cls", "name"),
    [
        ("KLOverweight", "kl-overweight"),
        ("KLFormula", "kl-formula"),
        ("DataNotFinite", "data-not-finite"),
        ("BatchNormGap", "batch-norm-gap"),
    ],
)
def test_name_is_the_class_in_kebab_case(cls, name):
    assert rule("OBJ01", name=cls).name() == name


def test_causes_stand_in_the_order_of_repair_before_symptoms():
    result = examined(
        rule("POS01", finding(), stage=1, kind="symptom"),
        rule("TRN02", finding("warning"), stage=20),
        rule("TRN03", finding("error"), stage=20),
        rule("TRN01", finding("error"), stage=20),
        rule("OBJ01", finding("warning"), stage=10),
    )
    assert codes(result.findings) == ["OBJ01", "TRN01", "TRN03", "TRN02", "POS01"]


def test_a_rule_after_all_earlier_ones_is_explained_by_a_cause_but_not_by_a_remark_or_a_symptom():
    later = rule("CAP01", finding(), stage=50, requires=EARLIER)
    assert codes(examined(rule("ZZZ01", finding("warning"), stage=10), later).findings) == ["ZZZ01"]
    assert codes(examined(rule("ZZZ01", finding("info"), stage=10), later).findings) == ["ZZZ01", "CAP01"]
    assert codes(examined(rule("ZZZ01", finding(), stage=10, kind="symptom"), later).findings) == ["CAP01", "ZZZ01"]
    assert codes(examined(rule("ZZZ01", finding(), stage=60), later).findings) == ["CAP01", "ZZZ01"]


def test_a_symptom_learns_its_cause_and_the_cause_its_symptom():
    result = examined(
        rule("OBJ01", finding(), explains=("POS01", "GEN01")),
        rule("POS01", finding(), kind="symptom", stage=90),
    )
    cause, symptom = result.findings
    assert cause.explains == ("POS01",)  # GEN01 was not found
    assert symptom.finding.explained_by == ("OBJ01",)


def test_a_symptom_nobody_explains_stands_alone():
    result = examined(rule("OBJ01"), rule("POS01", finding(), kind="symptom", stage=90))
    assert codes(result.findings) == ["POS01"]
    assert result.findings[0].finding.explained_by == ()
    assert result.verdict == "sick"


def test_what_a_finding_explains_is_not_measured():
    result = examined(
        rule("AAA01", stage=1, requires=("ZZZ01",)),  # requires goes before stage
        rule("ZZZ01", finding(), stage=50),
    )
    assert [(s.code, s.reason) for s in result.skipped] == [("AAA01", "explained by ZZZ01")]


def test_a_deselected_requirement_counts_as_absent():
    rules = rule("AAA01", requires=("ZZZ01",)), rule("ZZZ01", finding())
    result = examined(*rules, ignore=["ZZZ"])
    assert codes(result.passed) == ["AAA01"]
    assert result.verdict == "healthy"


@pytest.mark.parametrize(
    ("select", "ignore", "run"),
    [
        (None, None, ["DAT01", "OBJ01", "OBJ02"]),
        (["OBJ"], None, ["OBJ01", "OBJ02"]),
        (["OBJ", "DAT01"], ["OBJ02"], ["DAT01", "OBJ01"]),
    ],
)
def test_select_and_ignore_take_prefixes(select, ignore, run):
    result = examined(rule("DAT01"), rule("OBJ01"), rule("OBJ02"), select=select, ignore=ignore)
    assert codes(result.passed) == run


def test_healthy_when_every_deciding_rule_ran():
    result = examined(
        rule("OBJ01"),
        rule("TRN04", Skipped("no held-out data")),  # its family does not decide
        rule("OUT04", Skipped("does not apply: the scale is fixed")),
    )
    assert (result.verdict, result.reason) == ("healthy", "")


def test_a_remark_does_not_make_it_sick():
    assert examined(rule("CAP03", finding("info"))).verdict == "healthy"


def missing_check(missing: Missing) -> Verdict:
    raise AssertionError


def test_inconclusive_says_what_was_not_judged_and_why():
    unmeasured = {"check": staticmethod(missing_check)}
    result = examined(rule("OBJ01", **unmeasured), rule("OBJ02", **unmeasured), rule("DAT01"))
    assert result.verdict == "inconclusive"
    assert result.reason == "OBJ01, OBJ02 not judged: no recorded step has a loss"


def test_nothing_checked_is_not_healthy():
    result = examined(rule("OUT04", Skipped("does not apply: no decoder")))
    assert (result.verdict, result.reason) == ("inconclusive", "no check could be run")


def test_limits_of_the_subject_forbid_a_clean_bill_of_health():
    result = examined(rule("OBJ01"), limits=["the loss leaves torch in numpy"])
    assert result.verdict == "inconclusive"
    assert "leaves torch" in result.reason
    assert examined(rule("OBJ01", finding()), limits=["x"]).verdict == "sick"


def broken_check() -> Verdict:
    raise KeyError("beta")


def test_an_error_of_ours_is_a_skip_not_a_traceback():
    result = examined(rule("OBJ01", check=staticmethod(broken_check)))
    assert result.skipped[0].reason == "OBJ01: internal error KeyError('beta')"
    assert result.verdict == "inconclusive"


def test_the_record_is_schema_1():
    ill = finding(where=Where("train.py", 17), nats=34.1, remedies=(Remedy("sum", "how"),))
    record = examined(rule("OBJ02", ill, name="ReductionMismatch"), rule("DAT01")).to_dict()
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert record["schema"] == 1
    assert record["subject"] == {"script": "train.py", "data": {"shape": [1, 28, 28]}}
    evidence = {"what": "x", "measured": 2.0, "op": ">", "limit": 1.0, "because": "a test"}
    assert record["findings"] == [
        {
            "code": "OBJ02",
            "name": "reduction-mismatch",
            "kind": "cause",
            "severity": "error",
            "confidence": 0.9,
            "summary": "It is ill.",
            "evidence": [evidence],
            "where": {"file": "train.py", "line": 17},
            "explains": [],
            "explained_by": [],
            "nats": 34.1,
            "remedies": [{"name": "sum", "how": "how", "safety": "retrain"}],
            "page": "whyvae explain OBJ02",
        }
    ]
    assert record["passed"] == [{"code": "DAT01", "evidence": [evidence | {"measured": 0.0}]}]
    assert record["cost"].keys() >= {"training_s", "watching_s", "examining_s", "treating_s"}


def test_json_has_no_nan():
    nan = Finding((Evidence("loss", float("nan"), LIMIT),), "NaN.", "error", 1.0)
    record = examined(rule("TRN01", nan)).to_dict()
    assert record["findings"][0]["evidence"][0]["measured"] == "nan"
    json.dumps(record, allow_nan=False)
