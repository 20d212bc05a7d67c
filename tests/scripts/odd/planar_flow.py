"""VAE with a planar-flow posterior on binarised digits."""
import torch
from sklearn.datasets import load_digits
from torch import nn
import torch.nn.functional as F

torch.manual_seed(0)
X = (torch.tensor(load_digits().data) > 7).float()


class Planar(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.u, self.w, self.b = nn.Parameter(0.1 * torch.randn(d)), nn.Parameter(0.1 * torch.randn(d)), nn.Parameter(torch.zeros(1))

    def forward(self, z):
        wu = self.w @ self.u
        u = self.u + (F.softplus(wu) - 1 - wu) * self.w / (self.w @ self.w + 1e-8)
        a = torch.tanh(z @ self.w + self.b)
        psi = (1 - a**2)[:, None] * self.w
        return z + u * a[:, None], torch.log(torch.abs(1 + psi @ u) + 1e-8)


class FlowVAE(nn.Module):
    def __init__(self, d=6, k=4):
        super().__init__()
        self.enc = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 2 * d))
        self.flows = nn.ModuleList([Planar(d) for _ in range(k)])
        self.dec = nn.Sequential(nn.Linear(d, 128), nn.ReLU(), nn.Linear(128, 64))

    def forward(self, x):
        mu, lv = self.enc(x).chunk(2, 1)
        eps = torch.randn_like(mu)
        z = mu + eps * (0.5 * lv).exp()
        log_q = -0.5 * (eps**2 + lv).sum(1)
        for f in self.flows:
            z, ld = f(z)
            log_q = log_q - ld
        log_p = -0.5 * (z**2).sum(1)
        nll = F.binary_cross_entropy_with_logits(self.dec(z), x, reduction="none").sum(1)
        return (nll + log_q - log_p).mean()


model = FlowVAE()
opt = torch.optim.Adam(model.parameters(), lr=2e-3)
for epoch in range(45):
    for x in X[torch.randperm(len(X))].split(100):
        loss = model(x)
        opt.zero_grad()
        loss.backward()
        opt.step()
    if epoch % 10 == 9:
        print(epoch + 1, round(loss.item(), 3))
