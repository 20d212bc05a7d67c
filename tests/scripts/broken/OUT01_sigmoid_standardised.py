"""Standardised gene-like table, VAE with two hidden layers."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import make_blobs
from sklearn.preprocessing import StandardScaler


def load(n=3000, d=20, k=6):
    x, y = make_blobs(n, n_features=d, centers=k, cluster_std=2.0, random_state=1)
    return torch.from_numpy(StandardScaler().fit_transform(x)).float()


class OmicsVAE(nn.Module):
    def __init__(self, d_in=20, d_h=64, d_z=4):
        super().__init__()
        self.e1, self.e2 = nn.Linear(d_in, d_h), nn.Linear(d_h, d_h)
        self.zm, self.zv = nn.Linear(d_h, d_z), nn.Linear(d_h, d_z)
        self.d1, self.d2 = nn.Linear(d_z, d_h), nn.Linear(d_h, d_h)
        self.out = nn.Linear(d_h, d_in)

    def encode(self, x):
        h = F.relu(self.e2(F.relu(self.e1(x))))
        return self.zm(h), self.zv(h)

    def decode(self, z):
        h = F.relu(self.d2(F.relu(self.d1(z))))
        return torch.sigmoid(self.out(h))

    def forward(self, x):
        m, v = self.encode(x)
        z = m + torch.exp(v / 2) * torch.randn_like(v)
        return self.decode(z), m, v


torch.manual_seed(0)
data = load()
net = OmicsVAE()
opt = torch.optim.Adam(net.parameters(), lr=1e-3)
for epoch in range(60):
    for x in data[torch.randperm(len(data))].split(100):
        y, m, v = net(x)
        rec = F.mse_loss(y, x, reduction="sum") / len(x) / (2 * 0.15)
        kl = -0.5 * torch.sum(1 + v - m.pow(2) - v.exp()) / len(x)
        opt.zero_grad()
        (rec + kl).backward()
        opt.step()
    if epoch % 6 == 5:
        print(f"epoch {epoch + 1:2d} rec {rec.item():.3f} kl {kl.item():.3f}")
