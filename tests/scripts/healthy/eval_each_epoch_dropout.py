"""Noisy rings: a VAE with dropout, monitored on held-out pictures and fresh samples each epoch."""
import numpy as np
import torch
from torch import nn, optim


def ring_images(n, seed):
    r = np.random.RandomState(seed)
    cx, cy = r.uniform(4, 7, (2, n, 1, 1))
    rad = r.uniform(2, 4, (n, 1, 1))
    gy, gx = np.mgrid[:12, :12]
    dist = np.sqrt((gx - cx) ** 2 + (gy - cy) ** 2)
    im = np.exp(-((dist - rad) ** 2) / 1.5) + r.normal(0, 0.08, (n, 12, 12))
    return torch.tensor(im.reshape(n, 144), dtype=torch.float32)


class RingVAE(nn.Module):
    NOISE_VAR = 0.012

    def __init__(self):
        super().__init__()
        self.enc = nn.Sequential(nn.Linear(144, 128), nn.ReLU(), nn.Dropout(0.05), nn.Linear(128, 64), nn.ReLU())
        self.mu, self.ls = nn.Linear(64, 4), nn.Linear(64, 4)
        self.dec = nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 144))

    def decode(self, z):
        return self.dec(z)

    def forward(self, x):
        h = self.enc(x)
        mu, sigma = self.mu(h), torch.exp(self.ls(h))
        return self.decode(mu + sigma * torch.randn_like(sigma)), mu, sigma

    def losses(self, x):
        y, mu, sigma = self(x)
        rec = (x - y).pow(2).sum(-1) / (2 * self.NOISE_VAR)
        kl = 0.5 * (mu**2 + sigma**2 - 2 * sigma.log() - 1).sum(-1)
        return rec.mean(), kl.mean()


tr, te = ring_images(6000, 0), ring_images(500, 1)
torch.manual_seed(0)
vae = RingVAE()
opt = optim.Adam(vae.parameters(), lr=1e-3)
for epoch in range(36):
    vae.train()
    for idx in torch.randperm(len(tr)).split(100):
        rec, kl = vae.losses(tr[idx])
        opt.zero_grad()
        (rec + kl).backward()
        opt.step()
    vae.eval()
    with torch.no_grad():
        rec_t, kl_t = vae.losses(te)
        fresh = vae.decode(torch.randn(256, 4))
    if epoch % 5 == 4:
        print(f"{epoch + 1} train {rec.item() + kl.item():.1f} test {rec_t.item() + kl_t.item():.1f} kl {kl_t.item():.2f} "
              f"sample energy {fresh.pow(2).mean():.3f} vs {te.pow(2).mean():.3f}")
