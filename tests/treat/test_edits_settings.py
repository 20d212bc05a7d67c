"""Numbers that are held in settings: nested, in another file, or read in several places."""

from __future__ import annotations

import importlib
import sys

import pytest
from patients import FUNCTIONS, TRAINER, broken, case_of, difference, edited

from whyvae.treat.remedy import NoEdit

LOOP = "for step in range(40):"
USED = "KL_WEIGHT * div"
SCHEDULES = [
    ('CFG = {"train": {"lr": 2e-3, "warmup_steps": 90000}}', 'min(1.0, step / CFG["train"]["warmup_steps"]) * div',
     'CFG = {"train": {"lr": 2e-3, "warmup_steps": 1800}}'),
    ("class Cfg:\n    warmup: int = 90_000\n    floor = 0.0\n\n\ncfg = Cfg()", "max(cfg.floor, min(1.0, step / cfg.warmup)) * div",
     "warmup: int = 1_800"),
    (('import argparse\n\nparser = argparse.ArgumentParser()\nparser.add_argument("--kl-warmup", type=float, default=9e4)\n'
     "args = parser.parse_args([])"), "min(step / args.kl_warmup, 1.0) * div",
     'parser.add_argument("--kl-warmup", type=float, default=1800)'),
    (("class Ramp:\n    def __init__(self, cfg):\n        self.steps = cfg['steps']\n\n    def __call__(self, i):\n"
     "        share = i / self.steps\n        return min(1.0, share)\n\n\nramp = Ramp({'steps': 90000})"), "ramp(step) * div",
     "ramp = Ramp({'steps': 1800})"),
    (("class Annealer:\n    def __init__(self, total):\n        self.total, self.i = total, 0\n\n    def step(self):\n"
     "        self.i += 1\n\n    @property\n    def beta(self):\n        r = min(1.0, self.i / self.total)\n"
     "        return r if self.total else 1.0\n\n\nannealer = Annealer(90000)"), "annealer.beta * div",
     "annealer = Annealer(1800)"),
    ("beta_of = lambda i: min(1.0, i / 90000)", "beta_of(step) * div", "beta_of = lambda i: min(1.0, i / 1800)"),
    ("RAMP = torch.linspace(0, 1, 90000)", "float(RAMP[min(step, 89999)]) * div", "RAMP = torch.linspace(0, 1, 1800)"),
]  # fmt: skip


@pytest.mark.parametrize(("held", "used", "expected"), SCHEDULES)
def test_the_length_of_a_schedule_is_changed_where_it_is_held(tmp_path, held, used, expected):
    text = broken(broken(FUNCTIONS, LOOP, f"{held}\n{LOOP}"), USED, used)
    assert difference(text, edited(tmp_path, text, "schedule", factor=0.02))[1] == [expected]


def test_a_schedule_that_sets_an_item_of_the_weights(tmp_path):
    text = broken(FUNCTIONS, LOOP, f"weigh = {{'fit': 1.0, 'kl': 0.0}}\nspan = max(1, int(0.9 * 9000))\n{LOOP}")
    text = broken(
        text, "    m, s = encode(x)", "    weigh['kl'] = 0.1 + 0.9 * min(1.0, step / span)\n    m, s = encode(x)"
    )
    text = broken(
        text, "loss = (fit + KL_WEIGHT * divergence(m, s).sum(1)).mean()",
        "parts = {'fit': fit.mean(), 'kl': divergence(m, s).sum(1).mean()}\n    loss = sum(weigh[k] * v for k, v in parts.items())",
    )  # fmt: skip
    assert difference(text, edited(tmp_path, text, "schedule", factor=0.02))[1] == [
        "weigh['kl'] = 0.1 + 0.9 * min(1.0, step / (0.02 * span))"
    ]


def test_a_length_that_is_read_for_more_than_the_schedule_stays(tmp_path):
    text = broken(FUNCTIONS, LOOP, f"CFG = dict(steps=9000)\nevery = CFG['steps'] // 30\n{LOOP}")
    text = broken(text, USED, 'min(1.0, step / CFG["steps"]) * div')
    new = edited(tmp_path, text, "schedule", factor=0.1)
    assert difference(text, new)[1] == [
        'loss = (fit + min(1.0, step / (0.1 * CFG["steps"])) * divergence(m, s).sum(1)).mean()'
    ]


