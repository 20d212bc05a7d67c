"""Edits where shapes, orders of arguments or a loss's own softmax are at fault."""

import pytest
from patients import DISTRIBUTIONS, FUNCTIONS, TRAINER, broken, case_of, difference, edited

from whyvae.treat.remedies.activations_between import ActivationsBetween
from whyvae.treat.remedies.output_activation import OutputActivation
from whyvae.treat.remedy import NoEdit

NOISE = "eps = torch.randn_like(std)"
CLASSES = """\
import torch
from torch import nn
import torch.nn.functional as F
from torch.distributions import Categorical

torch.manual_seed(0)
tokens = torch.randint(5, (200, 1)).repeat(1, 6)
embed, enc = nn.Embedding(5, 4), nn.Linear(24, 6)
first, heads = nn.Linear(3, 16), nn.ModuleList(nn.Linear(16, 5) for _ in range(6))
opt = torch.optim.Adam([*embed.parameters(), *enc.parameters(), *first.parameters(), *heads.parameters()], 3e-3)


def decode(z):
    h = torch.tanh(first(z))
    return torch.stack([head(h) for head in heads], 1)


for step in range(30):
    x = tokens[torch.randint(200, (50,))]
    mu, lv = enc(embed(x).flatten(1)).chunk(2, 1)
    y = decode(mu + torch.randn_like(mu) * (lv / 2).exp())
    rec = F.cross_entropy(y.view(-1, 5), x.view(-1), reduction="sum")
    loss = (rec + 0.5 * (mu**2 + lv.exp() - 1 - lv).sum()) / 50
    opt.zero_grad()
    loss.backward()
    opt.step()
"""
STEPS = """\
import torch
from torch import nn

torch.manual_seed(0)
data = torch.randn(200, 2) @ torch.randn(2, 10)
enc, cell, out = nn.Linear(10, 6), nn.Linear(4, 16), nn.Linear(16, 1)
opt = torch.optim.Adam([*enc.parameters(), *cell.parameters(), *out.parameters()], 3e-3)
time = torch.linspace(-1, 1, 10).view(1, 10, 1)
for step in range(30):
    x = data[torch.randint(200, (50,))]
    mu, lv = enc(x).chunk(2, 1)
    z = mu + torch.randn_like(mu) * (lv / 2).exp()
    code = z.repeat_interleave(10, 0).view(50, 10, -1)
    y = out(torch.tanh(cell(torch.cat([code, time.expand(50, 10, 1)], 2)))).squeeze(2)
    loss = ((y - x).pow(2).sum() + 0.5 * (mu**2 + lv.exp() - 1 - lv).sum()) / 50
    opt.zero_grad()
    loss.backward()
    opt.step()
"""


def came(folder, text, remedy, **settings):
    new = edited(folder, text, remedy, steps=None, **settings)
    compile(new, "script", "exec")
    return difference(text, new)[1]


@pytest.mark.parametrize("drawn", [
    "eps = torch.distributions.Normal(0.0, 1.0).sample(std.shape[:-1]).unsqueeze(-1)", "eps = torch.randn(std.shape[0], 1)",
])  # fmt: skip
def test_noise_that_the_units_of_an_example_share(tmp_path, drawn):
    assert came(tmp_path, broken(TRAINER, NOISE, drawn), "noise") == ["eps = torch.randn_like(mu)"]


def test_copies_of_an_example_stand_together(tmp_path):
    right = "z.repeat_interleave(10, 0).view(50, 10, -1)"
    text = broken(STEPS, right, "z.repeat(10, 1).view(50, 10, -1)")
    assert came(tmp_path, text, "rows_apart", way="axis") == [f"code = {right}"]


def test_arguments_of_a_divergence_that_were_exchanged(tmp_path):
    text = broken(DISTRIBUTIONS, "kl_divergence(posterior, prior)", "kl_divergence(prior, posterior)")
    assert edited(tmp_path, text, "kl_formula", steps=None) == DISTRIBUTIONS
    other = came(tmp_path, broken(FUNCTIONS, "- 2 * s - 1", "- 1 * s - 1"), "kl_formula")
    assert not any("kl_divergence" in line for line in other)


def test_probabilities_that_are_given_to_a_cross_entropy(tmp_path):
    text = broken(CLASSES, "head(h) for head", "F.softmax(head(h), 1) for head")
    assert came(tmp_path, text, "output_activation", at="classes") == [
        'rec = F.cross_entropy(y.view(-1, 5).clamp(min=1e-8).log(), x.view(-1), reduction="sum")'
    ]
    first = next(iter(OutputActivation.proposals(case_of(tmp_path, text, None), "OUT03")))
    assert first.settings == {"at": "classes"}


