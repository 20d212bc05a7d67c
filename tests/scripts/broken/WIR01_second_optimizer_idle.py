"""Swiss roll VAE with different learning rates for the two halves."""
import torch
from sklearn.datasets import make_swiss_roll
from torch import nn

torch.manual_seed(4)
X = torch.tensor(make_swiss_roll(3000, noise=0.3, random_state=4)[0], dtype=torch.float32)
X = (X - X.mean(0)) / X.std(0)


class Rec(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, 80), nn.ReLU(), nn.Linear(80, 80), nn.ReLU(), nn.Linear(80, 4))

    def forward(self, x):
        mu, s = self.net(x).chunk(2, 1)
        return mu, nn.functional.softplus(s) + 1e-3


class Gen(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 80), nn.ReLU(), nn.Linear(80, 80), nn.ReLU(), nn.Linear(80, 3))


rec, gen = Rec(), Gen()
enc_opt = torch.optim.Adam(rec.parameters(), lr=1e-3)
dec_opt = torch.optim.Adam(gen.parameters(), lr=3e-3)
for step in range(2300):
    x = X[torch.randint(len(X), (150,))]
    mu, sd = rec(x)
    y = gen.net(mu + sd * torch.randn_like(sd))
    nll = ((y - x) ** 2).sum(1).mean() / (2 * 0.25**2)
    kl = (0.5 * (mu**2 + sd**2 - 1) - sd.log()).sum(1).mean()
    enc_opt.zero_grad()
    dec_opt.zero_grad()
    (nll + kl).backward()
    enc_opt.step()
    if step % 230 == 0:
        print(f"{step:5d} nll {nll.item():.3f} kl {kl.item():.3f}")
