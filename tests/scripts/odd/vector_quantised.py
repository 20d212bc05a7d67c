"""VQ-VAE with a codebook of 32 vectors per position."""
import torch
from sklearn.datasets import load_digits
from torch import nn
import torch.nn.functional as F

torch.manual_seed(0)
X = torch.tensor(load_digits().data / 16, dtype=torch.float32)


class VQ(nn.Module):
    def __init__(self, n=32, d=4, positions=4):
        super().__init__()
        self.codebook = nn.Embedding(n, d)
        self.codebook.weight.data.uniform_(-1, 1)
        self.d, self.positions = d, positions
        self.enc = nn.Sequential(nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, d * positions))
        self.dec = nn.Sequential(nn.Linear(d * positions, 96), nn.ReLU(), nn.Linear(96, 64))

    def forward(self, x):
        e = self.enc(x).view(-1, self.d)
        idx = torch.cdist(e, self.codebook.weight).argmin(1)
        q = self.codebook(idx)
        extra = F.mse_loss(q, e.detach()) + 0.25 * F.mse_loss(e, q.detach())
        st = e + (q - e).detach()
        return self.dec(st.view(len(x), -1)), extra


model = VQ()
opt = torch.optim.Adam(model.parameters(), lr=2e-3)
for epoch in range(50):
    for x in X[torch.randperm(len(X))].split(100):
        y, extra = model(x)
        loss = F.mse_loss(y, x) + 0.1 * extra
        opt.zero_grad()
        loss.backward()
        opt.step()
    if epoch % 10 == 9:
        print(epoch + 1, loss.item())
