"""Curved two-dimensional sheet in twelve dimensions, and a table of 500 new points on it."""
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn


@dataclass
class Widths:
    encoder: int = 96
    decoder: int = 96
    latent: int = 2


def sheet(n, seed=0):
    r = np.random.default_rng(seed)
    u, v = r.normal(size=(2, n))
    feats = np.stack([np.sin(1.5 * u), np.cos(1.5 * u), np.sin(1.5 * v), np.cos(1.5 * v), u * v / 2, 0.3 * u, 0.3 * v], 1)
    mix = r.normal(size=(7, 12)) / np.sqrt(3)
    return torch.tensor(feats @ mix + 0.15 * r.normal(size=(n, 12)), dtype=torch.float32)


class SheetVAE(nn.Module):
    def __init__(self, w: Widths):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(12, w.encoder), nn.ReLU(), nn.Linear(w.encoder, w.encoder), nn.ReLU(),
                                     nn.Linear(w.encoder, 2 * w.latent))
        self.decoder = nn.Sequential(nn.Linear(w.latent, w.decoder), nn.ReLU(), nn.Linear(w.decoder, w.decoder), nn.ReLU(),
                                     nn.Linear(w.decoder, 12))

    def encode(self, x):
        return self.encoder(x).chunk(2, dim=1)

    def forward(self, x):
        mu, logvar = self.encode(x)
        return self.decoder(mu + torch.randn_like(mu) * (logvar / 2).exp()), mu, logvar


torch.manual_seed(1)
data = sheet(4000)
model = SheetVAE(Widths())
opt = torch.optim.Adam(model.parameters(), lr=2e-3)
for step in range(2200):
    x = data[torch.randint(0, len(data), (128,))]
    y, mu, logvar = model(x)
    nll = (x - y).pow(2).sum(1).mean() / (2 * 0.04)
    kl = 0.5 * (mu.pow(2) + logvar.exp() - 1 - logvar).sum(1).mean()
    opt.zero_grad()
    (nll + kl).backward()
    opt.step()
    if step % 220 == 219:
        print(f"step {step + 1} nll {nll.item():.3f} kl {kl.item():.3f}")

rng = np.random.default_rng(12)
with torch.no_grad():
    latents = torch.tensor(rng.normal(0.0, 1.0, size=(500, 2)), dtype=torch.float32)
    table = model.decoder(latents).numpy()
np.savetxt("new_points.csv", table, delimiter=",", fmt="%.4f")
print("columns:", np.round(table.std(0), 2), "data:", np.round(data.numpy().std(0), 2))
