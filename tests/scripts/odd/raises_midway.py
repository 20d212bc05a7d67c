"""Digits VAE with a learning-rate finder that is not finished yet."""
import torch
from sklearn.datasets import load_digits
from torch import nn

torch.manual_seed(0)
X = torch.tensor(load_digits().data / 16, dtype=torch.float32)
enc = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 16))
dec = nn.Sequential(nn.Linear(8, 128), nn.ReLU(), nn.Linear(128, 64))
opt = torch.optim.Adam([*enc.parameters(), *dec.parameters()], lr=2e-3)
schedule = {i: 2e-3 for i in range(50)}
for step in range(2000):
    for group in opt.param_groups:
        group["lr"] = schedule[step]
    x = X[torch.randint(0, len(X), (100,))]
    mu, lv = enc(x).chunk(2, 1)
    y = dec(mu + torch.randn_like(mu) * (0.5 * lv).exp())
    loss = ((x - y) ** 2).sum(1).mean() / (2 * 0.02) + 0.5 * (mu**2 + lv.exp() - 1 - lv).sum(1).mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
