import copy
import json
import subprocess
import sys

import pytest

from whyvae.report import Report
from whyvae.report.terminal import verdict_line

EVIDENCE = {
    "what": "noise variance the loss implies",
    "measured": 392.0,
    "op": ">",
    "limit": 5.31,
    "because": "largest eigenvalue of the data covariance: above it collapse is the optimum",
}
CAUSE = {
    "code": "OBJ02",
    "name": "reduction-mismatch",
    "kind": "cause",
    "severity": "error",
    "confidence": 0.99,
    "summary": "The reconstruction is averaged, the KL is summed: the KL weighs 784 times more.",
    "evidence": [EVIDENCE],
    "where": {"file": "train.py", "line": 17},
    "explains": ["POS01"],
    "explained_by": [],
    "nats": 34.1,
    "remedies": [{"name": "sum-over-features", "how": "bce(x_hat, x, reduction='sum')", "safety": "retrain"}],
    "page": "whyvae explain OBJ02",
}
SYMPTOM = CAUSE | {
    "code": "POS01",
    "name": "posterior-collapse",
    "kind": "symptom",
    "summary": "20 of 20 latent units carry nothing.",
    "explains": [],
    "explained_by": ["OBJ02"],
    "where": None,
    "nats": None,
    "remedies": [],
}
RECORD = {
    "schema": 1,
    "whyvae": "0.1.0",
    "verdict": "sick",
    "reason": "",
    "limits": [],
    "subject": {
        "script": "train.py",
        "model": "VAE",
        "posterior": "diagonal Gaussian, 20 units",
        "likelihood": "Bernoulli (BCE)",
        "noise_variance": 392.0,
        "data": {"shape": [1, 28, 28], "range": [0, 1]},
    },
    "findings": [CAUSE, SYMPTOM],
    "passed": [{"code": "DAT01", "evidence": []}] * 31,
    "skipped": [
        {"code": "CAP01", "reason": "explained by OBJ02"},
        {"code": "TRN06", "reason": "does not apply: no batch norm"},
    ],
    "cost": {"training_s": 21.0, "watching_s": 0.2, "examining_s": 6.1, "treating_s": 0.0},
}
HEALTHY = RECORD | {"verdict": "healthy", "findings": []}


def test_one_screen_tells_what_why_where_and_what_to_do(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text("\n" * 16 + "loss = bce + kl\n")
    text = str(Report(RECORD))
    for part in (
        "SICK  repair OBJ02 reduction-mismatch first",
        "diagonal Gaussian, 20 units · Bernoulli (BCE)",
        "beta = 392 · data 1 x 28 x 28 in [0, 1]",
        "confidence 99%, costs 34.1 nats per example",
        "> 5.31",
        "train.py:17    loss = bce + kl",
        "1. sum-over-features: bce(x_hat, x, reduction='sum')",
        "whyvae explain OBJ02",
        "explained by OBJ02: 20 of 20 latent units carry nothing.",
        "31 checks passed, 2 skipped (1 explained by what was found, 1 do not apply)",
        "training 21.0 s, watching 0.2 s, examining 6.1 s",
    ):
        assert part in text


def test_the_worst_still_fits_100_by_40():
    worst = copy.deepcopy(RECORD)
    long = "a long sentence that says everything " * 4
    cause = CAUSE | {
        "summary": long,
        "evidence": [EVIDENCE | {"because": long[:80]}] * 9,
        "remedies": [{"name": "patch", "how": "- a\n+ b\n" * 9, "safety": "certain"}] * 2,
    }
    worst["findings"] = [cause, *[SYMPTOM] * 12]
    lines = str(Report(worst)).splitlines()
    assert len(lines) <= 40
    assert max(len(line) for line in lines) <= 100
    assert "and 7 more" in "\n".join(lines)


def test_an_ordinary_one_fits_the_screen():
    assert len(str(Report(RECORD)).splitlines()) <= 30


def test_yes_or_no_evidence_shows_words_not_numbers():
    sick = copy.deepcopy(RECORD)
    yes_no = EVIDENCE | {"measured": 0.0, "op": "<", "limit": 0.5, "text": "no noise is drawn"}
    sick["findings"][0]["evidence"] = [yes_no]
    text = str(Report(sick))
    assert "no noise is drawn" in text
    assert "< 0.5" not in text


def test_numbers_json_cannot_hold_are_read_back():
    sick = copy.deepcopy(RECORD)
    sick["findings"][0]["evidence"][0]["measured"] = "nan"
    assert "nan" in str(Report(sick))


def test_a_remark_does_not_lead():
    remark = CAUSE | {"code": "CAP03", "severity": "info"}
    text = str(Report(RECORD | {"findings": [remark, CAUSE]}))
    assert "repair OBJ02" in text


@pytest.mark.parametrize(
    ("record", "line"),
    [
        (RECORD, f"SICK: OBJ02 reduction-mismatch at train.py:17: {CAUSE['summary']}"),
        (HEALTHY, "HEALTHY: nothing found that keeps this VAE from generating"),
        (
            HEALTHY | {"verdict": "inconclusive", "reason": "OBJ01 not judged: no loss seen"},
            "INCONCLUSIVE: OBJ01 not judged: no loss seen",
        ),
    ],
)
def test_the_verdict_in_one_line_and_in_the_headline(record, line):
    assert verdict_line(record) == line
    assert line.partition(":")[0] in str(Report(record)).splitlines()[1]


def test_markup_in_a_users_text_is_text():
    record = copy.deepcopy(RECORD)
    record["findings"][0]["summary"] = "x[/bold] in [red]"
    assert "x[/bold] in [red]" in str(Report(record))


def test_sarif_points_at_the_line(tmp_path):
    Report(RECORD).to_sarif(tmp_path / "out.sarif")
    log = json.loads((tmp_path / "out.sarif").read_text())
    run = log["runs"][0]
    assert log["version"] == "2.1.0"
    assert [rule["id"] for rule in run["tool"]["driver"]["rules"]] == ["OBJ02", "POS01"]
    place = run["results"][0]["locations"][0]["physicalLocation"]
    assert place == {"artifactLocation": {"uri": "train.py"}, "region": {"startLine": 17}}
    assert run["results"][0]["level"] == "error"
    assert "locations" not in run["results"][1]


def test_notebook_and_html(tmp_path):
    Report(HEALTHY).to_html(tmp_path / "report.html")
    assert "HEALTHY" in (tmp_path / "report.html").read_text()
    assert Report(RECORD)._repr_html_().startswith("<pre")


def test_rendering_loads_no_torch():
    code = "import sys; from whyvae.report.terminal import to_text; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
