import io
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import pytest
from rich.console import Console

import whyvae
from whyvae import cli, pages
from whyvae.demo import CASES, Case, Outcome, _first_sentence, _told, examples_folder
from whyvae.examine import examine
from whyvae.rule import Rule
from whyvae.verdict import Finding, Healthy


@dataclass
class Ran:
    """Stands for watch.script.RunOutcome."""

    subject: Any
    unbegun: Any = None
    reason: str = ""
    exit_code: int | None = None
    error: BaseException | None = None
    interrupted: bool = False


@pytest.fixture
def script(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "train.py"
    path.write_text("print('epoch 1')\n")
    return path.name


@pytest.fixture
def room(monkeypatch):
    """A watch room that runs nothing: calls are recorded, and `ran` is what it answers."""
    subject = SimpleNamespace(facts=lambda: {"script": "train.py"}, limits=list, cost={})
    stub = SimpleNamespace(calls=[], ran=Ran(subject), rules={"OBJ01": rule(Healthy())})

    def run_script(target, args, *, module, steps, seed):
        stub.calls.append((target, args, module, steps, seed))
        sys.stdout.write("the script prints\n")
        return stub.ran

    module = ModuleType("whyvae.watch.script")
    module.run_script = run_script
    monkeypatch.setitem(sys.modules, "whyvae.watch.script", module)
    monkeypatch.setattr(
        "whyvae.api.examine",
        lambda subject, select, ignore, bench=None: examine(subject, select, ignore, rules=stub.rules),
    )
    return stub


def rule(verdict):
    body = {"code": "OBJ01", "stage": 1, "check": staticmethod(lambda: verdict)}
    return type("KLOverweight", (Rule,), body)


def ill():
    return rule(Finding((), "The KL weighs too much.", "error", 0.9))


def loaded_modules(*arguments):
    code = (
        "import sys\nfrom whyvae.cli import main\n"
        f"try: main({list(arguments)!r})\nexcept SystemExit: pass\n"
        "print(*sorted(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stderr.split()


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["rules"], ["explain", "X"]])
def test_no_torch_is_loaded_for(arguments):
    modules = loaded_modules(*arguments)
    assert "whyvae.cli" in modules
    assert "torch" not in modules


def test_public_names_are_lazy_and_survive_their_modules():
    assert set(whyvae.__all__) <= {"__version__", *dir(whyvae)}
    assert callable(whyvae.examine)
    assert callable(whyvae.run)
    assert whyvae.examine.examine is examine  # the room, and the function people call
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        whyvae.nothing  # noqa: B018


@pytest.mark.parametrize(
    ("argv", "own", "target"),
    [
        ("run a.py", "run", "a.py"),
        ("run --steps 3 a.py --lr 1", "run --steps 3", "a.py --lr 1"),
        ("run --steps=3 --quiet a.py --json x -- y", "run --steps=3 --quiet", "a.py --json x -- y"),
        ("run -- a.py -- x", "run", "a.py -- x"),
        ("run --json - a.py", "run --json -", "a.py"),
        ("run -q -m pkg.mod --help", "run -q -m", "pkg.mod --help"),
        ("run --help", "run --help", ""),
        ("explain OBJ01", "explain OBJ01", ""),
    ],
)
def test_what_follows_the_script_belongs_to_it(argv, own, target):
    assert cli.split(argv.split()) == (own.split(), target.split())


@pytest.mark.parametrize(
    ("target", "content", "says"),
    [
        ("missing.py", None, "does not exist"),
        ("notebook.ipynb", b"{}", "is no notebook"),
        (".", None, "is a directory"),
        ("broken.py", b"x = = 1\n", "broken.py:1 is not Python: invalid syntax"),
        ("weights.pt", bytes(range(256)), "is not"),
    ],
)
def test_what_cannot_be_run_costs_one_line(target, content, says, script, capsys):
    if content is not None:
        Path(target).write_bytes(content)
    assert cli.main(["run", target]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert says in err
    assert err.count("\n") == 1


def test_a_module_that_is_not_there(capsys):
    assert cli.main(["run", "-m", "no_such_module_of_ours"]) == 2
    assert "no module named 'no_such_module_of_ours'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "argv",
    [["run"], ["run", "-m"], ["run", "--steps", "0", "a.py"], ["run", "--select", "XYZ", "a.py"]],
)
def test_bad_usage_is_2(argv, capsys):
    with pytest.raises(SystemExit) as exit_:
        cli.main(argv)
    assert exit_.value.code == 2
    assert "error" in capsys.readouterr().err


