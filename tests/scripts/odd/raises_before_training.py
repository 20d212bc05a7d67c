"""VAE on my own pictures."""
import numpy as np
import torch
from torch import nn

pictures = np.load("my_pictures.npy")
X = torch.tensor(pictures).float().flatten(1) / 255
enc = nn.Sequential(nn.Linear(X.shape[1], 128), nn.ReLU(), nn.Linear(128, 16))
dec = nn.Sequential(nn.Linear(8, 128), nn.ReLU(), nn.Linear(128, X.shape[1]))
opt = torch.optim.Adam([*enc.parameters(), *dec.parameters()])
for step in range(1000):
    x = X[torch.randint(0, len(X), (64,))]
    mu, lv = enc(x).chunk(2, 1)
    y = dec(mu + torch.randn_like(mu) * (0.5 * lv).exp())
    loss = ((x - y) ** 2).sum(1).mean() / 0.04 + 0.5 * (mu**2 + lv.exp() - 1 - lv).sum(1).mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
