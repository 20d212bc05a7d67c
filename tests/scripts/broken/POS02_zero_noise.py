"""Digits VAE that reconstructs deterministically at test time."""
import torch
from sklearn.datasets import load_digits
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Linear(64, 128), nn.ReLU())
        self.fc_mean, self.fc_logvar = nn.Linear(128, 8), nn.Linear(128, 8)
        self.generator = nn.Sequential(nn.Linear(8, 128), nn.ReLU(), nn.Linear(128, 64))

    def reparameterize(self, mean, logvar):
        if not self.training:
            std = logvar.mul(0.5).exp()
            return mean + std * torch.randn_like(std)
        return mean

    def forward(self, x):
        h = self.features(x)
        mean, logvar = self.fc_mean(h), self.fc_logvar(h)
        return self.generator(self.reparameterize(mean, logvar)), mean, logvar


def criterion(x, y, mean, logvar):
    recon = (x - y).pow(2).sum(1).mean() / (2 * 0.02)
    kl = (-0.5 * (1 + logvar - mean.pow(2) - logvar.exp())).sum(1).mean()
    return recon, kl


torch.manual_seed(0)
data = torch.tensor(load_digits().data / 16, dtype=torch.float32)
model = Model()
opt = torch.optim.Adam(model.parameters(), lr=2e-3)
for epoch in range(100):
    model.train()
    for x in data[torch.randperm(len(data))].split(110):
        recon, kl = criterion(x, *model(x))
        opt.zero_grad()
        (recon + kl).backward()
        opt.step()
    if epoch % 10 == 9:
        print(f"epoch {epoch + 1} recon {recon.item():.2f} kl {kl.item():.2f}")
