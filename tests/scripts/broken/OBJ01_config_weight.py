"""Gaussian VAE on blob pictures; hyper-parameters in one dict."""
import torch
from torch import nn
from torch.distributions import Normal, kl_divergence

hp = dict(
    lr=2e-3,
    steps=1600,
    batch_size=100,
    latent=4,
    sigma=0.1,
    kl_weight=500.0,
)


def render(n):
    pos = torch.rand(n, 2) * 5 + 2
    g = torch.arange(9.0)
    a = torch.exp(-((g[None] - pos[:, :1]) ** 2) / 3)
    b = torch.exp(-((g[None] - pos[:, 1:]) ** 2) / 3)
    return a[:, :, None] * b[:, None, :] + 0.08 * torch.randn(n, 9, 9)


class Blob(nn.Module):
    def __init__(self, latent):
        super().__init__()
        self.latent = latent
        self.q = nn.Sequential(nn.Flatten(), nn.Linear(81, 64), nn.ELU(), nn.Linear(64, 64), nn.ELU(), nn.Linear(64, 2 * latent))
        self.p = nn.Sequential(nn.Linear(latent, 64), nn.ELU(), nn.Linear(64, 64), nn.ELU(), nn.Linear(64, 81))

    def forward(self, x):
        loc, raw = self.q(x).chunk(2, -1)
        qz = Normal(loc, nn.functional.softplus(raw) + 1e-4)
        return qz, self.p(qz.rsample())

    @torch.no_grad()
    def sample(self, n):
        return self.p(torch.randn(n, self.latent))


torch.manual_seed(4)
model = Blob(hp["latent"])
opt = torch.optim.Adam(model.parameters(), lr=hp["lr"])
for step in range(hp["steps"]):
    x = render(hp["batch_size"])
    qz, y = model(x)
    ll = Normal(y, hp["sigma"]).log_prob(x.flatten(1)).sum(-1)
    kl = kl_divergence(qz, Normal(0.0, 1.0)).sum(-1)
    loss = (hp["kl_weight"] * kl - ll).mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
    if step % 200 == 0:
        print(step, "ll", round(ll.mean().item(), 2), "kl", round(kl.mean().item(), 3))
