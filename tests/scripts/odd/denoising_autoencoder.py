"""Denoising autoencoder: noise on the input, clean target."""
import torch
from sklearn.datasets import load_digits
from torch import nn

torch.manual_seed(0)
X = torch.tensor(load_digits().data / 16, dtype=torch.float32)
net = nn.Sequential(nn.Linear(64, 96), nn.ReLU(), nn.Dropout(0.1), nn.Linear(96, 16), nn.ReLU(), nn.Linear(16, 96), nn.ReLU(), nn.Linear(96, 64))
opt = torch.optim.Adam(net.parameters(), lr=2e-3)
for epoch in range(60):
    for x in X[torch.randperm(len(X))].split(100):
        noisy = x + 0.2 * torch.randn_like(x)
        loss = ((net(noisy) - x) ** 2).sum(1).mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
    if epoch % 10 == 9:
        print(epoch + 1, loss.item())