def test_a_softmax_that_a_distribution_of_logits_follows(tmp_path):
    text = broken(
        CLASSES,
        'F.cross_entropy(y.view(-1, 5), x.view(-1), reduction="sum")',
        "-Categorical(logits=y.softmax(2)).log_prob(x).sum()",
    )
    assert came(tmp_path, text, "output_activation", at="last") == ["rec = -Categorical(logits=y).log_prob(x).sum()"]


CALLED = """\
import torch
from torch import nn

torch.manual_seed(0)
rows = torch.randn(300, 6)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc, self.first, self.second = nn.Linear(6, 4), nn.Linear(2, 9), nn.Linear(9, 12)
        self.last = nn.Sequential(nn.Linear(12, 8), nn.BatchNorm1d(8), nn.Linear(8, 6))

    def decode(self, z):
        h = self.second(self.first(z))
        return self.last(h)


net = Net()
opt = torch.optim.Adam(net.parameters(), 3e-3)
for step in range(20):
    x = rows[torch.randint(300, (50,))]
    mu, lv = net.enc(x).chunk(2, 1)
    y = net.decode(mu + torch.randn_like(mu) * (lv / 2).exp())
    loss = ((y - x) ** 2).sum(1).mean() + 0.5 * (mu**2 + lv.exp() - 1 - lv).sum(1).mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
"""


def test_rectifiers_between_layers_that_have_none(tmp_path):
    case = case_of(tmp_path, CALLED)
    (proposal,) = ActivationsBetween.proposals(case, "CAP02")
    assert proposal.settings == {"part": "decoder"}
    assert "4 layers" in proposal.says
    assert not list(ActivationsBetween.proposals(case, "CAP01"))  # one layer only
    new = edited(tmp_path, CALLED, "activations_between", part="decoder")
    assert difference(CALLED, new)[1] == [
        "self.last = nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.BatchNorm1d(8), nn.Linear(8, 6))",
        "h = self.second(self.first(z).relu()).relu()",
    ]
    assert not list(ActivationsBetween.proposals(case_of(tmp_path, new), "CAP02"))


def test_rectifiers_where_layers_are_products(tmp_path):
    text = broken(FUNCTIONS, "torch.tanh(z @ w3 + b3) @ w4 + b4", "(z @ w3 + b3) @ w4 + b4")
    assert difference(text, edited(tmp_path, text, "activations_between", part="decoder"))[1] == [
        "return ((z @ w3 + b3).relu()) @ w4 + b4"
    ]


LOOPED = """\
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
cfg = dict(enc=[64, 32], dec=[8], steps=20, batch=8)
rows = torch.randn(300, 6)


def stack(sizes):
    layers = nn.ModuleList()
    for a, b in zip(sizes[:-1], sizes[1:]):
        layers.append(nn.Linear(a, b))
    return layers


class Net(nn.Module):
    def __init__(self, enc, dec):
        super().__init__()
        self.enc, self.heads = stack([6, *enc]), nn.Linear(enc[-1], 4)
        self.dec, self.last = stack([2, *dec]), nn.Linear(dec[-1], 6)

    def forward(self, x):
        for layer in self.enc:
            x = F.elu(layer(x))
        mu, lv = self.heads(x).chunk(2, 1)
        z = mu + torch.randn_like(mu) * (lv / 2).exp()
        for layer in self.dec:
            z = F.elu(layer(z))
        return self.last(z), mu, lv


net = Net(cfg["enc"], cfg["dec"])
opt = torch.optim.Adam(net.parameters(), 3e-3)
for step in range(cfg["steps"]):
    x = rows[torch.randint(300, (cfg["batch"],))]
    y, mu, lv = net(x)
    loss = ((y - x) ** 2).sum(1).mean() + 0.5 * (mu**2 + lv.exp() - 1 - lv).sum(1).mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
"""


@pytest.mark.parametrize(("written", "line"), [
    ("enc=[64, 32], dec=[8]", "cfg = dict(enc=[64, 32], dec=[128], steps=20, batch=8)"),
    ("enc=[64, 32], dec=[8, 16]", "cfg = dict(enc=[64, 32], dec=[128, 128], steps=20, batch=8)"),
    ("enc=[64, 8], dec=[8]", "cfg = dict(enc=[64, 8], dec=[128], steps=20, batch=8)"),
])  # fmt: skip
def test_widths_of_layers_that_are_made_in_a_loop(tmp_path, written, line):
    text = broken(LOOPED, "enc=[64, 32], dec=[8]", written)
    assert difference(text, edited(tmp_path, text, "wider", part="decoder", width=128))[1] == [line]


def test_a_width_that_may_be_several_numbers_is_left(tmp_path):
    text = LOOPED.replace("dec=[8], ", "b=[8], ").replace('cfg["dec"]', 'cfg["b"]')
    with pytest.raises(NoEdit):
        edited(tmp_path, text, "wider", part="decoder", width=128)
