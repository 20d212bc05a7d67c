"""Log reconstruction and KL gradients separately while training."""
import torch
from torch import nn
from sklearn.datasets import load_digits


class M(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(64, 100)
        self.b = nn.Linear(100, 6)
        self.c = nn.Linear(100, 6)
        self.d = nn.Linear(6, 100)
        self.e = nn.Linear(100, 64)

    def decode(self, z):
        return self.e(self.d(z).relu())

    def forward(self, x):
        h = self.a(x).relu()
        return self.b(h), self.c(h)


def grad_norm(params):
    return sum(p.grad.norm() ** 2 for p in params if p.grad is not None) ** 0.5


torch.manual_seed(21)
X = torch.tensor(load_digits().data / 16).float()
m = M()
opt = torch.optim.Adam(m.parameters(), 2e-3)
for t in range(2200):
    x = X[torch.randint(0, len(X), (128,))]
    mu, lv = m(x)
    z = mu + (lv / 2).exp() * torch.randn_like(lv)
    recon = ((m.decode(z) - x) ** 2).sum(1).mean() / (2 * 0.025)
    kl = 0.5 * (lv.exp() + mu**2 - 1 - lv).sum(1).mean()
    opt.zero_grad()
    recon.backward(retain_graph=True)
    g_rec = grad_norm(m.parameters())
    kl.backward()
    opt.step()
    if t % 200 == 0:
        print(f"{t:5d} recon {recon.item():7.2f} kl {kl.item():6.2f} |g_recon| {g_rec.item():.2f}")
