"""Oriented gratings: a VAE with a private random generator, so runs are repeatable."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn


@dataclass
class Config:
    size: int = 10
    latent: int = 4
    hidden: int = 128
    lr: float = 3e-3
    steps: int = 2500
    batch: int = 128
    seed: int = 99


@dataclass
class Output:
    recon: Tensor
    mean: Tensor
    log_std: Tensor

    def kl(self) -> Tensor:
        var = torch.exp(2 * self.log_std)
        return 0.5 * (var + self.mean**2 - 1.0 - 2 * self.log_std).sum(-1)


def gratings(n: int, cfg: Config, rng: np.random.Generator) -> Tensor:
    angle = rng.uniform(0.2, 1.2, (n, 1, 1))
    phase = rng.uniform(0, 2.5, (n, 1, 1))
    yy, xx = np.mgrid[0:cfg.size, 0:cfg.size]
    wave = np.sin(0.9 * (np.cos(angle) * xx + np.sin(angle) * yy) + phase)
    return torch.from_numpy((0.5 + 0.5 * wave + rng.normal(0, 0.1, wave.shape)).reshape(n, -1)).float()


class GratingVAE(nn.Module):
    def __init__(self, cfg: Config):
        super().__init__()
        self.cfg = cfg
        n = cfg.size**2
        self.enc = nn.Sequential(nn.Linear(n, cfg.hidden), nn.ReLU(), nn.Linear(cfg.hidden, cfg.hidden), nn.ReLU())
        self.head = nn.Linear(cfg.hidden, 2 * cfg.latent)
        self.dec = nn.Sequential(nn.Linear(cfg.latent, cfg.hidden), nn.ReLU(), nn.Linear(cfg.hidden, cfg.hidden),
                                 nn.ReLU(), nn.Linear(cfg.hidden, n))
        self.pixel_logvar = nn.Parameter(torch.full((n,), -2.0))
        self.rng = torch.Generator().manual_seed(cfg.seed)

    def decode(self, z: Tensor) -> Tensor:
        return self.dec(z)

    def forward(self, x: Tensor) -> Output:
        mean, log_std = torch.chunk(self.head(self.enc(x)), 2, dim=-1)
        eps = torch.randn(mean.shape, generator=self.rng)
        return Output(self.decode(mean + log_std.exp() * eps), mean, log_std)

    def loss(self, x: Tensor) -> tuple[Tensor, Output]:
        out = self(x)
        nll = 0.5 * ((x - out.recon) ** 2 * torch.exp(-self.pixel_logvar) + self.pixel_logvar).sum(-1)
        return (nll + out.kl()).mean(), out


cfg = Config()
rng = np.random.default_rng(cfg.seed)
net = GratingVAE(cfg)
train_x = gratings(5000, cfg, rng)
opt = torch.optim.Adam(net.parameters(), lr=cfg.lr)
sched = torch.optim.lr_scheduler.LinearLR(opt, 1.0, 0.02, cfg.steps)
for step in range(cfg.steps):
    batch = train_x[rng.integers(0, len(train_x), cfg.batch)]
    loss, out = net.loss(batch)
    opt.zero_grad()
    loss.backward()
    opt.step()
    sched.step()
    if step % 500 == 0:
        print(f"step={step} loss={loss.item():.2f} kl={out.kl().mean().item():.2f}")
