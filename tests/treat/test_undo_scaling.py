"""Samples that come back in wrong units: the edit writes the inverse of what was done to the data, and the numbers agree."""

import pytest
from patients import case_of, difference

from whyvae.probes.undone import Undone
from whyvae.treat.edits.undo_scaling import edit
from whyvae.treat.remedies.undo_scaling import UndoScaling
from whyvae.treat.remedy import NoEdit

SCRIPT = """
import numpy as np, torch
from torch import nn

rng = np.random.default_rng(3)
t, u = rng.normal(size=(2, 500))
table = np.stack([900 + 7 * t, 30 - 2 * t + 3 * u, np.exp(.4 * u), 5 + u + rng.normal(size=500)], 1)

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc, self.dec = nn.Linear(4, 4), nn.Linear(2, 4)
    def forward(self, x):
        mu, lv = self.enc(x).chunk(2, 1)
        return self.dec(mu + torch.randn_like(mu) * (lv / 2).exp()), mu, lv

def trained(x):
    torch.manual_seed(3)
    net = Net()
    opt = torch.optim.Adam(net.parameters(), 3e-3)
    for step in range(40):
        b = x[torch.randperm(len(x))[:100]]
        y, mu, lv = net(b)
        loss = (5 * (y - b) ** 2).sum(1).mean() + .5 * (mu ** 2 + lv.exp() - lv - 1).sum(1).mean()
        opt.zero_grad(); loss.backward(); opt.step()
    return net

"""
SCALED = """mean, std = table.mean(0), table.std(0)
net = trained(torch.tensor((table - mean) / std).float())
with torch.no_grad():
    made = net.dec(torch.randn(200, 2))
"""
METHOD = """
class Scaler:
    def __init__(self, a):
        self.low, self.high = a.min(0), a.max(0)
    def forth(self, a):
        return (a - self.low) / (self.high - self.low)
    def back(self, a):
        return a * self.high + self.low
    def middle(self):
        return self.low + 0.5 * self.high * table.std()

scaler = Scaler(table)
net = trained(torch.tensor(scaler.forth(table)).float())
with torch.no_grad():
    rows = scaler.back(net.dec(torch.randn(100, 2)).numpy())
"""
WITHIN = """
class Scaler:
    def __init__(self, a):
        self.low, self.high = a.min(0), a.max(0)
    def forth(self, a):
        return (a - self.low) / (self.high - self.low)

def main():
    scaler = Scaler(table)
    net = trained(torch.tensor(scaler.forth(table)).float())
    with torch.no_grad():
        new = net.dec(torch.randn(100, 2)).numpy()
    new = new * scaler.high + scaler.low
    print(new.mean(0))

main()
"""
CENTRED = """
def main():
    centre = table.mean(0)
    x = torch.from_numpy(table - centre).float()
    x_mean, x_std = x.mean(0), x.std(0) + 1e-6
    x = (x - x_mean) / x_std
    net = trained(x)
    with torch.no_grad():
        rows = net.dec(torch.randn(200, 2)).numpy()
    rows = rows + centre
    print(rows.mean(0))

main()
"""

SCALER = """
from sklearn.preprocessing import StandardScaler

scaler = StandardScaler().fit(table)
x = torch.tensor(scaler.transform(table)).float()
net = trained(x)

def generate(n):
    with torch.no_grad():
        out = net.dec(torch.randn(n, 2))
    return scaler.transform(out.numpy())

new = generate(200)
"""


@pytest.mark.parametrize(("rest", "way", "line"), [
    (SCALER, "inverse", "return scaler.inverse_transform(out.numpy())"),
    (SCALED + "rows = (made.numpy() - mean) / std", "inverse", "rows = made.numpy() * std + mean"),
    (SCALED + "rows = made.numpy() * std ** 2 + mean", "inverse", "rows = made.numpy() * std + mean"),
    (SCALED + "rows = made.numpy() + mean", "inverse", "rows = made.numpy() * std + mean"),
    (SCALED + "rows = made.numpy() * mean + std", "inverse", "rows = made.numpy() * std + mean"),
    (SCALED + "rows = made.numpy() * std - mean", "inverse", "rows = made.numpy() * std + mean"),
    (SCALED + "rows = mean + made.numpy() * 1.5 * std", "inverse", "rows = made.numpy() * std + mean"),
    (SCALED + "rows = made * torch.tensor(std) ** 2 + torch.tensor(mean)", "inverse",
     "rows = made * torch.tensor(std) + torch.tensor(mean)"),
    (METHOD, "inverse", "return a * (self.high - self.low) + self.low"),
    (SCALED + "far = mean + 3 * table * std\nrows = made.numpy() * mean + std", "inverse", "rows = made.numpy() * std + mean"),
    (WITHIN, "inverse", "new = new * (scaler.high - scaler.low) + scaler.low"),
    (CENTRED, "samples", "rows = (net.dec(torch.randn(200, 2)) * x_std + x_mean).numpy()"),
])  # fmt: skip
def test_the_inverse_of_what_was_done_to_the_data(tmp_path, rest, way, line):
    case = case_of(tmp_path, SCRIPT + rest, steps=None)
    assert case.get(Undone).moved > 0.05
    assert {t.settings["way"] for t in UndoScaling.proposals(case, "GEN04")} == {"inverse", "samples"}
    new = edit(case, {"way": way})[str(tmp_path / "script.py")]
    assert difference(SCRIPT + rest, new)[1] == [line]
    assert case_of(tmp_path, new, steps=None).get(Undone).moved < 1e-6


@pytest.mark.parametrize("way", ["inverse", "samples"])
@pytest.mark.parametrize("rest", [
    SCALED.replace("(table - mean) / std", "table / std") + "rows = made.numpy() * std ** 2",
    SCALED.replace("torch.tensor((table - mean) / std)", "torch.tensor((table - table.mean(0)) / table.std(0))"),
])  # fmt: skip
def test_a_scaling_whose_numbers_have_no_name_is_not_undone(tmp_path, rest, way):
    with pytest.raises(NoEdit):
        edit(case_of(tmp_path, SCRIPT + rest, steps=None), {"way": way})


def test_what_is_right_is_left(tmp_path):
    with pytest.raises(NoEdit):
        edit(case_of(tmp_path, SCRIPT + SCALED + "rows = made.numpy() * std + mean", steps=None), {"way": "inverse"})


def test_nothing_is_proposed_where_no_samples_are_taken_back(tmp_path):
    case = case_of(tmp_path, SCRIPT + SCALED, steps=None)
    assert not list(UndoScaling.proposals(case, "GEN04"))
