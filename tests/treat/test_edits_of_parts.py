"""A loss of several likelihoods: an edit changes the one that is ill, and leaves the others and the KL as they are."""

from __future__ import annotations

import importlib
from types import SimpleNamespace

import pytest
import torch
from patients import broken, case_of, difference

from whyvae.probes.objective import Objective
from whyvae.treat.effect import _decided
from whyvae.treat.remedies.sum_over_features import SumOverFeatures
from whyvae.treat.remedy import NoEdit, proposals

MIXED = """
import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
cause = torch.randn(512, 2)
numbers = cause @ torch.randn(2, 5) + 0.3 * torch.randn(512, 5)
flags = torch.bernoulli(torch.sigmoid(3 * cause @ torch.randn(2, 4)))
kinds = (cause @ torch.randn(2, 3)).argmax(1)
rows = torch.cat([numbers, flags, F.one_hot(kinds, 3).float()], 1)
encoder, hidden = nn.Linear(12, 4), nn.Linear(2, 16)
heads = nn.ModuleList([nn.Linear(16, 5), nn.Linear(16, 4), nn.Linear(16, 3)])
optimizer = torch.optim.Adam([*encoder.parameters(), *hidden.parameters(), *heads.parameters()], 3e-3)
for step in range(40):
    i = torch.randint(512, (64,))
    count = len(i)
    mu, logvar = encoder(rows[i]).chunk(2, 1)
    z = mu + torch.randn_like(mu) * (0.5 * logvar).exp()
    h = torch.tanh(hidden(z))
    y, f, k = heads[0](h), heads[1](h), heads[2](h)
    squares = ((y - numbers[i]) ** 2 / 0.18).sum() / count
    yes = F.binary_cross_entropy_with_logits(f, flags[i], reduction="sum") / count
    which = F.cross_entropy(k, kinds[i], reduction="sum") / count
    kl = -0.5 * (1 + logvar - mu**2 - logvar.exp()).sum() / count
    loss = squares + yes + which + kl
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""
YES = 'yes = F.binary_cross_entropy_with_logits(f, flags[i], reduction="sum") / count'


def of_flags(case):
    """The case, of the likelihood of the flags."""
    return next(c for c in map(case.of, range(4)) if c.get(Objective).family == "bernoulli logits")


def edits(folder, text, pick=lambda case: case, remedy="sum_over_features", **settings):
    case = pick(case_of(folder, text))
    module = importlib.import_module(f"whyvae.treat.edits.{remedy}")
    return difference(text, module.edit(case, settings)[str(folder / "script.py")])


def test_the_likelihood_that_is_averaged_becomes_a_sum(tmp_path):
    text = broken(MIXED, YES, "yes = F.binary_cross_entropy_with_logits(f, flags[i])")
    gone, came = edits(tmp_path, text, of_flags)
    assert gone == ["yes = F.binary_cross_entropy_with_logits(f, flags[i])"]
    assert came == ['yes = F.binary_cross_entropy_with_logits(f, flags[i], reduction="sum") / len(f)']


def test_a_first_likelihood_that_is_averaged_becomes_a_sum(tmp_path):
    text = broken(MIXED, "((y - numbers[i]) ** 2 / 0.18).sum() / count", "((y - numbers[i]) ** 2 / 0.18).mean()")
    assert edits(tmp_path, text)[1] == ["squares = ((y - numbers[i]) ** 2 / 0.18).sum() / len(y)"]


def test_an_averaged_kl_becomes_a_sum(tmp_path):
    text = broken(MIXED, "logvar.exp()).sum() / count", "logvar.exp()).mean()")
    assert edits(tmp_path, text)[1] == ["kl = -0.5 * (1 + logvar - mu**2 - logvar.exp()).sum() / len(y)"]


def test_what_is_right_is_left(tmp_path):
    for pick in (lambda case: case, of_flags):
        with pytest.raises(NoEdit):
            edits(tmp_path, MIXED, pick)


@pytest.mark.parametrize(("remedy", "wrong", "settings", "right"), [
    ("output_activation", "heads[1](h).sigmoid(), heads[2](h)", {"at": "last"}, "heads[1](h), heads[2](h)"),
    ("reconstruction_formula", "yes = -F.binary", {"mistake": "sign"}, "loss = squares - yes + which + kl"),
])  # fmt: skip
def test_a_fault_of_the_flags_is_mended_at_the_flags(tmp_path, remedy, wrong, settings, right):
    text = broken(MIXED, "heads[1](h), heads[2](h)" if "heads" in wrong else "yes = F.binary", wrong)
    ((line,), (came,)) = edits(tmp_path, text, of_flags, remedy, **settings)
    assert line != came
    assert right in came


@pytest.mark.parametrize("heads", ["made.chunk(2, 1)", "made, spread(h)"])
def test_the_logarithm_of_its_own_variance_is_of_the_likelihood(tmp_path, heads):
    """One layer's output cut in two, or two layers behind one hidden one."""
    text = broken(MIXED, "y, f, k = heads[0](h), heads[1](h), heads[2](h)", f"made = heads[0](h)\n    y, s = {heads}")
    text = broken(text, "[nn.Linear(16, 5),", f"[nn.Linear(16, {10 if 'chunk' in heads else 5}),")
    text = broken(text, "optimizer = ", "spread = nn.Linear(16, 5)\noptimizer = ")
    text = broken(
        text, "((y - numbers[i]) ** 2 / 0.18).sum() / count", "(0.5 * (y - numbers[i]) ** 2 / s.exp() + 0.5 * s).mean()"
    )
    text = broken(text, "squares + yes + which + kl", "squares + kl")
    text = "\n".join(line for line in text.splitlines() if "yes =" not in line and "which =" not in line)
    (came,) = edits(tmp_path, text)[1]
    assert came.startswith("squares = (0.5 * (y - numbers[i]) ** 2 / s.exp() + 0.5 * s).sum() / len(")


def test_of_one_likelihood_nothing_is_proposed_that_changes_all(tmp_path):
    text = broken(MIXED, YES, "yes = F.binary_cross_entropy_with_logits(f, flags[i])")
    case = of_flags(case_of(tmp_path, text))
    finding = SimpleNamespace(severity="error", part=case.part)
    case.examination = SimpleNamespace(findings=(SimpleNamespace(code="OBJ02", finding=finding),))
    (treatment,) = proposals(case)
    assert treatment.remedy == SumOverFeatures.name
    assert "posterior" not in treatment.settings


def test_samples_of_flags_and_classes_are_drawn():
    real = torch.eye(3, dtype=torch.float64).repeat(400, 1)
    sure = torch.tensor([[0.2, 0.5, 0.3]], dtype=torch.float64).repeat(1200, 1)
    rows = _decided(SimpleNamespace(real=real, prior=sure, fitted=0.5 * sure))
    assert bool((rows.prior.sum(1) == 1).all())
    assert torch.allclose(rows.prior.mean(0), sure[0], atol=0.05)
    assert set(rows.fitted.unique().tolist()) == {0.0, 1.0}
    assert torch.allclose(rows.fitted.mean(0), 0.5 * sure[0], atol=0.05)
    numbers = SimpleNamespace(real=real + 0.5, prior=sure, fitted=sure)
    assert _decided(numbers) is numbers
