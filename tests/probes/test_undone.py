"""Samples that are taken back to the units of the data: right ways are right in whatever style, wrong ones are measured."""

import numpy as np
import pytest
import torch

from whyvae.probe import Bench, CannotMeasure
from whyvae.probes.undone import Undone, found_in
from whyvae.watch.script import run_script

SCRIPT = """
import numpy as np, torch
from sklearn.preprocessing import StandardScaler
from torch import nn

def records(n=600):
    rng = np.random.default_rng({seed})
    t, u = rng.normal(size=(2, n))
    return np.stack([1010 + 5 * t, 12 - 3 * t + 2 * u, np.exp(.5 * u), 40 + 9 * u + rng.normal(size=n), 7 + 0 * t], 1)

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc = nn.Sequential(nn.Linear(5, 24), nn.ReLU(), nn.Linear(24, 4))
        self.decoder = nn.Sequential(nn.Linear(2, 24), nn.ReLU(), nn.Linear(24, 5))
    def dec(self, z):
        return self.decoder(z)
    def forward(self, x):
        mu, lv = self.enc(x).chunk(2, 1)
        return self.dec(mu + torch.randn_like(mu) * (lv / 2).exp()), mu, lv

def trained(x, steps=40):
    torch.manual_seed({seed})
    net = Net()
    opt = torch.optim.Adam(net.parameters(), 3e-3)
    for step in range(steps):
        b = x[torch.randperm(len(x))[:96]]
        y, mu, lv = net(b)
        loss = (5 * (y - b) ** 2).sum(1).mean() + .5 * (mu ** 2 + lv.exp() - lv - 1).sum(1).mean()
        opt.zero_grad(); loss.backward(); opt.step()
    return net

{rest}
"""
STANDARD = """
table = records()
mean, std = table.mean(0), table.std(0) + 1e-9
net = trained(torch.tensor((table - mean) / std).float())
with torch.no_grad():
    made = net.dec(torch.randn(200, 2))
"""
LOGARITHM = """
table = records()[:, :4]
logs = np.{log}(table)
mean, std = logs.mean(0), logs.std(0)
x = np.concatenate([(logs - mean) / std, np.zeros((len(logs), 1))], 1)
net = trained(torch.tensor(x).float())
with torch.no_grad():
    made = net.dec(torch.randn(200, 2))
table = np.concatenate([table, np.zeros((len(table), 1))], 1)
mean, std = (np.append(v, 0.) for v in (mean, std))
del logs, x
"""
LOG1P = LOGARITHM.replace("{log}", "log1p")
BESIDE = LOGARITHM.replace("np.{log}(table)", "np.log10(1 + table)").replace(
    "del logs, x", "logs = np.concatenate([logs, np.zeros((len(logs), 1))], 1)\ndel x"
)
HEADS = """
class TwoHeads(Net):
    def __init__(self):
        super().__init__()
        self.hidden, self.numbers, self.flags = nn.Linear(2, 24), nn.Linear(24, 5), nn.Linear(24, 5)
    def dec(self, z):
        h = self.hidden(z).relu()
        return self.numbers(h), self.flags(h)

def trained(x, steps=40):
    torch.manual_seed(0)
    net = TwoHeads()
    opt = torch.optim.Adam(net.parameters(), 3e-3)
    for step in range(steps):
        b = x[torch.randperm(len(x))[:96]]
        (y, flags), mu, lv = net(b)
        says = nn.functional.softplus(flags) - flags * (b > 0)
        loss = (5 * (y - b) ** 2 + says).sum(1).mean() + .5 * (mu ** 2 + lv.exp() - lv - 1).sum(1).mean()
        opt.zero_grad(); loss.backward(); opt.step()
    return net
""" + STANDARD.replace("made = net", "made, flags = net")
IN_MAIN = """
class MinMax:
    def __init__(self, a):
        self.raw, self.lo, self.hi = a, a.min(0), a.max(0) + 1e-9
    def back(self, a):
        return a * {factor} + self.lo

def main():
    scaler = MinMax(records())
    net = trained(torch.tensor((scaler.raw - scaler.lo) / (scaler.hi - scaler.lo)).float())
    def sample(n):
        with torch.no_grad():
            return net.dec(torch.randn(n, 2)).numpy()
    new = scaler.back(sample(100))
    print(new.mean(0))

main()
"""