def test_options_and_arguments_arrive(script, room):
    assert cli.main(["run", "--steps", "5", "--seed", "1", script, "--lr", "--", "x"]) == 0
    assert room.calls == [("train.py", ["--lr", "--", "x"], False, 5, 1)]


def test_findings_are_1_and_the_record_is_kept(script, room, tmp_path, capsys):
    room.rules = {"OBJ01": ill()}
    assert cli.main(["run", "--json", "x.json", script]) == 1
    assert "SICK  repair OBJ01 kl-overweight first" in capsys.readouterr().out
    (kept,) = tmp_path.glob("whyvae-runs/train-*/record.json")
    assert json.loads(kept.read_text()) == json.loads((tmp_path / "x.json").read_text())


def test_json_on_stdout_is_alone_there(script, room, capsys):
    room.rules = {"OBJ01": ill()}
    assert cli.main(["run", "--json", "-", script]) == 1
    out, err = capsys.readouterr()
    assert json.loads(out)["verdict"] == "sick"
    assert "the script prints" in err
    assert "SICK" in err


def test_quiet_is_the_verdict_line(script, room, capsys):
    assert cli.main(["run", "--quiet", script]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == ["HEALTHY: nothing found that keeps this VAE from generating"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"subject": None, "reason": "no noise was drawn"}, "no noise was drawn"),
        ({"error": ValueError("x")}, "the script was stopped by ValueError"),
        ({"exit_code": 3}, "the script exited with status 3"),
    ],
)
def test_what_was_not_examined_to_the_end_is_2(script, room, capsys, change, says):
    vars(room.ran).update(change)
    assert cli.main(["run", script]) == 2
    err = capsys.readouterr().err
    assert says in err
    assert err.count("\n") == 1


def test_inconclusive_is_2_with_its_reason_and_the_report(script, room, capsys):
    room.ran.subject.limits = lambda: ["the loss leaves torch"]
    assert cli.main(["run", script]) == 2
    out, err = capsys.readouterr()
    assert "INCONCLUSIVE" in out
    assert err == "whyvae: inconclusive: the loss leaves torch\n"


