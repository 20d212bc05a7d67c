"""`whyvae run` end to end: the script finds the world it would find under `python`, and its end is answered for."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import whyvae
from whyvae.watch.script import run_script

SRC = Path(whyvae.__file__).parents[1]
pytestmark = pytest.mark.slow  # one process a test
NEEDS_SIGNALS = pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT to a child")

# A small VAE and its training; STEPS steps, with `x` and `model` left behind.
MODEL = """
import sys, os, warnings
import torch
from torch import nn
torch.manual_seed(0)
torch.set_num_threads(1)

class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(8, 16), nn.Tanh())
        self.head = nn.Linear(16, 4)
        self.decoder = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 8))

    def forward(self, x):
        mu, logvar = self.head(self.body(x)).chunk(2, 1)
        z = mu + torch.randn_like(mu) * (0.5 * logvar).exp()
        return self.decoder(z), mu, logvar

def loss_of(model, x, weight=1.0):
    y, mu, logvar = model(x)
    kl = -0.5 * torch.sum(1 + logvar - mu ** 2 - logvar.exp())
    return ((y - x).pow(2).sum() / 0.2 + weight * kl) / len(x)

x = torch.randn(256, 2) @ torch.randn(2, 8) + 0.3 * torch.randn(256, 8)
"""
TRAINING = """
model = VAE()
optimizer = torch.optim.Adam(model.parameters(), 1e-2)
def train(steps=STEPS, weight=1.0):
    for step in range(steps):
        optimizer.zero_grad()
        loss = loss_of(model, x[torch.randperm(256)[:64]], weight)
        loss.backward()
        optimizer.step()
