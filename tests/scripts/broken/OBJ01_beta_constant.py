"""Beta-VAE on binarised digits."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits

BETA = 30.0
torch.manual_seed(0)
digits = torch.from_numpy(load_digits().data > 7).float()


class BetaVAE(nn.Module):
    def __init__(self, nz):
        super().__init__()
        self.enc = nn.Sequential(nn.Linear(64, 128), nn.ReLU())
        self.mu = nn.Linear(128, nz)
        self.lv = nn.Linear(128, nz)
        self.dec = nn.Sequential(nn.Linear(nz, 128), nn.ReLU(), nn.Linear(128, 64))

    def forward(self, x):
        h = self.enc(x)
        mu, lv = self.mu(h), self.lv(h)
        z = mu + torch.randn_like(mu) * torch.exp(0.5 * lv)
        return self.dec(z), mu, lv


def beta_loss(logits, x, mu, lv, beta):
    rec = F.binary_cross_entropy_with_logits(logits, x, reduction="sum") / x.shape[0]
    kld = -0.5 * torch.sum(1 + lv - mu.pow(2) - lv.exp()) / x.shape[0]
    return rec + beta * kld, rec, kld


net = BetaVAE(10)
optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
for epoch in range(80):
    for x in digits[torch.randperm(len(digits))].split(100):
        logits, mu, lv = net(x)
        loss, rec, kld = beta_loss(logits, x, mu, lv, BETA)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if epoch % 10 == 9:
        print(f"epoch {epoch + 1} loss {loss.item():.2f} rec {rec.item():.2f} kld {kld.item():.3f}")
