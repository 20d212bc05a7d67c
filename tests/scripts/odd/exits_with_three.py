"""Train a VAE; exit status 3 tells the job queue to schedule the next stage."""
import sys

import torch
from sklearn.datasets import load_digits
from torch import nn

torch.manual_seed(0)
X = torch.tensor(load_digits().data / 16, dtype=torch.float32)
enc = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 12))
dec = nn.Sequential(nn.Linear(6, 128), nn.ReLU(), nn.Linear(128, 64))
opt = torch.optim.Adam([*enc.parameters(), *dec.parameters()], lr=2e-3)
for epoch in range(100):
    for x in X[torch.randperm(len(X))].split(100):
        mu, lv = enc(x).chunk(2, 1)
        y = dec(mu + torch.randn_like(mu) * (0.5 * lv).exp())
        loss = ((x - y) ** 2).sum(1).mean() / (2 * 0.024) + 0.5 * (mu**2 + lv.exp() - 1 - lv).sum(1).mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
    if epoch % 10 == 9:
        print(epoch + 1, loss.item())
torch.save(dec.state_dict(), "decoder.pt")
sys.exit(3)