def undone(tmp_path, rest, seed=0):
    file = tmp_path / "train.py"
    file.write_text(SCRIPT.replace("{seed}", str(seed)).replace("{rest}", rest))
    outcome = run_script(str(file), [])
    assert outcome.error is None
    return Bench(outcome.subject).get(Undone)


RIGHT = {
    "numpy": STANDARD + "rows = made.numpy() * std + mean",
    "torch": STANDARD + "rows = made * torch.tensor(std) + torch.tensor(mean)",
    "float32, rounded": STANDARD + "rows = np.round(made.numpy() * std.astype('float32') + mean.astype('float32'), 2)",
    "clipped": STANDARD + "rows = np.clip(made.numpy() * std + mean, 0, None)",
    "with noise": STANDARD + "made = made + .3 * torch.randn_like(made)\nrows = made.numpy() * std + mean",
    "in steps": STANDARD + "scaled = made.numpy() * std\nrows = scaled + mean",
    "in thousands": STANDARD + "rows = (made.numpy() * std + mean) / 1000",
    "deviation by n - 1": STANDARD + "rows = made.numpy() * table.std(0, ddof=1) + mean",
    "pandas": STANDARD
    + "import pandas as pd\nframe = pd.DataFrame(table)\ndel table\nrows = pd.DataFrame(made.numpy() * std + mean)",
    "within functions": IN_MAIN.replace("{factor}", "(self.hi - self.lo)"),
    "scikit-learn, shuffled": """
data = {"raw": records()}
scaler = StandardScaler().fit(data["raw"])
x = torch.tensor(scaler.transform(data["raw"])).float()
net = trained(x[torch.randperm(600)][:500])
with torch.no_grad():
    rows = scaler.inverse_transform(net.dec(torch.randn(64, 2)).numpy())
""",
}
COLUMNS = """
def bent(table, function):
    table = table.copy()
    table[:, [0, 2]] = function(table[:, [0, 2]])
    return table

table = records()
logs = bent(table, np.log1p)
mean, std = logs.mean(0), logs.std(0) + 1e-9
x = (logs - mean) / std
del logs
net = trained(torch.tensor(x).float())
with torch.no_grad():
    made = net.dec(torch.randn(200, 2))
"""
RIGHT |= {
    "logarithm of some columns": COLUMNS + "rows = bent(made.numpy() * std + mean, np.expm1)",
    "one head of two": HEADS + "rows = made.numpy() * std + mean",
    "log1p": LOG1P + "rows = np.expm1(made.numpy() * std + mean)",
    "log1p, rounded": LOG1P + "rows = np.round(np.expm1(made.numpy() * std + mean), 3)",
    "log1p in torch": LOG1P + "rows = torch.expm1(made * torch.tensor(std) + torch.tensor(mean))",
    "decades, kept beside the data": BESIDE + "rows = np.clip(10 ** (made.numpy() * std + mean) - 1, 0, None)",
    "sqrt": LOGARITHM.replace("{log}", "sqrt") + "rows = np.maximum(made.numpy() * std + mean, 0) ** 2",
}
WRONG = {
    "variance": STANDARD + "rows = made.numpy() * std ** 2 + mean",
    "no factor": STANDARD + "rows = made.numpy() + mean",
    "exchanged": STANDARD + "rows = made.numpy() * mean + std",
    "sign": STANDARD + "rows = made.numpy() * std - mean",
    "torch": STANDARD + "rows = made * torch.tensor(std) ** 2 + torch.tensor(mean)",
    "with noise": STANDARD + "made = made + .3 * torch.randn_like(made)\nrows = made.numpy() * std ** 2 + mean",
    "within functions": IN_MAIN.replace("{factor}", "self.hi"),
    "forth again": STANDARD + "rows = (made.numpy() - mean) / std",
    "scikit-learn, forth again": RIGHT["scikit-learn, shuffled"].replace(
        "scaler.inverse_transform(", "scaler.transform("
    ),
}
WRONG |= {
    "logarithm of some columns, undone first": COLUMNS + "rows = bent(made.numpy(), np.expm1) * std + mean",
    "logarithm of some columns, left": COLUMNS + "rows = made.numpy() * std + mean",
    "one head of two": HEADS + "rows = made.numpy() * std ** 2 + mean",
    "log1p alone": LOG1P + "rows = np.expm1(made.numpy())",
    "log1p alone in torch": LOG1P + "rows = made.expm1()",
    "log1p with the variance": LOG1P + "rows = np.expm1(made.numpy() * std ** 2 + mean)",
    "decades by the exponential": BESIDE + "rows = np.clip(np.exp(made.numpy() * std + mean) - 1, 0, None)",
    "log1p, no factor": LOG1P + "rows = np.expm1(made.numpy() + mean)",
}
SILENT = {
    "some columns, samples as they are": COLUMNS + "rows = made.numpy()",
    "some columns, another function": COLUMNS + "rows = np.tanh(made.numpy())",
    "log1p, samples as they are": LOG1P + "rows = made.numpy()",
    "another function": LOG1P + "rows = np.tanh(made.numpy())",
    "samples as they are": STANDARD + "rows = made.numpy()",
    "factor alone": STANDARD + "spread = made.numpy() * std",
    "no other units": STANDARD + "x = torch.tensor((table - mean) / std).float()\ndel table\nrows = made.numpy() * 2",
    "no raw data": STANDARD + "rows = made.numpy() * 3 + 1\ndel table",
    "something else": STANDARD + "rows = made.numpy() + .1\nmore = made.numpy() * 2",
    "shown in [0, 1]": STANDARD
    + "low, high = ((table - mean) / std).min(), ((table - mean) / std).max()\nrows = (made.numpy() - low) / (high - low)",
    "logarithm": STANDARD + "rows = np.exp(made.numpy() * std / 100 + .01 * mean)",
}


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("way", RIGHT)
def test_right_ways_back_are_right(tmp_path, way, seed):
    if way == "pandas":
        pytest.importorskip("pandas")
    assert undone(tmp_path, RIGHT[way], seed).moved < 0.01


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("way", WRONG)
def test_wrong_ways_back_are_measured(tmp_path, way, seed):
    found = undone(tmp_path, WRONG[way], seed)
    assert found.moved > 0.2
    assert found.samples in {"rows", "new"}


