"""`whyvae fix` on real scripts, in processes, to the end."""

import json
import os
import subprocess
import sys

import pytest

from whyvae import cli

SCRIPT = '''
"""Rows of twelve numbers from three hidden ones; the weight of the KL is filled in."""
import os
import torch
from torch import nn

torch.manual_seed(0)
x = torch.tanh(torch.randn(600, 3) @ torch.randn(3, 12)) + 0.1 * torch.randn(600, 12)
net = nn.ModuleDict({
    "encoder": nn.Sequential(nn.Linear(12, 64), nn.ReLU(), nn.Linear(64, 8)),
    "decoder": nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 12)),
})
optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
for step in range(700):
    rows = x[torch.randint(600, (64,))]
    mu, logvar = net["encoder"](rows).chunk(2, 1)
    out = net["decoder"](mu + torch.randn_like(mu) * (logvar / 2).exp())
    recon = ((out - rows) ** 2).sum(1)
    kl = 0.5 * (mu ** 2 + logvar.exp() - 1 - logvar).sum(1)
    loss = (recon + BETA * kl).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
torch.save(net.state_dict(), "model.pt")
open("log.txt", "a").write("trained\\n")
os.remove("old.txt") if os.path.exists("old.txt") else None
'''


@pytest.fixture
def home(tmp_path):
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / "model.pt").write_bytes(b"the user's model")
    (folder / "log.txt").write_text("first\n")
    (folder / "old.txt").write_text("keep me")
    return folder


def fix(home, text, *options):
    (home / "train.py").write_text(text)
    runs = home.parent / "runs"
    command = [sys.executable, "-m", "whyvae", "fix", "--out", str(runs), "--json", str(home.parent / "record.json")]
    done = subprocess.run(
        [*command, *options, "train.py"], cwd=home, capture_output=True, text=True, check=False, timeout=900,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    record = json.loads((home.parent / "record.json").read_text())
    return done, record, next(runs.iterdir())


def contents(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir()}


@pytest.mark.slow
def test_a_heavy_kl_is_cured_and_no_file_touched(home):
    (home / "train.py").write_text(SCRIPT.replace("BETA", "30"))
    before = contents(home)
    done, record, run = fix(home, SCRIPT.replace("BETA", "30"))
    assert contents(home) == before
    assert done.returncode == 1, done.stderr  # the file itself is as it was
    assert record["findings"][0]["code"] == "OBJ01"
    cure = record["cure"]
    assert cure["verified"]
    assert cure["verdict_after"] == "healthy"
    low, high = cure["rounds"][0]["trial"]["ci95"]
    assert cure["rounds"][0]["trial"]["control"] < low < high
    assert (run / "fix.patch").is_file()
    subprocess.run(["git", "apply", "--check", str(run / "fix.patch")], cwd=home, check=True)  # noqa: S607
    assert (run / "control/files").is_dir()  # what the script wrote lies here


@pytest.mark.slow
def test_apply_writes_the_patched_script(home):
    done, record, _ = fix(home, SCRIPT.replace("BETA", "30"), "--apply", "--quiet")
    assert record["cure"]["applied"]
    assert done.returncode == 0, done.stderr
    assert "30 * kl" not in (home / "train.py").read_text()


@pytest.mark.slow
def test_nothing_is_cured_on_a_healthy_script(home):
    done, record, run = fix(home, SCRIPT.replace("BETA", "0.05"))
    assert done.returncode == 0, done.stdout
    assert record["verdict"] == "healthy"
    assert record["cure"]["rounds"] == []
    assert not (run / "fix.patch").exists()


@pytest.mark.slow
def test_a_broken_off_fix_goes_on(home):
    text = SCRIPT.replace("BETA", "30")
    _, first, run = fix(home, text)
    times = {p: p.stat().st_mtime_ns for p in run.glob("*/result.json")}
    (run / "placebo/result.json").unlink()
    done, again, _ = fix(home, text, "--resume", str(run))
    assert done.returncode == 1
    assert again["cure"]["rounds"] == first["cure"]["rounds"]
    kept = {p: p.stat().st_mtime_ns for p in run.glob("*/result.json")}
    assert {p for p in times if times[p] != kept[p]} == {run / "placebo/result.json"}


@pytest.mark.parametrize("text", ["0", "-1", "many", "nans", "5m"])
def test_a_budget_that_is_none(text, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["fix", "--budget", text, "a.py"])
    assert stop.value.code == 2
    assert "budget" in capsys.readouterr().err


def test_a_missing_script_is_one_line(capsys):
    assert cli.main(["fix", "nowhere.py"]) == 2
    assert capsys.readouterr().err == "whyvae: nowhere.py does not exist\n"


def test_a_folder_to_resume_must_be_one(tmp_path, capsys):
    script = tmp_path / "a.py"
    script.write_text("pass")
    assert cli.main(["fix", "--resume", str(tmp_path), str(script)]) == 2
    assert "no folder of an earlier fix" in capsys.readouterr().err


def test_the_scripts_own_options_stay_its_own():
    assert cli.split(["fix", "--apply", "--budget", "2", "a.py", "--budget", "9"])[1] == ["a.py", "--budget", "9"]
