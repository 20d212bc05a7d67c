"""Synthetic customers: a VAE for a standardised table, to draw new rows."""
import numpy as np
import torch
from sklearn.datasets import make_classification
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.nn.functional import softplus


class TabularVAE(nn.Module):
    def __init__(self, n_features, n_latent=4, n_hidden=64):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(n_features, n_hidden), nn.ReLU(), nn.Linear(n_hidden, n_hidden), nn.ReLU())
        self.loc = nn.Linear(n_hidden, n_latent)
        self.scale = nn.Linear(n_hidden, n_latent)
        self.decoder = nn.Sequential(nn.Linear(n_latent, n_hidden), nn.ReLU(), nn.Linear(n_hidden, n_hidden), nn.ReLU(),
                                     nn.Linear(n_hidden, n_features))
        self.noise = nn.Parameter(torch.zeros(n_features))

    def elbo(self, x):
        h = self.trunk(x)
        loc, scale = self.loc(h), softplus(self.scale(h)) + 1e-3
        z = loc + scale * torch.randn_like(scale)
        px = torch.distributions.Normal(self.decoder(z), softplus(self.noise) + 1e-2)
        log_px = px.log_prob(x).sum(1)
        kl = (-torch.log(scale) + 0.5 * (scale**2 + loc**2) - 0.5).sum(1)
        return log_px - kl, kl


X, _ = make_classification(n_samples=4000, n_features=14, n_informative=4, n_redundant=10, n_classes=3,
                           n_clusters_per_class=1, class_sep=1.5, random_state=8)
X = X + np.random.RandomState(8).normal(0, 0.3, X.shape)
X = X * np.linspace(1, 400, 14) + 50
Z = StandardScaler().fit_transform(X).astype(np.float32)
train, test = map(torch.from_numpy, train_test_split(Z, test_size=0.25, random_state=0))

torch.manual_seed(8)
vae = TabularVAE(14)
optimizer = torch.optim.Adam(vae.parameters(), lr=2e-3)
scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.95)
for epoch in range(60):
    vae.train()
    for rows in train[torch.randperm(len(train))].split(100):
        optimizer.zero_grad()
        bound, kl = vae.elbo(rows)
        (-bound.mean()).backward()
        optimizer.step()
    scheduler.step()
    if epoch % 6 == 5:
        vae.eval()
        with torch.no_grad():
            print(f"{epoch + 1:3d} train {bound.mean():.3f} test {vae.elbo(test)[0].mean():.3f} kl {kl.mean():.3f}")
