"""Digits VAE with loss bookkeeping."""
import collections
import torch
from sklearn.datasets import load_digits
from torch import nn

Parts = collections.namedtuple("Parts", "total recon kl")


class DigitVAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.net_in = nn.Sequential(nn.Linear(64, 100), nn.Mish(), nn.Linear(100, 100), nn.Mish())
        self.net_out = nn.Sequential(nn.Linear(6, 100), nn.Mish(), nn.Linear(100, 100), nn.Mish(), nn.Linear(100, 64))
        self.mean_head = nn.Linear(100, 6)
        self.logvar_head = nn.Linear(100, 6)

    def compute_loss(self, x):
        h = self.net_in(x)
        mean, logvar = self.mean_head(h), self.logvar_head(h)
        z = mean + torch.randn_like(mean) * torch.exp(0.5 * logvar)
        recon = torch.sum((self.net_out(z) - x) ** 2) / (2 * 0.022 * len(x))
        kl = -0.5 * torch.sum(1 + logvar - mean**2 - logvar.exp()) / len(x)
        total = recon + kl.item()
        return Parts(total, recon, kl)

    def generate(self, n):
        with torch.no_grad():
            return self.net_out(torch.randn(n, 6))


torch.manual_seed(77)
train_data = torch.tensor(load_digits().data / 16, dtype=torch.float32)
autoenc = DigitVAE()
opt = torch.optim.Adam(autoenc.parameters(), lr=2e-3)
for epoch in range(70):
    log = []
    for x in torch.split(train_data[torch.randperm(1797)], 100):
        parts = autoenc.compute_loss(x)
        opt.zero_grad()
        parts.total.backward()
        opt.step()
        log.append([p.item() for p in parts])
    if epoch % 10 == 9:
        print(epoch + 1, [round(sum(c) / len(log), 2) for c in zip(*log)])
