"""Every broken script has a patch, and the patched script no longer has the cause it was made for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from whyvae.examine import examine
from whyvae.probe import Bench
from whyvae.treat.case import Case
from whyvae.treat.remedy import NoEdit, all_remedies, proposals
from whyvae.watch.script import run_script

ROOT = Path(__file__).parents[2]
BROKEN = sorted(p for p in (ROOT / "tests" / "scripts" / "broken").glob("*.py") if ".fixed" not in p.name)
EXAMPLES = [
    ROOT / "examples" / f"{name}.py" for name in ("kl_weight_100", "sigmoid_on_pixels_0_255", "sixteen_neurons")
]

# Nothing in such a script says how its prior is drawn from: a snippet is shown.
NO_SOURCE_FORM = {"GEN02_vamp_drawn_from_normal"}


def diagnosed(script: Path) -> Case:
    subject = run_script(str(script), []).subject
    bench = Bench(subject)
    return Case(script, [], subject, bench, examine(subject, bench=bench))


def verdict(script: Path, folder: Path) -> tuple[str, set[str]]:
    """(verdict, codes found) of a script, in a process of its own."""
    record = folder / "record.json"
    command = [
        sys.executable,
        "-m",
        "whyvae",
        "run",
        "--quiet",
        "--no-html",
        "--out",
        str(folder),
        "--json",
        str(record),
    ]
    subprocess.run([*command, str(script)], cwd=folder, capture_output=True, check=False, env=os.environ)
    found = json.loads(record.read_text())
    return found["verdict"], {f["code"] for f in found["findings"] if f["severity"] != "info"}


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(
    "script", [p for p in (*EXAMPLES, *BROKEN) if p.stem not in NO_SOURCE_FORM], ids=lambda p: p.stem
)
def test_a_patch_takes_its_cause_away(tmp_path, script):
    case = diagnosed(script)
    cause = case.first_cause
    assert cause is not None
    tried = []
    for treatment in proposals(case):
        try:
            edited = all_remedies()[treatment.remedy].edit(case, treatment.settings)
        except NoEdit:
            continue
        (path, text), *more = edited.items()
        assert not more
        assert Path(path) == script
        patched = tmp_path / script.name
        patched.write_text(text, encoding="utf-8")
        said, codes = verdict(patched, tmp_path)
        tried.append((treatment.remedy, said, codes))
        if cause.code not in codes:
            return
    pytest.fail(f"{cause.code}: {tried}")


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(NO_SOURCE_FORM))
def test_where_nothing_can_be_edited_a_snippet_is_shown(name):
    case = diagnosed(ROOT / "tests" / "scripts" / "broken" / f"{name}.py")
    (treatment,) = proposals(case)
    with pytest.raises(NoEdit) as no:
        all_remedies()[treatment.remedy].edit(case, treatment.settings)
    assert "GaussianMixture" in no.value.snippet