@pytest.mark.parametrize("way", SILENT)
def test_what_is_no_way_back_is_not_judged(tmp_path, way):
    with pytest.raises(CannotMeasure):
        undone(tmp_path, SILENT[way])


def test_distance_is_that_of_a_perfect_sample(tmp_path):
    """By hand: (s^2 - s)^2 / s^2 of each feature, 1 at most; the constant one is left out."""
    found = undone(tmp_path, WRONG["variance"])
    rng = np.random.default_rng(0)
    t, u = rng.normal(size=(2, 600))
    sd = np.stack([5 * t, 2 * u - 3 * t, np.exp(0.5 * u), 9 * u + rng.normal(size=600)], 1).std(0)
    wanted = np.minimum((sd - 1) ** 2, 1).mean()
    assert found.moved == pytest.approx(wanted, rel=0.15)  # the examples seen in 40 steps have a spread of their own


@pytest.mark.parametrize("features", [3, 8, 784])
def test_examples_are_found_in_another_order_and_scale(features):
    torch.manual_seed(features)
    raw = torch.randn(3000, features).double() @ torch.randn(features, features).double() * 3 + 20
    mean, sd = raw.mean(0), raw.std(0)
    rows = ((raw - mean) / sd)[torch.randperm(3000)[:700]].float().double()
    scale = found_in(rows, raw)
    assert scale is not None
    assert torch.allclose(scale.factor, sd, rtol=1e-3)
    assert torch.allclose(scale.offset, mean, rtol=1e-3)
    assert found_in(rows, torch.randn(3000, features).double()) is None
    assert found_in(rows, raw + 0.1 * sd * torch.randn(3000, features)) is None
