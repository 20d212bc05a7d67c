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
# One worker a specimen: it is trained and examined once, whatever asks for it.
EACH = [pytest.param(code, marks=pytest.mark.xdist_group(code)) for code in RULES]
CAUSES = [p for p in EACH if RULES[p.values[0]].kind == "cause"]
EXEMPT = [pytest.param(*pair, marks=pytest.mark.xdist_group(pair[0])) for pair in sorted(
    (code, other) for code, rule in RULES.items() for other in rule.beside
)]  # fmt: skip


@cache
def examined(code: str) -> Examination:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WHYVAE_DEBUG", "1")  # an error of our own is shown, and skips no rule
        return examine(RULES[code].specimen())


@cache
def healthy(seed: int) -> Examination:
    return examine(Patient(seed=seed).train())


@pytest.mark.parametrize("code", EACH)
def test_fires_on_its_own_specimen_and_shows_why(code: str) -> None:
    examination = examined(code)
    found = {f.code: f for f in examination.findings}
    assert code in found, [p for p in (*examination.passed, *examination.skipped) if p.code == code]
    evidence = found[code].finding.evidence
    assert any(e.incriminating for e in evidence)


@pytest.mark.parametrize("code", CAUSES)
def test_leads_its_own_specimen(code: str) -> None:
    assert examined(code).findings[0].code == code


@pytest.mark.parametrize("code", EACH)
def test_accuses_nobody_else(code: str) -> None:
    causes = {f.code for f in examined(code).findings if f.kind == "cause"} - {code}
    assert causes - set(RULES[code].beside) == set()


@pytest.mark.parametrize(("specimen", "other"), EXEMPT)
def test_every_exemption_is_needed(specimen: str, other: str) -> None:
    assert other in {f.code for f in examined(specimen).findings}


@pytest.mark.parametrize("seed", [0, 1])
def test_healthy_patients_are_called_healthy(seed: int) -> None:
    examination = healthy(seed)
    assert examination.verdict == "healthy", [f.code for f in examination.findings]


@pytest.mark.parametrize("code", EACH)
def test_has_a_page_that_says_what_the_rule_says(code: str) -> None:
    page = pages()[code]
    assert page.name == RULES[code].name()
    assert page.sentence == RULES[code].__doc__
    assert all(f"\n## {heading}\n" in page.text for heading in HEADINGS)
