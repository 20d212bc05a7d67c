"""Bar images, encoder/decoder modules, pixel variance fixed."""
import torch
from torch import nn


def bars(n):
    """8x8 grey images with one soft horizontal and one soft vertical bar."""
    g = torch.arange(8.0)
    r = torch.rand(n, 1) * 4 + 1.5
    c = torch.rand(n, 1) * 4 + 1.5
    h = torch.exp(-((g - r) ** 2) / 4)
    v = torch.exp(-((g - c) ** 2) / 4)
    clean = torch.maximum(h[:, :, None].expand(-1, 8, 8), v[:, None, :].expand(-1, 8, 8)).reshape(n, 64)
    return (clean + 0.1 * torch.randn(n, 64)).clamp(0, 1)


class Encoder(nn.Module):
    def __init__(self, nz):
        super().__init__()
        self.f = nn.Sequential(nn.Linear(64, 96), nn.GELU(), nn.Linear(96, 96), nn.GELU(), nn.Linear(96, 2 * nz))

    def forward(self, x):
        loc, logvar = self.f(x).chunk(2, -1)
        return loc, (0.5 * logvar).exp()


class Decoder(nn.Module):
    def __init__(self, nz):
        super().__init__()
        self.f = nn.Sequential(nn.Linear(nz, 96), nn.GELU(), nn.Linear(96, 96), nn.GELU(), nn.Linear(96, 64), nn.Sigmoid())

    def image(self, z):
        return self.f(z)


def training_step(enc, dec, x):
    loc, scale = enc(x)
    y = dec.image(loc + scale * torch.randn_like(scale))
    rec = (x - y).pow(2).sum(-1).mean() / (2 * 0.012)
    kl = (0.5 * (loc**2 + scale**2 - 1) - scale.log()).sum(-1).mean()
    return rec, kl


torch.manual_seed(13)
enc, dec = Encoder(6), Decoder(6)
opt = torch.optim.Adam(list(enc.parameters()) + list(dec.parameters()), lr=3e-3)
for it in range(1700):
    rec, kl = training_step(enc, dec, bars(80))
    opt.zero_grad()
    (rec + kl).backward()
    opt.step()
    if it % 170 == 169:
        print(f"{it + 1:5d} rec {rec.item():.2f} kl {kl.item():.2f}")
