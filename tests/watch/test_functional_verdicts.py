"""Three ways of writing a training with `torch.func`, healthy and with a fault: judged as its twin by `backward` is."""

import pytest

from whyvae.examine import examine
from whyvae.probe import Bench
from whyvae.watch.script import run_script

CODES = ("OBJ01", "OBJ03", "OBJ04", "OBJ05", "OUT01", "WIR01", "WIR02")
FAULTS = {
    "": {},
    "OBJ01": {"loss": "(recon + 100 * kl)"},
    "OBJ04": {"loss": "(recon + 0 * kl)"},
    "OUT01": {"out": "torch.sigmoid({})"},
}
HEAD = """
import torch
from torch import nn
from torch.func import functional_call, grad, grad_and_value
torch.manual_seed(0)
X = torch.randn(256, 3) @ torch.randn(3, 12) + 0.3 * torch.randn(256, 12)
X = (X - X.mean(0)) / X.std(0)

def batch():
    return X[torch.randint(256, (64,))]

def elbo(x, y, mu, logvar):
    recon = (y - x).square().sum() / 0.2
    kl = -0.5 * (1 + logvar - mu ** 2 - logvar.exp()).sum()
    return @loss@ / len(x)

def sample(mu, logvar):
    return mu + torch.randn_like(mu) * (0.5 * logvar).exp()
"""
DICT = """
shapes = {"e.w": (12, 32), "e.b": (32,), "h.w": (32, 6), "d.w": (3, 32), "d.b": (32,), "o.w": (32, 12)}
p = {k: torch.randn(s) / s[0] ** 0.5 for k, s in shapes.items()}
m, v = ({k: torch.zeros_like(a) for k, a in p.items()} for _ in range(2))

def loss_fn(p, x):
    mu, logvar = (torch.tanh(x @ p["e.w"] + p["e.b"]) @ p["h.w"]).chunk(2, 1)
    y = @out@(torch.tanh(sample(mu, logvar) @ p["d.w"] + p["d.b"]) @ p["o.w"])
    return elbo(x, y, mu, logvar)

for t in range(1, 81):
    @differentiate@
    for k in p:
        m[k], v[k] = 0.9 * m[k] + 0.1 * g[k], 0.99 * v[k] + 0.01 * g[k] ** 2
        p[k] = p[k].detach() - 1e-2 * (m[k] / (1 - 0.9**t)) / ((v[k] / (1 - 0.99**t)).sqrt() + 1e-8)
"""
MODULE = """
class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(12, 32), nn.Tanh(), nn.Linear(32, 6))
        self.decoder = nn.Sequential(nn.Linear(3, 32), nn.Tanh(), nn.Linear(32, 12))

    def forward(self, x):
        mu, logvar = self.encoder(x).chunk(2, 1)
        return @out@(self.decoder(sample(mu, logvar))), mu, logvar

model = VAE()
optimizer = torch.optim.Adam(model.parameters(), 1e-2)

def loss_fn(p, x):
    return elbo(x, *functional_call(model, p, (x,)))

for t in range(80):
    p = dict(model.named_parameters())
    @differentiate@
    for k, a in p.items():
        a.grad = g[k].detach()
    optimizer.step()
"""
INIT_APPLY = """
def dense(i, o):
    return torch.randn(i, o) / i**0.5, torch.zeros(o)

def stack(layers, a):
    for w, b in layers[:-1]:
        a = torch.tanh(a @ w + b)
    return a @ layers[-1][0] + layers[-1][1]

def loss_fn(p, x):
    mu, logvar = stack(p[0], x).chunk(2, 1)
    return elbo(x, @out@(stack(p[1], sample(mu, logvar))), mu, logvar)

def update(p, x):
    @differentiate@
    return tuple(tuple((w.detach() - 1e-3 * a, b.detach() - 1e-3 * c) for (w, b), (a, c) in zip(*s)) for s in zip(p, g))

p = (dense(12, 32), dense(32, 6)), (dense(3, 32), dense(32, 12))
for t in range(80):
    p = update(p, batch())
"""
BY_BACKWARD = {  # the same gradients, by hand
    DICT: "[a.requires_grad_() for a in p.values()]; loss_fn(p, batch()).backward(); g = {k: a.grad for k, a in p.items()}",
    MODULE: "optimizer.zero_grad(); loss_fn(p, batch()).backward(); g = {k: a.grad for k, a in p.items()}",
    INIT_APPLY: "[a.requires_grad_() for s in p for l in s for a in l]; loss_fn(p, x).backward(); "
    "g = tuple(tuple((w.grad, b.grad) for w, b in s) for s in p)",
}
BY_FUNC = {
    DICT: "g, value = grad_and_value(loss_fn)(p, batch())",
    MODULE: "g = grad(loss_fn)(p, batch())",
    INIT_APPLY: "g = grad(loss_fn)(p, x)",
}


def judged(path, style, differentiate, fault):
    parts = {"loss": "(recon + kl)", "out": "{}", "differentiate": differentiate, **FAULTS[fault]}
    text = HEAD + style
    for name, part in parts.items():
        text = text.replace(f"@{name}@", part.replace("{}", "") if name == "out" else part)
    text = text.replace("torch.sigmoid()(", "torch.sigmoid(")
    path.write_text(text)
    outcome = run_script(str(path), [], ratio=1.3)
    assert outcome.error is None, outcome.error
    assert outcome.reason == ""
    found = examine(outcome.subject, CODES, bench=Bench(outcome.subject))
    return outcome.subject, [f["code"] for f in found.to_dict()["findings"]]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda code: code or "healthy")
@pytest.mark.parametrize("style", [DICT, MODULE, INIT_APPLY], ids=["dict", "module", "init and apply"])
def test_judged_as_its_twin_is(tmp_path, style, fault):
    ours, codes = judged(tmp_path / "func.py", style, BY_FUNC[style], fault)
    theirs, expected = judged(tmp_path / "backward.py", style, BY_BACKWARD[style], fault)

    assert codes == expected == ([fault] if fault else [])
    assert ours.count == theirs.count == 80
    assert ours.lineage.posterior == theirs.lineage.posterior == "diagonal Gaussian"
    assert ours.model == theirs.model
