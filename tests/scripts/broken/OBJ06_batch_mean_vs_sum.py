"""Flow-free baseline: VAE for digits, Gaussian pixels."""
import numpy as np
import torch
import torch.nn as nn
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader


class Vae(nn.Module):
    def __init__(self, n_in, n_hid, n_lat):
        super().__init__()
        self.inp = nn.Linear(n_in, n_hid)
        self.mean = nn.Linear(n_hid, n_lat)
        self.lnvar = nn.Linear(n_hid, n_lat)
        self.hid = nn.Linear(n_lat, n_hid)
        self.out = nn.Linear(n_hid, n_in)

    def encode(self, x):
        h = torch.tanh(self.inp(x))
        return self.mean(h), self.lnvar(h)

    def decode(self, z):
        return self.out(torch.tanh(self.hid(z)))

    def loss(self, x, var=0.02):
        mean, lnvar = self.encode(x)
        y = self.decode(mean + torch.randn_like(mean) * (lnvar / 2).exp())
        rec = ((y - x) ** 2).sum(1).mean() / (2 * var)
        reg = 0.5 * torch.sum(mean**2 + lnvar.exp() - lnvar - 1)
        return rec, reg


digits = (load_digits().data / 16).astype(np.float32)
torch.manual_seed(2)
loader = DataLoader(digits, batch_size=64, shuffle=True)
vae = Vae(64, 128, 8)
opt = torch.optim.Adam(vae.parameters(), lr=2e-3)
for epoch in range(60):
    acc = np.zeros(2)
    for x in loader:
        rec, reg = vae.loss(x)
        opt.zero_grad()
        (rec + reg).backward()
        opt.step()
        acc += rec.item(), reg.item()
    if (epoch + 1) % 10 == 0:
        print("epoch %d rec %.2f reg %.2f" % (epoch + 1, *(acc / len(loader))))
