"""Small VAE scripts in styles of their own, healthy as they stand: a test breaks one, edits it, and looks at the text."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from whyvae.probe import Bench
from whyvae.treat.case import Case
from whyvae.watch.script import run_script

TRAINER = """\
from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F


@dataclass
class Config:
    hidden: int = 32
    latents: int = 4
    beta: float = 1.0
    lr: float = 1e-3
    epochs: int = 2
    batch: int = 32


class Net(nn.Module):
    def __init__(self, cfg: Config):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(20, cfg.hidden), nn.ReLU())
        self.mu = nn.Linear(cfg.hidden, cfg.latents)
        self.logvar = nn.Linear(cfg.hidden, cfg.latents)
        self.decoder = nn.Sequential(
            nn.Linear(cfg.latents, cfg.hidden),
            nn.ReLU(),
            nn.Linear(cfg.hidden, 20),
            nn.Sigmoid(),
        )

    def forward(self, x):
        h = self.encoder(x)
        mu, logvar = self.mu(h), self.logvar(h)
        z = self.draw(mu, logvar)
        return self.decoder(z), mu, logvar

    def draw(self, mu, logvar):
        std = torch.exp(0.5 * logvar)
        eps = torch.randn_like(std)
        return mu + eps * std


class Trainer:
    def __init__(self, cfg: Config, data):
        self.cfg, self.data = cfg, data
        self.model = Net(cfg)
        self.opt = torch.optim.AdamW(self.model.parameters(), lr=cfg.lr)

    def losses(self, x):
        recon, mu, logvar = self.model(x)
        rec = F.binary_cross_entropy(input=recon, target=x, reduction="none").sum(dim=1).mean()
        kld = (-0.5 * (1 + logvar - mu.pow(2) - logvar.exp())).sum(dim=1).mean()
        return rec, kld

    def fit(self):
        for _ in range(self.cfg.epochs):
            for batch in self.data.split(self.cfg.batch):
                self.opt.zero_grad()
                rec, kld = self.losses(batch)
                loss = rec + self.cfg.beta * kld
                loss.backward()
                self.opt.step()


torch.manual_seed(0)
trainer = Trainer(Config(), (torch.rand(128, 20) > 0.5).float())
trainer.fit()
trainer.model.eval()
with torch.no_grad():
    images = trainer.model.decoder(torch.randn(9, 4))
"""

FUNCTIONS = """\
import math

import torch
import torch.nn.functional as F

D, H, Z = 16, 24, 3
KL_WEIGHT = 1.0
torch.manual_seed(1)
table = torch.randn(200, Z) @ torch.randn(Z, D) + 0.1 * torch.randn(200, D)


def layer(inputs, outputs):
    w = (torch.randn(inputs, outputs) / math.sqrt(inputs)).requires_grad_()
    return w, torch.zeros(outputs, requires_grad=True)


w1, b1 = layer(D, H)
w2, b2 = layer(H, 2 * Z)
w3, b3 = layer(Z, H)
w4, b4 = layer(H, D)
weights = [w1, b1, w2, b2, w3, b3, w4, b4]
opt = torch.optim.Adam(weights, lr=2e-3)


def encode(x):
    return torch.chunk(torch.tanh(x @ w1 + b1) @ w2 + b2, 2, dim=1)


def decode(z):
    return torch.tanh(z @ w3 + b3) @ w4 + b4


def divergence(m, s):
    return 0.5 * (m**2 + torch.exp(2 * s) - 2 * s - 1)


for step in range(40):
    x = table[torch.randint(200, (50,))]
    m, s = encode(x)
    y = decode(m + torch.exp(s) * torch.randn(m.shape))
    fit = ((y - x) ** 2).sum(1) / (2 * 0.1**2)
    loss = (fit + KL_WEIGHT * divergence(m, s).sum(1)).mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
new = decode(torch.randn(5, Z))
"""

DISTRIBUTIONS = """\
import torch
from torch import nn, optim
from torch.distributions import Independent, Normal, kl_divergence


class Encoder(nn.Module):
    def __init__(self, width=40, code=5):
        super().__init__()
        self.body = nn.Linear(30, width)
        self.loc = nn.Linear(width, code)
        self.raw = nn.Linear(width, code)

    def forward(self, x):
        h = self.body(x).tanh()
        return Independent(Normal(self.loc(h), nn.functional.softplus(self.raw(h)) + 1e-4), 1)


