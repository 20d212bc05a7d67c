"""Code that is not the user's is never edited, and what cannot be edited is a sentence."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from patients import TRAINER, case_of

from whyvae.probe import Bench
from whyvae.treat.case import Case
from whyvae.treat.remedy import NoEdit, all_remedies
from whyvae.watch.script import run_script

SETTINGS = {"factor": 0.5, "what": "kl", "times": 2, "latents": 9, "part": "encoder", "width": 99, "norm": 1.0,
            "decay": 0.1, "low": 0, "high": 2, "how": "range", "mistake": "sign", "at": "last",
            "way": "own", "bound": "min"}  # fmt: skip


def test_a_library_is_not_touched(tmp_path, monkeypatch):
    monkeypatch.setenv("WHYVAE_DEBUG", "1")  # another error than NoEdit is raised
    library = tmp_path / "site-packages" / "somevae"
    library.mkdir(parents=True)
    code, use = TRAINER.split("torch.manual_seed(0)\n")
    (library / "__init__.py").write_text(code)
    script = tmp_path / "script.py"
    script.write_text("import sys\nsys.path.insert(0, 'site-packages')\nimport torch\nfrom somevae import *\n" + use)
    subject = run_script(str(script), [], steps=3).subject
    case = Case(script, [], subject, Bench(subject), SimpleNamespace(findings=()))
    for remedy in all_remedies().values():
        try:
            edited = remedy.edit(case, SETTINGS | ({"what": "bytes"} if remedy.name == "show_output" else {}))
        except NoEdit:
            continue
        assert list(edited) == [str(script)], remedy.name


def test_a_file_in_another_encoding_is_left(tmp_path):
    case = case_of(tmp_path, TRAINER)
    case.sources.clear()
    (tmp_path / "script.py").write_bytes(b"# \xe9\n" + TRAINER.encode())
    with pytest.raises(NoEdit):
        all_remedies()["kl_weight"].edit(case, SETTINGS)


def test_windows_line_ends_stay(tmp_path):
    text = TRAINER.replace("                self.opt.zero_grad()\n", "").replace("\n", "\r\n")
    new = next(iter(all_remedies()["zero_grad"].edit(case_of(tmp_path, text), {}).values()))
    assert new.count("\n") == new.count("\r\n") == text.count("\n") + 1


def test_tabs_and_characters_beyond_ascii(tmp_path):
    text = TRAINER.replace("    ", "\t").replace("loss = rec +", "λ = 'é'; loss = rec +")
    new = next(iter(all_remedies()["kl_weight"].edit(case_of(tmp_path, text), {"factor": 0.5}).values()))
    assert "beta: float = 0.5" in new
    text = text.replace("self.cfg.beta * kld", "kld")
    new = next(iter(all_remedies()["kl_weight"].edit(case_of(tmp_path, text), {"factor": 0.5}).values()))
    assert "λ = 'é'; loss = rec + 0.5 * kld" in new


FRAMEWORK = """\
def fit(module, loader):
    optimizer = module.configure_optimizers()
    for _ in range(2):
        for i, batch in enumerate(loader):
            optimizer.zero_grad()
            module.training_step(batch, i).backward()
            optimizer.step()
"""
CALLED_BY_IT = """\
import torch
import torch.nn as nn
from someframework import fit
from torch.utils.data import DataLoader, TensorDataset, random_split

class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = nn.Linear(20, 8), nn.Sequential(nn.Linear(4, 20), nn.Sigmoid())

    def training_step(self, batch, index):
        x, _ = batch
        mu, logvar = self.encoder(x).chunk(2, 1)
        y = self.decoder(mu + torch.randn_like(mu) * torch.exp(logvar / 2))
        kl = -0.5 * (1 + logvar - mu**2 - logvar.exp()).sum()
        return ((y - x) ** 2).sum() + kl

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters())

torch.manual_seed(0)
everything = TensorDataset(255 * torch.rand(128, 20), torch.arange(128))
train, test = random_split(everything, [96, 32])
quiet = DataLoader(test, batch_size=32)
fit(VAE(), DataLoader(train, batch_size=32, shuffle=True))
"""


def test_data_that_a_framework_hands_to_the_step_are_scaled_where_they_are_made(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path / "site-packages")
    library = tmp_path / "site-packages" / "someframework"
    library.mkdir(parents=True)
    (library / "__init__.py").write_text(FRAMEWORK)
    script = tmp_path / "script.py"
    script.write_text(CALLED_BY_IT)
    subject = run_script(str(script), []).subject
    case = Case(script, [], subject, Bench(subject), SimpleNamespace(findings=()))
    edited = all_remedies()["scale_data"].edit(case, {"how": "range", "low": 0, "high": 255})
    (new,) = edited.values()
    assert "TensorDataset(255 * torch.rand(128, 20) / 255, torch.arange(128))" in new


STEPPING = """\
class Inference:
    def __init__(self, model, guide, optimizer):
        self.model, self.guide, self.optimizer = model, guide, optimizer

    def step(self, x):
        mu, logvar = self.guide(x).chunk(2, 1)
        z = mu + (mu * 0 + 1).normal_() * (logvar / 2).exp()
        rec = ((self.model(z) - x) ** 2).sum()
        kl = 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum()
        loss = rec + 30 * kl
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.item()


def divergence(mu, logvar):
    return 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum()
"""
STEPPED = """\
import torch
from torch import nn
from someinference import Inference, divergence

torch.manual_seed(0)
x, encoder, decoder = torch.rand(32, 20), nn.Linear(20, 8), nn.Linear(4, 20)
optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()])
inference = Inference(decoder, encoder, optimizer)
total = 0
for step in range(3):
    TRAINING
"""
BY_LIBRARY = "total += inference.step(x)"
BY_SCRIPT = """\
mu, logvar = encoder(x).chunk(2, 1)
    loss = ((decoder(mu + torch.randn_like(mu) * (logvar / 2).exp()) - x) ** 2).sum() + divergence(mu, logvar)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()"""


@pytest.mark.parametrize("training", [BY_LIBRARY, BY_SCRIPT], ids=["library", "script"])
def test_a_call_that_makes_more_than_the_term_is_not_the_term(tmp_path, monkeypatch, training):
    """What Pyro's `svi.step(x)` gives back is no part of the loss any more."""
    monkeypatch.syspath_prepend(tmp_path / "site-packages")
    library = tmp_path / "site-packages" / "someinference"
    library.mkdir(parents=True)
    (library / "__init__.py").write_text(STEPPING)
    script = tmp_path / "script.py"
    script.write_text(STEPPED.replace("TRAINING", training))
    subject = run_script(str(script), []).subject
    case = Case(script, [], subject, Bench(subject), SimpleNamespace(findings=()))
    if training == BY_LIBRARY:
        with pytest.raises(NoEdit, match="not yours"):
            all_remedies()["kl_weight"].edit(case, {"factor": 0.1})
    else:
        (new,) = all_remedies()["kl_weight"].edit(case, {"factor": 0.1}).values()
        assert "0.1 * divergence(mu, logvar)" in new
