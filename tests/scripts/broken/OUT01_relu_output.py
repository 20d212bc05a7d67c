"""Waveform VAE: 32-sample snippets in [-1, 1], 1-D convolutions."""
import numpy as np
import torch
from torch import nn

rng = np.random.default_rng(0)


def snippets(n, rng):
    t = np.linspace(0, 1, 32)
    phase = rng.uniform(0, 1.5, (n, 1))
    freq = rng.uniform(0.8, 1.3, (n, 1))
    amp = rng.uniform(0.4, 0.9, (n, 1))
    return torch.tensor(amp * np.sin(2 * np.pi * freq * t + phase) + rng.normal(0, 0.15, (n, 32)), dtype=torch.float32)[:, None]


class WaveVAE(nn.Module):
    def __init__(self, nz=4):
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv1d(1, 16, 4, 2, 1), nn.ReLU(), nn.Conv1d(16, 24, 4, 2, 1), nn.ReLU(), nn.Flatten(),
                                     nn.Linear(24 * 8, 2 * nz))
        self.decoder = nn.Sequential(
            nn.Linear(nz, 24 * 8), nn.ReLU(), nn.Unflatten(1, (24, 8)),
            nn.ConvTranspose1d(24, 16, 4, 2, 1), nn.ReLU(),
            nn.ConvTranspose1d(16, 1, 4, 2, 1), nn.ReLU(),
        )

    def decode(self, z):
        return self.decoder(z)

    def forward(self, x):
        mu, logvar = self.encoder(x).chunk(2, 1)
        z = mu + torch.randn_like(mu) * logvar.mul(0.5).exp()
        return self.decode(z), mu, logvar


torch.manual_seed(0)
model = WaveVAE()
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
for step in range(1200):
    x = snippets(64, rng)
    xr, mu, logvar = model(x)
    rec = (xr - x).square().sum((1, 2)).mean() / (2 * 0.025)
    kl = -0.5 * (1 + logvar - mu.square() - logvar.exp()).sum(1).mean()
    optimizer.zero_grad()
    (rec + kl).backward()
    optimizer.step()
    if step % 150 == 149:
        print(f"step {step + 1} rec {rec.item():.2f} kl {kl.item():.2f}")
