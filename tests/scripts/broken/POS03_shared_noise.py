"""Elliptic blobs on a 10x10 canvas, learned by a VAE."""
import torch
from torch import nn


def patches(n):
    y, x = torch.meshgrid(torch.arange(10.0), torch.arange(10.0), indexing="ij")
    p = torch.rand(n, 4) * torch.tensor([6.0, 6.0, 1.0, 1.0]) + torch.tensor([2.0, 2.0, 1.0, 1.0])
    e = ((x - p[:, 0, None, None]) / p[:, 2, None, None]) ** 2 + ((y - p[:, 1, None, None]) / p[:, 3, None, None]) ** 2
    return (torch.exp(-e / 2) + 0.08 * torch.randn(n, 10, 10)).flatten(1)


class BlobVAE(nn.Module):
    def __init__(self, nz=5):
        super().__init__()
        self.nz = nz
        self.encoder = nn.Sequential(nn.Linear(100, 96), nn.LeakyReLU(), nn.Linear(96, 96), nn.LeakyReLU())
        self.mu = nn.Linear(96, nz)
        self.log_sigma = nn.Linear(96, nz)
        self.decoder = nn.Sequential(nn.Linear(nz, 96), nn.LeakyReLU(), nn.Linear(96, 96), nn.LeakyReLU(), nn.Linear(96, 100))

    def forward(self, x):
        h = self.encoder(x)
        mu, sigma = self.mu(h), self.log_sigma(h).exp()
        noise = torch.randn(self.nz)
        return self.decoder(mu + noise * sigma), mu, sigma


torch.manual_seed(24)
model = BlobVAE()
opt = torch.optim.Adam(model.parameters(), lr=1.5e-3)
for step in range(2200):
    x = patches(100)
    out, mu, sigma = model(x)
    nll = ((out - x) ** 2).sum(1).mean() / (2 * 0.009)
    kl = (0.5 * (mu**2 + sigma**2 - 1) - torch.log(sigma)).sum(1).mean()
    opt.zero_grad()
    (nll + kl).backward()
    opt.step()
    if step % 220 == 0:
        print(f"step {step:4d} nll {nll.item():7.2f} kl {kl.item():6.2f}")
