"""Stripe pictures: conv VAE, Bernoulli pixels, draws new stripes at the end."""
import torch
from torch import nn


def stripes(n):
    """Binary 8x8 images: a bright band of random angle, offset and width, 3% flipped pixels."""
    yy, xx = torch.meshgrid(torch.linspace(-1, 1, 8), torch.linspace(-1, 1, 8), indexing="ij")
    a = torch.rand(n, 1, 1) * 1.5
    off = torch.rand(n, 1, 1) - 0.5
    half = torch.rand(n, 1, 1) * 0.25 + 0.2
    img = ((xx * a.cos() + yy * a.sin() - off).abs() < half).float()
    flip = (torch.rand_like(img) < 0.03).float()
    return (img - flip).abs().unsqueeze(1)


class VAE(nn.Module):
    def __init__(self, nz=5):
        super().__init__()
        self.enc = nn.Sequential(nn.Conv2d(1, 16, 4, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(256, 64), nn.ReLU())
        self.m = nn.Linear(64, nz)
        self.s = nn.Linear(64, nz)
        self.dec = nn.Sequential(nn.Linear(nz, 64), nn.ReLU(), nn.Linear(64, 256), nn.ReLU(), nn.Unflatten(1, (16, 4, 4)),
                                 nn.ConvTranspose2d(16, 1, 4, 2, 1))

    def forward(self, x):
        h = self.enc(x)
        return self.m(h), self.s(h)


class ELBO(nn.Module):
    def __init__(self, kl_factor):
        super().__init__()
        self.kl_factor = kl_factor

    def forward(self, logits, x, mean, log_std):
        bce = nn.functional.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(dim=(1, 2, 3))
        kl = (0.5 * (mean**2 + (2 * log_std).exp() - 1) - log_std).sum(dim=1)
        return (bce + self.kl_factor * kl).mean(), kl.mean()


torch.manual_seed(9)
vae, elbo = VAE(), ELBO(kl_factor=1.0)
opt = torch.optim.Adam(vae.parameters(), lr=2e-3)
for it in range(1000):
    x = stripes(96)
    mean, log_std = vae(x)
    z = mean + log_std.exp() * torch.randn_like(mean)
    loss, kl = elbo(vae.dec(z), x, mean, log_std)
    opt.zero_grad()
    loss.backward()
    opt.step()
    if it % 125 == 0:
        print(f"iter {it} loss {loss.item():.2f} kl {kl.item():.2f}")
