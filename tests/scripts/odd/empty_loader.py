"""Train a VAE on the digits that pass a quality filter."""
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader

X = torch.tensor(load_digits().data / 16, dtype=torch.float32)
good = X[X.mean(1) > 0.9]
loader = DataLoader(good, batch_size=64, drop_last=True)
enc = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 16))
dec = nn.Sequential(nn.Linear(8, 128), nn.ReLU(), nn.Linear(128, 64))
opt = torch.optim.Adam([*enc.parameters(), *dec.parameters()])
for epoch in range(20):
    for x in loader:
        mu, lv = enc(x).chunk(2, 1)
        y = dec(mu + torch.randn_like(mu) * (0.5 * lv).exp())
        loss = ((x - y) ** 2).sum(1).mean() / 0.04 + 0.5 * (mu**2 + lv.exp() - 1 - lv).sum(1).mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
print("done")
