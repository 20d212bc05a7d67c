"""Blob images: VAE with a helper that draws the latent."""
import torch
from torch import nn


def blobs(n, side=9):
    c = torch.rand(n, 2) * (side - 4) + 1.5
    ax = torch.arange(float(side))
    im = torch.exp(-((ax[None, :, None] - c[:, 0, None, None]) ** 2 + (ax[None, None] - c[:, 1, None, None]) ** 2) / 4)
    return (im + 0.1 * torch.randn_like(im)).reshape(n, -1)


@torch.no_grad()
def draw(mean, log_var):
    """z ~ N(mean, exp(log_var))"""
    eps = torch.randn(mean.shape)
    return eps * log_var.mul(0.5).exp() + mean


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc = nn.Sequential(nn.Linear(81, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 8))
        self.dec = nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 81))


torch.manual_seed(15)
net = Net()
opt = torch.optim.Adam(net.parameters(), lr=2e-3)
for step in range(2500):
    x = blobs(100)
    out = net.enc(x)
    mean, log_var = out[:, :4], out[:, 4:]
    z = draw(mean, log_var)
    rec = ((net.dec(z) - x) ** 2).sum(1).mean() / (2 * 0.012)
    kl = 0.5 * (log_var.exp() + mean**2 - 1 - log_var).sum(1).mean()
    opt.zero_grad()
    (rec + kl).backward()
    opt.step()
    if step % 250 == 0:
        print(f"step {step} rec {rec.item():.2f} kl {kl.item():.3f}")