"""
SCRIPT = MODEL + TRAINING
ILL = 500.0  # weight of the KL at which nothing but its overweight is to be said
SICK = SCRIPT + f"train(weight={ILL})\n"


class Ran:
    def __init__(self, done, folder):
        self.code, self.out, self.err, self.folder = done.returncode, done.stdout, done.stderr, folder

    @property
    def record(self):
        return json.loads((self.folder / "record.json").read_text())

    @property
    def complaint(self):
        """Our line on stderr, of which there must be one and no traceback of ours."""
        (line,) = [line for line in self.err.splitlines() if line.startswith("whyvae: ")]
        assert "internal error" not in line
        return line.removeprefix("whyvae: ")

    @property
    def was_seen(self):
        return self.record["subject"]["posterior"] == "diagonal Gaussian, 2 units"


@pytest.fixture
def start(tmp_path):
    """Start `whyvae run ...` in tmp_path after writing `source` to train.py."""

    def command(source, *arguments, steps=60, target=("train.py",), options=(), **keywords):
        if source is not None:
            (tmp_path / "train.py").write_text(source.replace("STEPS", str(steps)))
        environment = dict(os.environ, PYTHONPATH=str(SRC), OMP_NUM_THREADS="1", PYTHONWARNINGS="default")
        argv = [
            sys.executable, "-m", "whyvae", "run", "--quiet", "--json", "record.json", "--out", "runs",
            "--select", "OBJ", *options, *target, *arguments,
        ]  # fmt: skip
        return subprocess.Popen(
            argv, cwd=tmp_path, env=environment, text=True, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, **keywords,
        )  # fmt: skip

    return command


@pytest.fixture
def run(start, tmp_path):
    def finished(source, *arguments, stdin="", **keywords):
        with start(source, *arguments, **keywords) as process:
            out, err = process.communicate(stdin, timeout=120)
        done = subprocess.CompletedProcess([], process.returncode, out, err)
        assert "whyvae/watch" not in err
        return Ran(done, tmp_path)

    return finished


# ------------------------------------------------------------------ the end of a script, and ours
def test_healthy_ends_with_zero(run):
    ran = run(SCRIPT + "train()\n", steps=120)

    assert ran.code == 0
    assert ran.was_seen
    assert ran.record["verdict"] == "healthy"
    assert "whyvae" not in ran.err


def test_findings_end_with_one_and_their_line_is_short(run):
    ran = run(SICK)

    assert ran.code == 1
    (finding,) = [f for f in ran.record["findings"] if f["code"] == "OBJ01"]
    assert finding["where"]["file"] == "train.py"


def test_no_vae(run):
    ran = run(
        MODEL + "net = nn.Linear(8, 8)\noptimizer = torch.optim.SGD(net.parameters(), 0.1)\n"
        "for _ in range(5):\n    optimizer.zero_grad(); (net(x) - x).pow(2).mean().backward(); optimizer.step()\n"
    )

    assert ran.code == 2
    assert ran.complaint.startswith("could not examine train.py: no VAE was seen: ")


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("print('nothing to do')", "no training was seen"),
        (SCRIPT + "x = x[:0]\nfor batch in x.split(16):\n    pass\n", "no training was seen"),
        (SCRIPT + "for rows in torch.utils.data.DataLoader(x[:3], 16, drop_last=True):\n    1 / 0\n", "no training"),
    ],
)  # fmt: skip
def test_nothing_trained(run, source, says):
    ran = run(source)

    assert ran.code == 2
    assert says in ran.complaint


def test_a_script_that_raises_keeps_its_traceback_and_is_examined(run):
    ran = run(SCRIPT + f"train(weight={ILL})\ndef end():\n    raise KeyError('epoch 7')\nend()\n")

    assert ran.code == 1
    assert ran.was_seen
    assert ran.err.count("Traceback (most recent call last)") == 1
    assert "KeyError: 'epoch 7'" in ran.err
    assert "    end()\n" in ran.err
    assert "runpy" not in ran.err


@pytest.mark.parametrize(
    ("line", "is_one"),
    [
        ("torch.distributions.Normal(torch.zeros(2), torch.zeros(2))", True),
        ("assert torch.isfinite(torch.tensor(float('nan')))", True),
        ("raise RuntimeError('loss became nan')", True),
        ("raise ValueError('info file of the last run')", False),
    ],
)
def test_an_error_about_numbers_is_told_from_others(tmp_path, line, is_one):
    script = tmp_path / "train.py"
    script.write_text((SCRIPT + f"train()\n{line}\n").replace("STEPS", "8"))
    outcome = run_script(str(script), [])
    assert (outcome.subject.raised != "") is is_one


def test_a_script_that_raises_before_training(run):
    ran = run("import torch\nopen('absent.npy')\n")

    assert ran.code == 2
    assert "FileNotFoundError" in ran.err
    assert "no training was seen" in ran.complaint


def test_an_error_of_a_torch_function_on_a_recorded_step_shows_none_of_our_frames(run):
    ran = run(SCRIPT + "train(steps=2)\nloss_of(model, x).data[0]\n")

    assert "IndexError: invalid index of a 0-dim tensor" in ran.err
    assert "tape.py" not in ran.err


def test_an_error_that_passes_through_what_we_wrapped_shows_none_of_our_frames(run):
    ran = run(SCRIPT + "train()\nloss_of(model, x).detach().backward()\n")

    assert "does not require grad" in ran.err
    assert "watcher.py" not in ran.err


def test_a_healthy_script_that_raises_gets_no_clean_bill(run):
    ran = run(SCRIPT + "train()\nraise ValueError\n", steps=120)

    assert ran.code == 2
    assert ran.complaint == "nothing found, but the script was stopped by ValueError"


@pytest.mark.parametrize(
    ("ending", "code"),
    [("sys.exit(0)", 0), ("exit()", 0), ("sys.exit(3)", 2), ("sys.exit('bad')", 2)],
)  # fmt: skip
def test_how_a_script_exits(run, ending, code):
    ran = run(f"{SCRIPT}train()\n{ending}\n", steps=120)

    assert ran.code == code
    assert ran.was_seen
    assert ("bad" in ran.err.splitlines()) == ("bad" in ending)


def test_nan_data(run):
    ran = run(SCRIPT + "x[3, 2] = float('nan')\ntrain()\n", options=("--select", "TRN"))

    assert ran.code == 1
    assert ran.record["findings"][0]["code"].startswith("TRN")


def test_a_step_that_cannot_be_run_again(run):
    """A function that works once: the replay of the step fails, and says so in one line."""
    once = """
