"""Separate encoder and decoder networks on digits; a sheet of sixteen new ones at the end."""
import torch
from sklearn.datasets import load_digits
from torch import nn, optim

torch.manual_seed(0)
X = torch.tensor(load_digits().data / 16.0, dtype=torch.float32)


class Enc(nn.Module):
    def __init__(self):
        super().__init__()
        self.l1 = nn.Linear(64, 128)
        self.l2 = nn.Linear(128, 128)
        self.m = nn.Linear(128, 8)
        self.v = nn.Linear(128, 8)

    def forward(self, x):
        h = torch.relu(self.l2(torch.relu(self.l1(x))))
        return self.m(h), self.v(h)


class Dec(nn.Module):
    def __init__(self):
        super().__init__()
        self.l1 = nn.Linear(8, 128)
        self.l2 = nn.Linear(128, 128)
        self.l3 = nn.Linear(128, 64)

    def forward(self, z):
        return self.l3(torch.relu(self.l2(torch.relu(self.l1(z)))))


enc, dec = Enc(), Dec()
params = list(enc.parameters()) + list(dec.parameters())
optimizer = optim.Adam(params, lr=1e-3)
print("number of parameters:", sum(p.numel() for p in enc.parameters()) + sum(p.numel() for p in dec.parameters()))
for epoch in range(90):
    epoch_loss = 0.0
    for i in torch.randperm(len(X)).split(100):
        mu, logvar = enc(X[i])
        z = mu + torch.randn(mu.size()) * torch.exp(0.5 * logvar)
        loss = ((dec(z) - X[i]) ** 2).sum() / (2 * 0.02) - 0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
        loss = loss / len(i)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        epoch_loss += loss.item() * len(i)
    if epoch % 10 == 9:
        print(f"epoch {epoch + 1}: {epoch_loss / len(X):.3f}")


def sheet(count):
    """count new digits, side by side"""
    z = torch.randn(8).repeat(16, 1)
    return torch.cat([digit.reshape(8, 8) for digit in dec(z)], 1)


enc.eval()
dec.eval()
page = sheet(16).clamp(0, 1)
print(f"new digits: {tuple(page.shape)}, brightness {page.mean().item():.3f}")
for row in page[:, :64]:
    print("".join(" .:-=+*#%@"[int(9.9 * p)] for p in row))
