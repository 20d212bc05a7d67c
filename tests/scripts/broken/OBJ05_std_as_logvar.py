"""Generative model of a synthetic sensor table, standard deviation from a softplus."""
import numpy as np
import torch
from torch import nn
import torch.nn.functional as F
from sklearn.preprocessing import StandardScaler

rs = np.random.RandomState(0)
latent = rs.randn(3000, 3)
mix = rs.randn(3, 12)
raw = np.tanh(latent @ mix * 0.7) + 0.2 * rs.randn(3000, 12)
X = torch.tensor(StandardScaler().fit_transform(raw), dtype=torch.float32)


class SensorVAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(12, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU())
        self.mu = nn.Linear(64, 3)
        self.std = nn.Linear(64, 3)
        self.dec = nn.Sequential(nn.Linear(3, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 12))

    def forward(self, x):
        t = self.trunk(x)
        mu = self.mu(t)
        std = F.softplus(self.std(t)) + 1e-5
        z = mu + std * torch.randn_like(std)
        return self.dec(z), mu, std


def kl_term(mu, std):
    return (-0.5 * (1 + std - mu**2 - std.exp())).sum(dim=1)


torch.manual_seed(0)
m = SensorVAE()
opt = torch.optim.Adam(m.parameters(), lr=2e-3)
for epoch in range(50):
    perm = torch.randperm(len(X))
    for k in range(0, len(X), 100):
        x = X[perm[k:k + 100]]
        y, mu, std = m(x)
        nll = ((x - y) ** 2).sum(dim=1) / (2 * 0.3**2)
        kl = kl_term(mu, std)
        loss = (nll + kl).mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
    if epoch % 5 == 4:
        print(f"epoch {epoch + 1} nll {nll.mean().item():.3f} kl {kl.mean().item():.3f} std {std.mean().item():.3f}")
