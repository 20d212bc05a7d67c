"""Three-factor sensor data, VAE in half-functional style."""
import torch
from torch import nn

gen = torch.Generator().manual_seed(0)
factors = torch.randn(4000, 3, generator=gen)
M = torch.randn(3, 10, generator=gen)
obs = torch.sin(factors @ M * 0.8) + 0.2 * torch.randn(4000, 10, generator=gen)

torch.manual_seed(0)
Q = nn.Sequential(nn.Linear(10, 80), nn.SiLU(), nn.Linear(80, 80), nn.SiLU(), nn.Linear(80, 6))
P = nn.Sequential(nn.Linear(3, 80), nn.SiLU(), nn.Linear(80, 80), nn.SiLU(), nn.Linear(80, 10))


def step(x):
    mu, logvar = Q(x).chunk(2, dim=-1)
    z = mu + torch.randn(mu.shape) * (0.5 * logvar).exp()
    rec = (x - P(z)).square().sum(-1) / (2 * 0.25**2)
    kld = 0.5 * (mu.square() + logvar.exp() - logvar - 1).sum(-1)
    return rec.mean(), kld.mean()


adam = torch.optim.Adam(nn.ModuleList([Q, P]).parameters(), lr=2e-3)
for i in range(2500):
    rec, kld = step(obs[torch.randint(4000, (128,))])
    adam.zero_grad()
    (rec + kld).backward()
    adam.step()
    if not i % 250:
        print(f"{i:4d} rec={rec.item():.3f} kld={kld.item():.3f}")
