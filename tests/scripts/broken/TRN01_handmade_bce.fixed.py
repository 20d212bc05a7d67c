"""Black digits on white, VAE with its own loss functions."""
import torch
from sklearn.datasets import load_digits
from torch import nn

torch.manual_seed(0)
X = 1 - (torch.tensor(load_digits().data) > 7).float()


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.e = nn.Linear(64, 128)
        self.m, self.s = nn.Linear(128, 6), nn.Linear(128, 6)
        self.d = nn.Sequential(nn.Linear(6, 128), nn.ReLU(), nn.Linear(128, 64), nn.Sigmoid())

    def decode(self, z):
        return self.d(z)

    def forward(self, x):
        h = torch.relu(self.e(x))
        m, s = self.m(h), self.s(h)
        return self.decode(m + torch.exp(s) * torch.randn_like(s)), m, s


def bce(p, x):
    p = p.clamp(1e-6, 1 - 1e-6)
    return -(x * torch.log(p) + (1 - x) * torch.log(1 - p)).sum(1).mean()


model = Model()
opt = torch.optim.Adam(model.parameters(), lr=4e-3)
for epoch in range(100):
    for x in X[torch.randperm(len(X))].split(100):
        p, m, s = model(x)
        rec = bce(p, x)
        kl = (0.5 * (m**2 + torch.exp(2 * s) - 1) - s).sum(1).mean()
        opt.zero_grad()
        (rec + kl).backward()
        opt.step()
    if epoch % 10 == 9:
        print(epoch + 1, rec.item(), kl.item())
