"""Tiny VAE trainer for digits."""
import torch
from sklearn.datasets import load_digits
from torch import nn

torch.manual_seed(0)
X = torch.tensor(load_digits().data / 16, dtype=torch.float32)


class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc = nn.Sequential(nn.Linear(64, 100), nn.ReLU(), nn.Linear(100, 12))
        self.dec = nn.Sequential(nn.Linear(6, 100), nn.ReLU(), nn.Linear(100, 64))

    def forward(self, x):
        mu, lv = self.enc(x).chunk(2, -1)
        z = mu + torch.randn_like(mu) * torch.exp(lv * 0.5)
        return self.dec(z), mu, lv


def elbo_loss(x, out):
    y, mu, lv = out
    rec = ((x - y) ** 2).sum(1) / (2 * 0.025)
    kl = -0.5 * (1 + lv - mu**2 - lv.exp()).sum(1)
    return (rec + kl).mean()


model = VAE()
opt = torch.optim.Adam(model.parameters(), lr=1e-3)
for epoch in range(120):
    for idx in torch.randperm(len(X)).split(100):
        opt.zero_grad()
        loss = elbo_loss(X[idx], model(X[idx]))
        loss.backward()
        opt.step()
    if epoch % 12 == 11:
        print(epoch + 1, loss.item())
