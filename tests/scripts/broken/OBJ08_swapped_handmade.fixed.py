"""Soft blobs with values in [0, 1], VAE with a cross-entropy of our own."""
import torch
from torch import nn

EPS = 1e-7


def make_batch(n):
    c = torch.rand(n, 2, 1) * 4 + 2
    s = torch.rand(n, 1) * 1.5 + 1.5
    g = torch.arange(8.0).view(1, 8)
    row = torch.exp(-((g - c[:, 0]) / s) ** 2)
    col = torch.exp(-((g - c[:, 1]) / s) ** 2)
    return (row.unsqueeze(2) * col.unsqueeze(1)).reshape(n, 64)


class SoftVAE(nn.Module):
    def __init__(self, nz=4):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(64, 80), nn.ReLU(), nn.Linear(80, 80), nn.ReLU())
        self.mu, self.lv = nn.Linear(80, nz), nn.Linear(80, nz)
        self.gen = nn.Sequential(nn.Linear(nz, 80), nn.ReLU(), nn.Linear(80, 80), nn.ReLU(), nn.Linear(80, 64), nn.Sigmoid())

    def decode(self, z):
        return self.gen(z)

    def forward(self, x):
        h = self.body(x)
        mu, lv = self.mu(h), self.lv(h)
        return self.decode(mu + torch.exp(lv / 2) * torch.randn_like(mu)), mu, lv


def cross_entropy(target, prob):
    return -(target * torch.log(prob + EPS) + (1 - target) * torch.log(1 - prob + EPS)).sum(1)


torch.manual_seed(6)
model = SoftVAE()
opt = torch.optim.Adam(model.parameters(), lr=2e-3)
for it in range(1600):
    x = make_batch(100)
    y, mu, lv = model(x)
    rec = cross_entropy(x, y).mean()
    kl = (-0.5 * (1 + lv - mu**2 - lv.exp())).sum(1).mean()
    opt.zero_grad()
    (rec + 0.1 * kl).backward()
    opt.step()
    if it % 200 == 199:
        print(f"{it + 1} rec {rec.item():.3f} kl {kl.item():.3f}")
