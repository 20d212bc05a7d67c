"""Each rule on its own specimen, on all others, and on healthy patients. Specimens are trained once a session."""

from __future__ import annotations

from functools import cache

import pytest

from whyvae.examine import examine
from whyvae.pages import HEADINGS, pages
from whyvae.record import Examination
from whyvae.rule import all_rules
from whyvae.testing import Patient

RULES = all_rules()

# (specimen, finding) that may stand together, and why
TOGETHER = {
    ("POS01", "OBJ01"): "a collapsed posterior needs a cause; the smallest is a heavy KL",
}


@cache
def examined(code: str) -> Examination:
    return examine(RULES[code].specimen())


@cache
def healthy(seed: int) -> Examination:
    return examine(Patient(seed=seed).train())


@pytest.mark.parametrize("code", RULES)
def test_fires_on_its_own_specimen_and_shows_why(code: str) -> None:
    found = {f.code: f for f in examined(code).findings}
    assert code in found
    evidence = found[code].finding.evidence
    assert any(e.incriminating for e in evidence)


@pytest.mark.parametrize("code", [c for c in RULES if RULES[c].kind == "cause"])
def test_leads_its_own_specimen(code: str) -> None:
    assert examined(code).findings[0].code == code


@pytest.mark.parametrize("code", RULES)
def test_accuses_nobody_else(code: str) -> None:
    causes = {f.code for f in examined(code).findings if f.kind == "cause"} - {code}
    assert {c for c in causes if (code, c) not in TOGETHER} == set()


def test_every_exemption_is_needed() -> None:
    for specimen, other in TOGETHER:
        assert other in {f.code for f in examined(specimen).findings}


@pytest.mark.parametrize("seed", [0, 1])
def test_healthy_patients_are_called_healthy(seed: int) -> None:
    examination = healthy(seed)
    assert examination.verdict == "healthy", [f.code for f in examination.findings]


@pytest.mark.parametrize("code", RULES)
def test_has_a_page_that_says_what_the_rule_says(code: str) -> None:
    page = pages()[code]
    assert page.name == RULES[code].name()
    assert page.sentence == RULES[code].__doc__
    assert all(f"\n## {heading}\n" in page.text for heading in HEADINGS)