def test_a_folder_that_cannot_be_written_costs_no_verdict(script, room, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert cli.main(["run", "--out", "file", script]) == 0
    assert "could not be written" in capsys.readouterr().err


def test_our_own_error_is_one_line(script, room, capsys, monkeypatch):
    room.ran.subject.facts = lambda: 1 / 0
    assert cli.main(["run", script]) == 2
    assert "internal error: ZeroDivisionError" in capsys.readouterr().err
    monkeypatch.setenv("WHYVAE_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        cli.main(["run", script])


@pytest.fixture
def page(monkeypatch):
    text = "# kl-overweight (OBJ01)\n\nThe KL weighs too much.\n\n## Why generation fails\n"
    page = pages.Page("OBJ01", "kl-overweight", "objective", "The KL weighs too much.", text)
    monkeypatch.setattr(pages, "pages", lambda: {"OBJ01": page})
    return page


@pytest.mark.parametrize("query", ["OBJ01", "obj01", "kl-overweight", "KL_Overweight"])
def test_explain_by_code_or_name(page, query, capsys):
    assert cli.main(["explain", query]) == 0
    assert capsys.readouterr().out == page.text


@pytest.mark.parametrize(("query", "hint"), [("OBJ02", "OBJ01"), ("kl-overwieght", "kl-overweight (OBJ01)")])
def test_explain_suggests(page, query, hint, capsys):
    assert cli.main(["explain", query]) == 2
    err = capsys.readouterr().err
    assert hint in err
    assert err.count("\n") == 1


def test_rules_lists_pages(page, capsys):
    assert cli.main(["rules"]) == 0
    assert "kl-overweight" in capsys.readouterr().out


def test_demo_expects_the_four_cases():
    assert {case.expected for case in CASES} == {"OBJ01", "OUT01", "CAP02", "healthy"}
    cure = {"verified": True, "verdict_after": "healthy", "patch": "fix.patch"}
    assert Outcome(Case("a.py", "OBJ01", ""), "OBJ01", {"cure": cure}).as_expected
    assert not Outcome(Case("a.py", "OBJ01", ""), "OBJ01", {"cure": {**cure, "verified": False}}).as_expected
    assert not Outcome(Case("a.py", "OBJ01", ""), "OBJ01").as_expected
    assert Outcome(Case("a.py", "healthy", ""), "healthy", {"cure": {}}).as_expected
    assert not Outcome(Case("a.py", "healthy", ""), "inconclusive").as_expected


def test_demo_has_its_scripts():
    folder = examples_folder()
    assert folder is not None
    for case in CASES:
        text = (folder / case.script).read_text()
        assert "whyvae" not in text
        assert _first_sentence(folder / case.script).startswith("I want ")


class TestWhatTheDemoTells:
    """The record of a script, as a newcomer reads it."""

    EVIDENCE: ClassVar = {
        "what": "KL weight", "measured": 100.0, "op": ">", "limit": 3.34, "because": "it collapses",
    }  # fmt: skip
    LEAD: ClassVar = {
        "code": "OBJ01", "name": "kl-overweight", "severity": "error", "summary": "Too heavy.",
        "evidence": [EVIDENCE], "where": {"file": "a.py", "line": 2},
        "remedies": [{"name": "weigh it less", "how": "1 * kl"}], "page": "whyvae explain OBJ01",
    }  # fmt: skip

    CURE: ClassVar = {
        "rounds": [{"name": "kl_weight", "how": "the KL counts 0.01 times as much", "trial": {
            "metric": "likeness", "before": 0.2, "after": 0.82, "ci95": [0.8, 0.84], "verified": True}}],
        "verdict_after": "healthy", "left": [], "stopped": "",
        "diff": "--- a/a.py\n+++ b/a.py\n-loss = r + 100 * kl\n+loss = r + 1 * kl\n",
    }  # fmt: skip

    def told(self, tmp_path, record):
        (tmp_path / "a.py").write_text("# a\nloss = r + 100 * kl\n")
        outcome = Outcome(Case("a.py", "OBJ01", ""), "OBJ01", record, "it crashed")
        console = Console(width=100, file=io.StringIO())
        console.print(_told(outcome, tmp_path))
        return console.file.getvalue()

    def test_of_a_sick_script(self, tmp_path):
        text = self.told(tmp_path, {"verdict": "sick", "findings": [self.LEAD], "cure": self.CURE})
        assert "SICK  OBJ01 kl-overweight" in text
        assert "KL weight: 100 (ill above 3.34)" in text
        assert "a.py:2  loss = r + 100 * kl" in text
        assert "kl_weight: the KL counts 0.01 times as much" in text
        assert "likeness: 0.2 -> 0.82 (95 %: 0.80 to 0.84)  verified" in text
        assert "the patched script is healthy" in text
        assert "+loss = r + 1 * kl" in text

    def test_of_a_script_that_was_not_cured(self, tmp_path):
        cure = {**self.CURE, "rounds": [], "stopped": "the budget is spent", "verdict_after": None, "diff": ""}
        assert "none: the budget is spent" in self.told(
            tmp_path, {"verdict": "sick", "findings": [self.LEAD], "cure": cure}
        )

    def test_of_a_healthy_script(self, tmp_path):
        record = {"verdict": "healthy", "findings": [], "passed": [1, 2], "skipped": [3]}
        text = self.told(tmp_path, record)
        assert "HEALTHY" in text
        assert "2 diagnoses ruled out, 1 skipped" in text

    def test_of_a_script_without_a_record(self, tmp_path):
        assert "none: it crashed" in self.told(tmp_path, None)