def test_a_weight_that_is_handed_on_is_changed_where_it_is_held(tmp_path):
    text = broken(TRAINER, "Config(), (torch", "Config(), beta=80.0, data=(torch")
    text = broken(text, "cfg: Config, data", "cfg: Config, data, beta")
    text = broken(text, "self.cfg, self.data = cfg, data", "self.cfg, self.data = cfg, data\n        self.beta = beta")
    text = broken(text, "self.cfg.beta * kld", "self.beta * kld")
    _, came = difference(text, edited(tmp_path, text, "kl_weight", factor=1 / 80))
    assert came == ["trainer = Trainer(Config(), beta=1.0, data=(torch.rand(128, 20) > 0.5).float())"]


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Writes files beside a script, whose modules are forgotten afterwards; gives what an edit makes of each file."""
    before = set(sys.modules)

    def edit(files, text, remedy, **settings):
        for name, content in files.items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(content, encoding="utf-8")
        case = case_of(tmp_path, text)
        new = importlib.import_module(f"whyvae.treat.edits.{remedy}").edit(case, settings)
        old = {**files, "script.py": text}
        return {str(path)[len(str(tmp_path)) + 1 :]: difference(old[str(path)[len(str(tmp_path)) + 1 :]], made)[1]
                for path, made in new.items()}  # fmt: skip

    yield edit
    for name in set(sys.modules) - before:
        del sys.modules[name]


CODE = TRAINER[: TRAINER.index("torch.manual_seed(0)")]
CONFIG = CODE[: CODE.index("class Net(")]
MODEL = CODE[CODE.index("class Net(") : CODE.index("class Trainer:")]
TRAINING = CODE[CODE.index("class Trainer:") :]
SCRIPT = TRAINER[TRAINER.index("torch.manual_seed(0)") :]
FILES = {
    "vaepack/__init__.py": "",
    "vaepack/settings.py": CONFIG,
    "vaepack/model.py": f"from vaepack.settings import *\n\n\n{MODEL}",
    "vaepack/loop.py": f"import torch\nimport torch.nn.functional as F\n\nfrom .model import Net\nfrom .settings import Config\n\n\n{TRAINING}",
}
START = "import torch\n\nfrom vaepack import loop\nfrom vaepack.settings import Config\n\n" + SCRIPT.replace(
    "Trainer(", "loop.Trainer("
)


@pytest.mark.parametrize(("right", "wrong", "remedy", "settings", "expected"), [
    ("beta: float = 1.0", "beta: float = 80.0", "kl_weight", {"factor": 1 / 80}, {"vaepack/settings.py": ["beta: float = 1.0"]}),
    ("lr: float = 1e-3", "lr: float = 0.1", "learning_rate", {"factor": 0.1}, {"vaepack/settings.py": ["lr: float = 0.01"]}),
    ("epochs: int = 2", "epochs: int = 2", "longer", {"times": 3}, {"vaepack/settings.py": ["epochs: int = 6"]}),
    ("hidden: int = 32", "hidden: int = 2", "wider", {"part": "decoder", "width": 64}, {"vaepack/settings.py": ["hidden: int = 64"]}),
    ("latents: int = 4", "latents: int = 4", "more_latents", {"latents": 9},
     {"vaepack/settings.py": ["latents: int = 9"], "script.py": ["images = trainer.model.decoder(torch.randn(9, 9))"]}),
])  # fmt: skip
def test_a_setting_in_another_file(package, right, wrong, remedy, settings, expected):
    files = {**FILES, "vaepack/settings.py": broken(CONFIG, right, wrong)}
    assert package(files, START, remedy, **settings) == expected


def test_parameters_left_out_in_another_file(package):
    files = {
        **FILES,
        "vaepack/loop.py": broken(
            FILES["vaepack/loop.py"], "self.model.parameters()", "self.model.encoder.parameters()"
        ),
    }
    assert package(files, START, "optimize_all") == {
        "vaepack/loop.py": ["self.opt = torch.optim.AdamW(self.model.parameters(), lr=cfg.lr)"]
    }


def test_noise_in_evaluation_alone_in_another_file(package):
    files = {
        **FILES,
        "vaepack/model.py": broken(
            FILES["vaepack/model.py"],
            "        std = torch.exp",
            "        if self.training:\n            return mu\n        std = torch.exp",
        ),
    }
    assert package(files, START, "sample_in_training") == {"vaepack/model.py": ["if not self.training:"]}


def test_new_examples_drawn_in_another_file(package):
    model = FILES["vaepack/model.py"] + "\n    def sample(self):\n        return self.decoder(torch.randn(9, 4))\n"
    text = broken(START, "trainer.model.decoder(torch.randn(9, 4))", "trainer.model.sample()")
    found = package({**FILES, "vaepack/model.py": model}, text, "more_latents", latents=9)
    assert found == {
        "vaepack/settings.py": ["latents: int = 9"],
        "vaepack/model.py": ["return self.decoder(torch.randn(9, 9))"],
    }


def test_what_the_script_gives_to_another_file(package):
    files = {**FILES, "vaepack/loop.py": broken(FILES["vaepack/loop.py"], "self.cfg.beta", "self.weight")}
    files["vaepack/loop.py"] = broken(
        files["vaepack/loop.py"], "cfg: Config, data):", "cfg: Config, data, weight):\n        self.weight = weight"
    )
    text = broken(START, "loop.Trainer(Config(), (", "loop.Trainer(Config(), weight=80.0, data=(")
    assert package(files, text, "kl_weight", factor=1 / 80) == {
        "script.py": ["trainer = loop.Trainer(Config(), weight=1.0, data=(torch.rand(128, 20) > 0.5).float())"]
    }


def test_a_weight_of_another_file_that_is_read_twice_stays(package):
    files = {**FILES, "vaepack/weights.py": "KL = 80.0\nRATE = 1e-3\n"}
    files["vaepack/loop.py"] = broken(files["vaepack/loop.py"], "self.cfg.beta", "KL")
    files["vaepack/loop.py"] = "from vaepack.weights import KL\n" + files["vaepack/loop.py"]
    assert package(files, START, "kl_weight", factor=1 / 80) == {"vaepack/weights.py": ["KL = 1.0"]}
    text = START.replace("import torch\n", "import torch\nfrom vaepack.weights import KL, RATE\nLIMIT = KL / RATE\n", 1)
    assert package(files, text, "kl_weight", factor=1 / 80) == {"vaepack/loop.py": ["loss = rec + 0.0125 * KL * kld"]}


ROWS = ("torch.randn(200, Z) @ torch.randn(Z, D)", "torch.randn(200, 3) @ torch.randn(3, D)")
NAMED = [
    ("D, H, Z = 16, 24, 3", '"""latent_dim: 3"""\nD, H, Z = 16, 24, 3', ["D, H, Z = 16, 24, 8"]),
    ("D, H, Z = 16, 24, 3", 'import json\n\nSET = json.loads(\'{"width": 3, "latent_dim": 3}\')\nD, H, Z = 16, 24, SET["latent_dim"]',
     ['SET = json.loads(\'{"width": 3, "latent_dim": 8}\')']),
    ("D, H, Z = 16, 24, 3", 'SET = {k.upper(): v for k, v in {"d": 16, "h": 24, "code_size": 3}.items()}\nD, H, Z = SET.values()',
     ['SET = {k.upper(): v for k, v in {"d": 16, "h": 24, "code_size": 8}.items()}']),
]  # fmt: skip


@pytest.mark.parametrize(("before", "after", "expected"), NAMED)
def test_latents_that_cannot_be_followed_are_changed_where_their_name_stands(tmp_path, before, after, expected):
    text = broken(broken(FUNCTIONS, before, after), *ROWS)
    assert difference(text, edited(tmp_path, text, "more_latents", latents=8))[1] == expected


def test_two_settings_that_may_count_the_latents_are_left(tmp_path):
    text = broken(broken(FUNCTIONS, "D, H, Z = 16, 24, 3", "n_latent = 3\nD, H, Z = 16, 24, 3"), *ROWS)
    with pytest.raises(NoEdit):
        edited(tmp_path, text, "more_latents", latents=8)
