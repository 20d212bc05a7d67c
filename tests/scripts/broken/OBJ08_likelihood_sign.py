"""Variational autoencoder for low-rank rows, written with log-probabilities."""
import math
import torch
from torch import nn

torch.manual_seed(14)
basis = torch.randn(3, 9) / math.sqrt(3)
R = torch.sin(torch.randn(3000, 3)) @ basis + 0.2 * torch.randn(3000, 9)
enc = nn.Sequential(nn.Linear(9, 40), nn.Tanh(), nn.Linear(40, 6))
dec = nn.Sequential(nn.Linear(3, 40), nn.Tanh(), nn.Linear(40, 9))


def log_gauss(x, mean, sd):
    return (-0.5 * ((x - mean) / sd) ** 2 - math.log(sd) - 0.5 * math.log(2 * math.pi)).sum(-1)


opt = torch.optim.Adam([{"params": enc.parameters()}, {"params": dec.parameters()}], lr=2e-3)
for step in range(1, 2501):
    x = R[torch.randint(0, 3000, (100,))]
    mean, logsd = enc(x).split([3, 3], dim=-1)
    z = mean + logsd.exp() * torch.randn(100, 3)
    log_px = log_gauss(x, dec(z), 0.25)
    kl = (0.5 * (mean**2 + torch.exp(2 * logsd) - 1) - logsd).sum(-1)
    loss = (kl + log_px).mean()
    opt.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_([*enc.parameters(), *dec.parameters()], 50.0)
    opt.step()
    if step % 250 == 0:
        print(f"{step} log p(x|z) {log_px.mean().item():.3f} kl {kl.mean().item():.3f}")
