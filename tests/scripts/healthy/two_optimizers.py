"""Encoder and decoder as two networks, each with its own optimiser."""
from collections import namedtuple

import torch
import torch.nn as nn
import torch.optim as optim
from sklearn.datasets import load_digits

Posterior = namedtuple("Posterior", ["loc", "log_scale"])
ZDIM = 8
SIGMA = 0.15


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(64, 100), nn.ELU(), nn.Linear(100, 100), nn.ELU())
        self.loc = nn.Linear(100, ZDIM)
        self.log_scale = nn.Linear(100, ZDIM)

    def forward(self, x):
        h = self.body(x)
        return Posterior(loc=self.loc(h), log_scale=self.log_scale(h))


class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(ZDIM, 100), nn.ELU(), nn.Linear(100, 100), nn.ELU(), nn.Linear(100, 64))

    def forward(self, z):
        return self.body(z)


def kl_to_standard_normal(p):
    return (0.5 * (p.loc**2 + (2 * p.log_scale).exp() - 1) - p.log_scale).sum(dim=1)


pixels = torch.as_tensor(load_digits().data, dtype=torch.float32) / 16
encoder, decoder = Encoder(), Decoder()
enc_opt = optim.Adam(encoder.parameters(), lr=1.5e-3)
dec_opt = optim.Adam(decoder.parameters(), lr=1.5e-3)

for epoch in range(120):
    order = torch.randperm(pixels.shape[0])
    running_nll = running_kl = 0.0
    for start in range(0, len(order), 100):
        batch = pixels[order[start:start + 100]]
        post = encoder(batch)
        z = post.loc + post.log_scale.exp() * torch.randn(post.loc.shape)
        out = decoder(z)
        nll = ((out - batch) ** 2).sum(dim=1).mean() / (2 * SIGMA**2)
        kl = kl_to_standard_normal(post).mean()
        enc_opt.zero_grad()
        dec_opt.zero_grad()
        (nll + kl).backward()
        enc_opt.step()
        dec_opt.step()
        running_nll += nll.item()
        running_kl += kl.item()
    if epoch % 15 == 14:
        print(f"{epoch + 1:3d} nll={running_nll / 18:.2f} kl={running_kl / 18:.2f}")
