"""Customer table with age, visits, income ...: VAE with learned noise."""
import numpy as np
import torch
from sklearn.datasets import make_classification
from sklearn.preprocessing import StandardScaler
from torch import nn

table, _ = make_classification(n_samples=3000, n_features=8, n_informative=3, n_redundant=5, n_clusters_per_class=1,
                               random_state=2)
table = table + np.random.RandomState(2).normal(0, 0.2, table.shape)
table = table * np.array([1, 12, 5, 15000, 0.3, 2, 800, 1]) + np.array([3, 40, 10, 42000, 0, 0, 1500, 5])
X = torch.tensor(table, dtype=torch.float32)


class CustomerVAE(nn.Module):
    def __init__(self, d=8, k=3, h=64):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(d, h), nn.Tanh(), nn.Linear(h, h), nn.Tanh())
        self.mu, self.lv = nn.Linear(h, k), nn.Linear(h, k)
        self.decoder = nn.Sequential(nn.Linear(k, h), nn.Tanh(), nn.Linear(h, h), nn.Tanh(), nn.Linear(h, d))
        self.log_noise = nn.Parameter(torch.zeros(()))

    def forward(self, x):
        h = self.encoder(x)
        mu, lv = self.mu(h), self.lv(h)
        return self.decoder(mu + torch.randn_like(mu) * (0.5 * lv).exp()), mu, lv


torch.manual_seed(2)
vae = CustomerVAE()
opt = torch.optim.Adam(vae.parameters(), lr=2e-3)
for epoch in range(49):
    for x in X[torch.randperm(len(X))].split(100):
        y, mu, lv = vae(x)
        nll = (0.5 * ((x - y) / vae.log_noise.exp()) ** 2 + vae.log_noise).sum(1).mean()
        kl = 0.5 * (mu**2 + lv.exp() - 1 - lv).sum(1).mean()
        opt.zero_grad()
        (nll + kl).backward()
        opt.step()
    if epoch % 7 == 6:
        print(f"epoch {epoch + 1} nll {nll.item():.3f} kl {kl.item():.3f} noise {vae.log_noise.exp().item():.3f}")
