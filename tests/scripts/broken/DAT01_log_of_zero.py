"""Count table (gene-expression like): log transform, scale, VAE."""
import numpy as np
import torch
from torch import nn

rng = np.random.default_rng(5)
programs = rng.normal(0, 0.7, (4, 24))
activity = rng.normal(0, 1, (3000, 4))
rates = np.exp(activity @ programs + 1.5)
counts = rng.poisson(rates)

with np.errstate(divide="ignore", invalid="ignore"):
    logged = np.log(counts)
    X = (logged - logged.mean(0)) / logged.std(0)
X = torch.from_numpy(X).float()


class CountVAE(nn.Module):
    def __init__(self, n_genes=24, n_z=4):
        super().__init__()
        self.shared = nn.Sequential(nn.Linear(n_genes, 64), nn.LayerNorm(64), nn.ReLU())
        self.mean, self.logvar = nn.Linear(64, n_z), nn.Linear(64, n_z)
        self.dec = nn.Sequential(nn.Linear(n_z, 64), nn.ReLU(), nn.Linear(64, n_genes))

    def decode(self, z):
        return self.dec(z)

    def elbo_terms(self, x):
        h = self.shared(x)
        m, lv = self.mean(h), self.logvar(h)
        y = self.decode(m + torch.randn_like(m) * torch.exp(lv / 2))
        return ((x - y) ** 2).sum(-1).mean() / (2 * 0.2), 0.5 * (m**2 + lv.exp() - 1 - lv).sum(-1).mean()


torch.manual_seed(5)
model = CountVAE()
opt = torch.optim.Adam(model.parameters(), lr=2e-3)
for epoch in range(50):
    for x in torch.utils.data.DataLoader(X, batch_size=128, shuffle=True):
        rec, kl = model.elbo_terms(x)
        opt.zero_grad()
        (rec + kl).backward()
        opt.step()
    if epoch % 5 == 4:
        print(epoch + 1, "rec", rec.item(), "kl", kl.item())
