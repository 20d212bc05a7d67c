"""Wave VAE with residual blocks, Adam."""
import numpy as np
import torch
from torch import nn

rng = np.random.default_rng(11)
t = np.linspace(0, 2 * np.pi, 30)
amp, ph, off = rng.uniform(0.5, 1, (3000, 1)), rng.uniform(0, 2, (3000, 1)), rng.normal(0, 0.3, (3000, 1))
W = torch.tensor(amp * np.sin(t + ph) + off + rng.normal(0, 0.1, (3000, 30)), dtype=torch.float32)


class Res(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.a, self.b = nn.Linear(n, n), nn.Linear(n, n)

    def forward(self, x):
        return x + self.b(torch.relu(self.a(x)))


class WaveVAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.f = nn.Sequential(nn.Linear(30, 64), Res(64), Res(64), nn.Linear(64, 10))
        self.g = nn.Sequential(nn.Linear(5, 64), Res(64), Res(64), nn.Linear(64, 30))

    def forward(self, x):
        mu, lv = self.f(x).chunk(2, dim=1)
        return self.g(mu + torch.exp(0.5 * lv) * torch.randn_like(mu)), mu, lv


torch.manual_seed(11)
model = WaveVAE()
opt = torch.optim.Adam(model.parameters(), lr=1e-3)
for step in range(1200):
    x = W[torch.randint(0, 3000, (100,))]
    y, mu, lv = model(x)
    rec = ((x - y) ** 2).sum(1).mean() / (2 * 0.012)
    kl = 0.5 * (mu**2 + lv.exp() - 1 - lv).sum(1).mean()
    opt.zero_grad()
    (rec + kl).backward()
    opt.step()
    if step % 200 == 0:
        print(f"step {step} rec {rec.item():.2f} kl {kl.item():.2f}")
