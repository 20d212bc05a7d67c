"""VAE on stripes, snapshots of generated images while training."""
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits


def draw_stripes(n):
    grid = torch.linspace(-1, 1, 8)
    a = torch.rand(n, 1, 1) * 1.5
    o = torch.rand(n, 1, 1) - 0.5
    p = grid.view(1, 1, 8) * a.cos() + grid.view(1, 8, 1) * a.sin() - o
    prob = torch.sigmoid(20 * (0.35 - p.abs())) * 0.96 + 0.02
    return prob.bernoulli().flatten(1)


class Net(nn.Module):
    def __init__(self, nz=5):
        super().__init__()
        self.nz = nz
        self.enc = nn.Sequential(nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 96), nn.ReLU(), nn.Linear(96, 2 * nz))
        self.dec = nn.Sequential(nn.Linear(nz, 96), nn.ReLU(), nn.Linear(96, 96), nn.ReLU(), nn.Linear(96, 64))

    def forward(self, x):
        mu, lv = self.enc(x).chunk(2, 1)
        z = mu
        if self.training:
            z = mu + torch.exp(0.5 * lv) * torch.randn_like(mu)
        return self.dec(z), mu, lv

    def snapshot(self):
        self.eval()
        with torch.no_grad():
            imgs = torch.sigmoid(self.dec(torch.randn(16, self.nz)))
        self.train()
        return imgs


torch.manual_seed(50)
net = Net()
opt = torch.optim.Adam(net.parameters(), lr=2e-3)
net.train()
snapshots = []
for it in range(2000):
    if it % 250 == 0:
        snapshots.append(net.snapshot())
    x = draw_stripes(100)
    logits, mu, lv = net(x)
    rec = binary_cross_entropy_with_logits(logits, x, reduction="none").sum(1).mean()
    kl = -0.5 * (1 + lv - mu**2 - lv.exp()).sum(1).mean()
    opt.zero_grad()
    (rec + kl).backward()
    opt.step()
    if it % 200 == 199:
        print(f"{it + 1} rec {rec.item():.2f} kl {kl.item():.2f}")
