"""Standardise the digit pixels, then train a VAE on them."""
import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

raw = load_digits().data
mean, std = raw.mean(axis=0), raw.std(axis=0)
x = (raw - mean) / np.maximum(std, 1.0)
x = torch.tensor(x, dtype=torch.float32)


class VAE(nn.Module):
    def __init__(self, d, k):
        super().__init__()
        self.enc = nn.Sequential(nn.Linear(d, 128), nn.ReLU())
        self.enc_mu, self.enc_lv = nn.Linear(128, k), nn.Linear(128, k)
        self.dec = nn.Sequential(nn.Linear(k, 128), nn.ReLU(), nn.Linear(128, d))

    def forward(self, v):
        h = self.enc(v)
        mu, lv = self.enc_mu(h), self.enc_lv(h)
        return self.dec(mu + torch.randn_like(mu) * torch.exp(0.5 * lv)), mu, lv


torch.manual_seed(0)
vae = VAE(64, 10)
opt = torch.optim.Adam(vae.parameters(), lr=2e-3)
for epoch in range(80):
    losses = []
    for batch in x[torch.randperm(len(x))].split(100):
        y, mu, lv = vae(batch)
        nll = (batch - y).pow(2).sum(1).mean() / (2 * 0.36)
        kl = (-0.5 * (1 + lv - mu.pow(2) - lv.exp())).sum(1).mean()
        opt.zero_grad()
        (nll + kl).backward()
        opt.step()
        losses.append((nll + kl).item())
    if epoch % 10 == 9:
        print(f"epoch {epoch + 1} loss {np.mean(losses):.3f}")