class Once(torch.autograd.Function):
    calls = 0
    @staticmethod
    def forward(ctx, a):
        Once.calls += 1
        if Once.calls > STEPS:
            raise RuntimeError("out of tickets")
        return a.clone()
    @staticmethod
    def backward(ctx, g):
        return g
model = VAE()
model.decoder.insert(0, type("Gate", (nn.Module,), {"forward": lambda self, z: Once.apply(z)})())
optimizer = torch.optim.Adam(model.parameters(), 1e-2)
for step in range(STEPS):
    optimizer.zero_grad()
    loss_of(model, x[:64]).backward()
    optimizer.step()
"""
    ran = run(MODEL + once)

    assert ran.code == 2
    assert "out of tickets" in ran.complaint
    assert "could not be run again" in ran.complaint


@NEEDS_SIGNALS
def test_control_c_in_the_middle_of_training(start, tmp_path):
    source = SCRIPT + f"train(weight={ILL})\nprint('ready', flush=True)\ntrain(10 ** 9, {ILL})\n"
    with start(source) as process:
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    ran = Ran(subprocess.CompletedProcess([], process.returncode, out, err), tmp_path)

    assert ran.code == 1
    assert ran.was_seen
    assert ran.complaint == "interrupted; what was trained until then is examined"
    assert "Traceback" not in err


def test_steps_ends_the_script(run):
    ran = run(SCRIPT + "train()\nprint('never')\n", steps=10**9, options=("--steps", "120"))

    assert ran.code == 0
    assert "never" not in ran.out
    assert ran.record["subject"]["steps"] == 120


# ------------------------------------------------------------------ the world of a script
WORLD = """
import os, sys, json
print(json.dumps([__name__, __file__, sys.argv, os.getcwd(), sys.path[0], sys.modules["__main__"].__file__,
                  __spec__ is None, __doc__, sorted(globals())]))
"""


def test_it_finds_what_python_gives(run, tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "train.py").write_text('"""Doc."""' + WORLD)
    ran = run(None, "--lr", "1", "--json", "-m", target=("sub/train.py",))
    argv = [sys.executable, "sub/train.py", "--lr", "1", "--json", "-m"]
    alone = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=True)

    assert json.loads(ran.out) == json.loads(alone.stdout)


def test_a_module_and_its_siblings(run, tmp_path):
    package = tmp_path / "pkg"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "model.py").write_text(MODEL)
    (package / "train.py").write_text(
        "from .model import *\nimport sys\n"
        "assert __name__ == '__main__' and __package__ == 'pkg' and sys.argv[1:] == ['--lr', '1']\n"
        + TRAINING.replace("STEPS", "60")
        + f"train(weight={ILL})\n"
    )
    ran = run(None, "--lr", "1", target=("-m", "pkg.train"))

    assert ran.code == 1
    assert ran.was_seen
    assert ran.record["findings"][0]["where"]["file"] == str(Path("pkg", "model.py"))


def test_a_sibling_module_of_a_script_elsewhere(run, tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "parts.py").write_text(MODEL)
    (tmp_path / "sub" / "train.py").write_text("from parts import *\n" + TRAINING.replace("STEPS", "60") + "train()\n")
    assert run(None, target=("sub/train.py",)).was_seen


def test_standard_input_is_the_scripts(run):
    assert run(SCRIPT + "assert input() == 'hello'\ntrain(int(input()))\n", stdin="hello\n60\n").was_seen


def test_it_may_change_directory_and_not_come_back(run, tmp_path):
    source = f"""
import tempfile
with tempfile.TemporaryDirectory() as folder:
    os.chdir(folder)
    train(weight={ILL})
    assert os.path.isfile(__file__)
    import inspect
    assert "def forward" in inspect.getsource(VAE)
    {"os.rmdir(folder)" if sys.platform != "win32" else "os.chdir('..')"}
    os.makedirs(folder, exist_ok=True)
