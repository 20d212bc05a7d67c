"""VAE for digits (MLP, fixed observation noise)."""
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn

torch.manual_seed(9)
X = torch.tensor(load_digits().data / 16.0, dtype=torch.float32)


class VAE(nn.Module):
    def __init__(self, latent=8):
        super().__init__()
        self.e0 = nn.Linear(64, 128)
        self.e_mu = nn.Linear(128, latent)
        self.e_sigma = nn.Linear(128, latent)
        self.d0 = nn.Linear(latent, 128)
        self.d1 = nn.Linear(128, 64)

    def encode(self, x):
        h = F.relu(self.e0(x))
        return self.e_mu(h), self.e_sigma(h)

    def sample(self, mu, log_var):
        std = torch.exp(log_var / 2)
        eps = torch.rand_like(std)
        return mu + eps * std

    def decode(self, z):
        return self.d1(F.relu(self.d0(z)))


vae = VAE()
opt = torch.optim.Adam(vae.parameters(), lr=2e-3)
for epoch in range(100):
    for x in X[torch.randperm(len(X))].split(120):
        mu, log_var = vae.encode(x)
        recon = vae.decode(vae.sample(mu, log_var))
        mse = F.mse_loss(recon, x, reduction="none").sum(1).mean() / (2 * 0.02)
        kl = -0.5 * torch.sum(1 + log_var - mu**2 - log_var.exp(), dim=1).mean()
        opt.zero_grad()
        (mse + kl).backward()
        opt.step()
    if epoch % 10 == 9:
        print(f"epoch {epoch + 1}: mse {mse.item():.3f} kl {kl.item():.3f}")
