"""VAE with a configurable number of hidden layers."""
import torch
import torch.nn as nn
from sklearn.datasets import load_digits


class DeepVAE(nn.Module):
    def __init__(self, dims=(64, 128, 64), zdim=6):
        super().__init__()
        self.up = nn.ModuleList([nn.Linear(a, b) for a, b in zip(dims[:-1], dims[1:])])
        self.to_mu = nn.Linear(dims[-1], zdim)
        self.to_lv = nn.Linear(dims[-1], zdim)
        sizes = [zdim, *dims[::-1]]
        self.down = [nn.Linear(a, b) for a, b in zip(sizes[:-1], sizes[1:])]

    def encode(self, x):
        for layer in self.up:
            x = torch.tanh(layer(x))
        return self.to_mu(x), self.to_lv(x)

    def decode(self, z):
        *hidden, last = self.down
        for layer in hidden:
            z = torch.tanh(layer(z))
        return last(z)

    def forward(self, x):
        mu, lv = self.encode(x)
        return self.decode(mu + torch.randn_like(mu) * (0.5 * lv).exp()), mu, lv


torch.manual_seed(19)
digits = (torch.tensor(load_digits().data) > 7).float()
model = DeepVAE()
opt = torch.optim.Adam(model.parameters(), lr=3e-3)
bce = nn.BCEWithLogitsLoss(reduction="sum")
for epoch in range(80):
    total = 0.0
    for x in digits[torch.randperm(len(digits))].split(120):
        logits, mu, lv = model(x)
        loss = (bce(logits, x) + 0.5 * (mu**2 + lv.exp() - 1 - lv).sum()) / len(x)
        opt.zero_grad()
        loss.backward()
        opt.step()
        total += loss.item() * len(x)
    if epoch % 10 == 0:
        print(f"{epoch:3d} {total / len(digits):.3f}")
