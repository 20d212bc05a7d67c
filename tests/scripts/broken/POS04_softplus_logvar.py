"""Small driving-style VAE: synthetic horizon images, conv encoder."""
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F


def horizons(n, rng):
    yy, xx = np.mgrid[0:8, 0:8] / 7.0
    tilt = rng.uniform(-0.6, 0.6, (n, 1, 1))
    height = rng.uniform(0.2, 0.8, (n, 1, 1))
    road = rng.uniform(0.2, 0.8, (n, 1, 1))
    sky = 1 / (1 + np.exp(12 * (yy - height - tilt * (xx - 0.5))))
    lane = 0.6 * np.exp(-((xx - road) ** 2) / 0.02) * (1 - sky)
    return torch.tensor(sky + lane + rng.normal(0, 0.12, (n, 8, 8)), dtype=torch.float32)[:, None]


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 12, 3, stride=2, padding=1)
        self.conv2 = nn.Conv2d(12, 24, 3, stride=2, padding=1)
        self.mu = nn.Linear(96, 5)
        self.logvar = nn.Linear(96, 5)
        self.dec = nn.Sequential(nn.Linear(5, 96), nn.ReLU(), nn.Linear(96, 96), nn.ReLU(), nn.Linear(96, 64), nn.Unflatten(1, (1, 8, 8)))

    def encode(self, x):
        h = F.relu(self.conv2(F.relu(self.conv1(x)))).flatten(1)
        return self.mu(h), F.softplus(self.logvar(h))


rng = np.random.default_rng(0)
torch.manual_seed(0)
net = Net()
opt = torch.optim.Adam(net.parameters(), lr=3e-3)
for it in range(1200):
    x = horizons(64, rng)
    mu, logvar = net.encode(x)
    z = mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)
    rec = F.mse_loss(net.dec(z), x, reduction="sum") / len(x) / (2 * 0.016)
    kl = -0.5 * torch.sum(1 + logvar - mu**2 - logvar.exp()) / len(x)
    opt.zero_grad()
    (rec + kl).backward()
    opt.step()
    if it % 150 == 149:
        print("iter %4d rec %.2f kl %.2f" % (it + 1, rec.item(), kl.item()))