"""
    ran = run(SCRIPT + source)

    assert ran.code == 1
    assert ran.record["findings"][0]["where"]["file"] == "train.py"
    assert list((tmp_path / "runs").glob("train-*/record.json"))


def test_a_saved_model_loads_without_us(run, tmp_path):
    ran = run(
        SCRIPT + "if __name__ == '__main__':\n    train()\n"
        "    torch.save(model, 'model.pt')\n    torch.save(optimizer, 'optimizer.pt')\n"
    )
    assert ran.was_seen
    (tmp_path / "load.py").write_text(
        "import sys\nsys.modules['whyvae'] = None  # as if it were not installed\n" + MODEL + "\n"
        "model = torch.load('model.pt', weights_only=False)\n"
        "torch.load('optimizer.pt', weights_only=False)\n"
        "print(type(model).__module__, model(x)[0].shape[0])\n"
    )
    loaded = subprocess.run([sys.executable, "load.py"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert loaded.stdout == "__main__ 256\n"
    for file in ("model.pt", "optimizer.pt"):
        assert b"whyvae" not in (tmp_path / file).read_bytes()


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_workers_of_a_loader(run, context):
    if context == "fork" and sys.platform in {"win32", "darwin"}:
        pytest.skip("no fork")
    ran = run(
        SCRIPT
        + f"""
class Rows(torch.utils.data.Dataset):
    def __len__(self): return 256
    def __getitem__(self, i): return torch.arange(8.).sin() * (i % 7) / 7 + i / 256
if __name__ == "__main__":
    for epoch in range(2):
        for batch in torch.utils.data.DataLoader(Rows(), 32, num_workers=1, multiprocessing_context="{context}"):
            optimizer.zero_grad(); loss_of(model, batch).backward(); optimizer.step()
"""
    )
    assert ran.was_seen
    assert ran.record["subject"]["steps"] == 16


@pytest.mark.parametrize(
    "setting",
    [
        "torch.set_default_device('cpu'); torch.set_default_dtype(torch.float64); x = x.double()",
        "torch.use_deterministic_algorithms(True); warnings.simplefilter('error')",
    ],
)
def test_global_settings(run, setting):
    ran = run(MODEL + setting + TRAINING + "train()\n", steps=120)

    assert ran.code == 0
    assert ran.was_seen


@pytest.mark.parametrize(
    "leaving",
    [
        "torch.set_grad_enabled(False); torch.set_default_device('meta')",
        "torch.inference_mode(True).__enter__(); torch.autograd.set_detect_anomaly(True)",
        "sys.stdout = open('log.txt', 'w'); sys.stdout.close(); sys.stderr = None",
        "model.eval(); [p.requires_grad_(False) for p in model.parameters()]; del optimizer",
        "sys.argv.clear(); sys.path.clear(); sys.modules.pop('__main__')",
    ],
)
def test_what_a_script_leaves_behind(run, leaving):
    ran = run(f"{SCRIPT}train()\n{leaving}\n", steps=120)

    assert ran.code == 0
    assert ran.was_seen
    assert "HEALTHY" in ran.out


def test_warnings_of_the_script_are_shown_with_their_line(run):
    ran = run(SCRIPT + "warnings.warn('careful now')\ntrain()\n")

    line = len(SCRIPT.splitlines()) + 1
    assert f"train.py:{line}: UserWarning: careful now" in ran.err


def test_cells_run_by_exec(run):
    """As a notebook runs its cells: compiled from text, in one namespace."""
    cells = [SCRIPT, f"train(weight={ILL})"]
    ran = run(f"space = {{'__name__': '__main__'}}\nfor cell in {cells!r}:\n    exec(cell, space)\n")

    assert ran.code == 1
    assert ran.was_seen


def test_training_in_a_thread(run):
    ran = run(
        SCRIPT + "import threading\nworker = threading.Thread(target=train)\nworker.start()\nworker.join()\ntrain()\n"
    )
    assert ran.was_seen


def test_from_python(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text(SCRIPT.replace("STEPS", "60") + f"os.chdir('..')\ntrain(weight={ILL})\n")
    main, path = sys.modules["__main__"], list(sys.path)
    report = whyvae.run("train.py", select=["OBJ"])

    assert report.verdict == "sick"
    assert (sys.modules["__main__"], sys.path, Path.cwd()) == (main, path, tmp_path)
    with pytest.raises(FileNotFoundError):
        whyvae.run("absent.py")