def train(encoder, decoder, data, weight=1.0):
    optimizer = optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=1e-3)
    prior = Independent(Normal(torch.zeros(5), torch.ones(5)), 1)

    def closure(x):
        posterior = encoder(x)
        code = posterior.rsample()
        likelihood = Independent(Normal(decoder(code), 0.2), 1)
        log_px = likelihood.log_prob(x)
        return -(log_px - weight * kl_divergence(posterior, prior)).mean()

    for _ in range(30):
        batch = data[torch.randperm(len(data))[:64]]
        loss = closure(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


if __name__ == "__main__":
    torch.manual_seed(2)
    data = torch.randn(300, 5) @ torch.randn(5, 30) + 0.2 * torch.randn(300, 30)
    train(Encoder(), decoder := nn.Sequential(nn.Linear(5, 40), nn.Tanh(), nn.Linear(40, 30)), data, weight=1.0)
    print(decoder(torch.randn(3, 5)).shape)
"""


CONVOLUTIONS = """\
import argparse

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

parser = argparse.ArgumentParser()
parser.add_argument("--latent-dim", type=int, default=6)
parser.add_argument("--epochs", type=int, default=2)
args = parser.parse_args()


class ConvEncoder(nn.Module):
    def __init__(self, z_dim):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 4, 4, stride=2, padding=1)
        self.bn = nn.BatchNorm2d(4)
        self.conv2 = nn.Conv2d(4, 8, 4, stride=2, padding=1)
        self.head = nn.Linear(8 * 2 * 2, 2 * z_dim)

    def forward(self, x):
        x = F.relu(self.bn(self.conv1(x)))
        x = F.relu(self.conv2(x)).flatten(1)
        return self.head(x).chunk(2, dim=-1)


class ConvDecoder(nn.Module):
    def __init__(self, z_dim):
        super().__init__()
        self.fc = nn.Linear(z_dim, 32)
        self.up = nn.Sequential(
            nn.ConvTranspose2d(8, 4, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(4, 1, 4, stride=2, padding=1),
        )

    def forward(self, z):
        return self.up(F.relu(self.fc(z)).view(z.size(0), 8, 2, 2))


def main():
    torch.manual_seed(3)
    images = torch.rand(96, 1, 8, 8)
    loader = DataLoader(TensorDataset(images), batch_size=32, shuffle=True)
    enc, dec = ConvEncoder(args.latent_dim), ConvDecoder(args.latent_dim)
    optim = torch.optim.RMSprop([{"params": enc.parameters()}, {"params": dec.parameters()}], lr=1e-3)
    for epoch in range(args.epochs):
        for step, (img,) in enumerate(loader):
            mean, log_var = enc(img)
            latent = mean + torch.randn_like(mean) * torch.exp(log_var / 2)
            out = dec(latent)
            mse = F.mse_loss(out, img, reduction="sum") / (2 * 0.05)
            kld = -0.5 * torch.sum(1 + log_var - mean.square() - log_var.exp())
            total = (mse + kld) / img.shape[0]
            optim.zero_grad()
            total.backward()
            optim.step()
    with torch.no_grad():
        return dec(torch.randn(16, args.latent_dim))


if __name__ == "__main__":
    main()
"""


def case_of(folder: Path, text: str, steps: int | None = 3, examination: Any = None) -> Case:
    """The case of a script, watched for its first steps."""
    script = folder / "script.py"
    script.write_text(text, encoding="utf-8", newline="")
    outcome = run_script(str(script), [], steps=steps)
    assert outcome.subject is not None, outcome.reason
    return Case(script, [], outcome.subject, Bench(outcome.subject), examination or SimpleNamespace(findings=()))


def edited(folder: Path, text: str, remedy: str, *, steps: int | None = 3, **settings: Any) -> str:
    """What an edit makes of a script."""
    case = case_of(folder, text, steps)
    new = importlib.import_module(f"whyvae.treat.edits.{remedy}").edit(case, settings)
    assert list(new) == [str(folder / "script.py")]
    return str(new[str(folder / "script.py")])


def difference(old: str, new: str) -> tuple[list[str], list[str]]:
    """(lines that are gone, lines that came), without their indentation."""
    a, b = old.splitlines(), new.splitlines()
    gone, came = [line for line in a if line not in b], [line for line in b if line not in a]
    return [line.strip() for line in gone], [line.strip() for line in came]


def broken(text: str, right: str, wrong: str) -> str:
    assert text.count(right) == 1, f"{right!r} stands {text.count(right)} times in the patient"
    return text.replace(right, wrong)
