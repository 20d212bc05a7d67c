"""Importance-weighted autoencoder, five samples."""
import math
import torch
from sklearn.datasets import load_digits
from torch import nn

torch.manual_seed(0)
K, L = 5, 6
X = (torch.tensor(load_digits().data) > 7).float()
enc = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 2 * L))
dec = nn.Sequential(nn.Linear(L, 128), nn.ReLU(), nn.Linear(128, 64))
opt = torch.optim.Adam([*enc.parameters(), *dec.parameters()], lr=2e-3)
for epoch in range(60):
    for x in X[torch.randperm(len(X))].split(100):
        mu, lv = enc(x).chunk(2, 1)
        eps = torch.randn(K, *mu.shape)
        z = mu + eps * (0.5 * lv).exp()
        log_px = -nn.functional.binary_cross_entropy_with_logits(dec(z), x.expand(K, -1, -1), reduction="none").sum(-1)
        log_w = log_px - 0.5 * (z**2).sum(-1) + 0.5 * (eps**2 + lv).sum(-1)
        loss = -(torch.logsumexp(log_w, 0) - math.log(K)).mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
    if epoch % 10 == 9:
        print(epoch + 1, loss.item())
