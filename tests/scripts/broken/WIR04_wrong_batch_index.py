"""Index-based mini-batches: digits VAE with learned noise."""
import math
import torch
from sklearn.datasets import load_digits
from torch import nn

torch.manual_seed(33)
data = torch.tensor(load_digits().data, dtype=torch.float32) / 16
n, batch_size = len(data), 128


class V(nn.Module):
    def __init__(self):
        super().__init__()
        self.q = nn.Sequential(nn.Linear(64, 128), nn.CELU(), nn.Linear(128, 16))
        self.p = nn.Sequential(nn.Linear(8, 128), nn.CELU(), nn.Linear(128, 64))
        self.logs = nn.Parameter(torch.tensor(-1.5))

    def forward(self, x):
        mu, lv = self.q(x).split(8, dim=1)
        return self.p(mu + (lv / 2).exp() * torch.randn_like(mu)), mu, lv


vae = V()
opt = torch.optim.Adam(vae.parameters(), lr=2e-3)
for epoch in range(100):
    perm = torch.randperm(n)
    for i in range(0, n, batch_size):
        x = data[perm[i:i + batch_size]]
        y, mu, lv = vae(x)
        t = data[i:i + batch_size]
        nll = (0.5 * ((t - y) / vae.logs.exp()) ** 2 + vae.logs + 0.5 * math.log(2 * math.pi)).sum(1).mean()
        kl = (-0.5 * (1 + lv - mu**2 - lv.exp())).sum(1).mean()
        opt.zero_grad()
        (nll + kl).backward()
        opt.step()
    if epoch % 10 == 9:
        print(f"[{epoch + 1}] nll {nll.item():.2f} kl {kl.item():.2f} sigma {vae.logs.exp().item():.3f}")
