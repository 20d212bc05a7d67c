"""The same of a training that takes its gradients with `torch.func`: no optimiser, no `backward`."""

import pytest
import torch

from whyvae.examine import examine
from whyvae.probe import Bench
from whyvae.treat.case import Case
from whyvae.treat.injector import Injector
from whyvae.treat.remedies.kl_formula import KLFormula
from whyvae.treat.remedies.kl_weight import KLWeight
from whyvae.watch.script import run_script

SCRIPT = """
import torch
from torch.func import grad, grad_and_value
torch.manual_seed(3)
X = torch.randn(150, 3) @ torch.randn(3, 12) + 0.1 * torch.randn(150, 12)
p = {{"e": torch.randn(12, 8) / 4, "c": torch.randn(4, 32) / 2, "d": torch.randn(32, 12) / 6}}

def objective(p, x, eps):
    mu, logvar = (x @ p["e"]).chunk(2, dim=1)
    out = torch.tanh((mu + eps * (0.5 * logvar).exp()) @ p["c"]) @ p["d"]
    recon = (out - x).square().sum()
    kl = {kl}
    loss = {loss}
    return loss, recon

for step in range(60):
    x = X[step % 3 * 64 : step % 3 * 64 + 64]
    gradients, recon = grad(objective, has_aux=True)(p, x, torch.randn(len(x), 4))
    p = {{k: v - 1e-5 * gradients[k] for k, v in p.items()}}
"""
RIGHT = "-0.5 * (1 + logvar - mu ** 2 - logvar.exp()).sum()"


def run(path, injector=None, *, kl=RIGHT, loss="recon + kl"):
    path.write_text(SCRIPT.format(kl=kl, loss=loss))
    outcome = run_script(str(path), [], inside=injector, ratio=1.3)
    assert outcome.error is None, outcome.error
    assert outcome.subject.count == 60
    return outcome.subject


@pytest.mark.parametrize(
    ("remedy", "code", "ill", "cured"),
    [
        (KLWeight, "OBJ01", {"loss": "recon + 100 * kl"}, lambda s: {"loss": f"recon + {100 * s['factor']} * kl"}),
        (
            KLFormula, "OBJ05", {"kl": "0.5 * (1 + logvar - mu ** 2 - logvar.exp()).sum()"},
            lambda s: {"loss": f"recon + {s['weight']} * kl"},
        ),
    ],
    ids=["kl weight", "kl formula"],
)  # fmt: skip
def test_it_trains_as_the_edited_script_does(tmp_path, remedy, code, ill, cured):
    path = tmp_path / "a.py"
    sick = run(path, **ill)
    bench = Bench(sick)
    case = Case(path, [], sick, bench, examine(sick, ("DAT01",), bench=bench))
    (proposal, *_) = remedy.proposals(case, code)
    injector = Injector()
    assert remedy.inject(proposal.settings, injector)
    subject = run(path, injector, **ill)
    edited = run(tmp_path / "b.py", **cured(proposal.settings))

    assert (injector.backwards, injector.missed) == (60, 0)
    for ours, theirs, was in zip(
        *([s.value for s in x.tape.slots if s.trainable] for x in (subject, edited, sick)), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
        assert not torch.allclose(ours, was, rtol=1e-4, atol=1e-5)
