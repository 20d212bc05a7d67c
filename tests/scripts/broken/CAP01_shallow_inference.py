"""Blob pictures (place and two widths): inference network and generator, fresh data every step."""
import torch
from torch import nn


def pictures(n):
    g = torch.arange(10.0)
    u = torch.rand(n, 4)
    cx, cy, wx, wy = (2.5 + 4 * u[:, 0], 2.5 + 4 * u[:, 1], 0.8 + 1.6 * u[:, 2], 0.8 + 1.6 * u[:, 3])
    fx = torch.exp(-0.5 * ((g - cx[:, None]) / wx[:, None]) ** 2)
    fy = torch.exp(-0.5 * ((g - cy[:, None]) / wy[:, None]) ** 2)
    return (fy[:, :, None] * fx[:, None, :]).flatten(1) + 0.08 * torch.randn(n, 100)


def mlp(*n):
    mods = []
    for a, b in zip(n, n[1:]):
        mods += [nn.Linear(a, b), nn.LeakyReLU(0.1)]
    return nn.Sequential(*mods[:-1])


torch.manual_seed(8)
inf = mlp(100, 2, 8)
gen = mlp(4, 96, 96, 100)
opt = torch.optim.Adam([*inf.parameters(), *gen.parameters()], lr=2e-3)
for it in range(1800):
    x = pictures(100)
    loc, logvar = inf(x).chunk(2, 1)
    y = gen(loc + torch.randn_like(loc) * (0.5 * logvar).exp())
    rec = ((x - y) ** 2).sum(1).mean() / (2 * 0.01)
    kl = 0.5 * (loc**2 + logvar.exp() - logvar - 1).sum(1).mean()
    opt.zero_grad()
    (rec + kl).backward()
    opt.step()
    if it % 180 == 179:
        print(f"it {it + 1} rec {rec.item():.2f} kl {kl.item():.2f}")
