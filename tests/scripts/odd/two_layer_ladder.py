"""Hierarchical VAE with two stochastic layers (x <- z1 <- z2)."""
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.distributions import Normal, kl_divergence

torch.manual_seed(0)
X = (torch.tensor(load_digits().data) > 7).float()


class Gauss(nn.Module):
    def __init__(self, i, o, h=96):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(i, h), nn.ReLU(), nn.Linear(h, 2 * o))

    def forward(self, x):
        m, ls = self.net(x).chunk(2, -1)
        return Normal(m, ls.clamp(-6, 3).exp())


class Ladder(nn.Module):
    def __init__(self):
        super().__init__()
        self.q1, self.q2 = Gauss(64, 8), Gauss(8, 4)
        self.p1 = Gauss(4, 8)
        self.px = nn.Sequential(nn.Linear(8, 96), nn.ReLU(), nn.Linear(96, 64))

    def loss(self, x):
        q1 = self.q1(x)
        z1 = q1.rsample()
        q2 = self.q2(z1)
        z2 = q2.rsample()
        nll = nn.functional.binary_cross_entropy_with_logits(self.px(z1), x, reduction="none").sum(1)
        kl1 = (q1.log_prob(z1) - self.p1(z2).log_prob(z1)).sum(1)
        kl2 = kl_divergence(q2, Normal(0.0, 1.0)).sum(1)
        return nll.mean(), kl1.mean(), kl2.mean()


model = Ladder()
opt = torch.optim.Adam(model.parameters(), lr=2e-3)
for epoch in range(60):
    for x in X[torch.randperm(len(X))].split(100):
        parts = model.loss(x)
        opt.zero_grad()
        sum(parts).backward()
        opt.step()
    if epoch % 10 == 9:
        print(epoch + 1, [round(p.item(), 2) for p in parts])
