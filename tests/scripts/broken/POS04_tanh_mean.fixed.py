"""Curved customer table (15 columns), two latent factors."""
import torch
from sklearn.datasets import make_s_curve
from torch import nn

torch.manual_seed(3)
pts = torch.tensor(make_s_curve(4000, noise=0.05, random_state=3)[0], dtype=torch.float32)
lift = torch.randn(3, 15)
table = (pts - pts.mean(0)) / pts.std(0) @ lift / 3**0.5 + 0.1 * torch.randn(4000, 15)


class TableVAE(nn.Module):
    def __init__(self, nh=80, nz=2):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(15, nh), nn.Tanh(), nn.Linear(nh, nh), nn.Tanh())
        self.mean = nn.Linear(nh, nz)
        self.log_sd = nn.Linear(nh, nz)
        self.decoder = nn.Sequential(nn.Linear(nz, nh), nn.Tanh(), nn.Linear(nh, nh), nn.Tanh(), nn.Linear(nh, 15))

    def forward(self, x):
        h = self.encoder(x)
        mean = self.mean(h)
        log_sd = self.log_sd(h)
        z = mean + log_sd.exp() * torch.randn_like(mean)
        return self.decoder(z), mean, log_sd


model = TableVAE()
opt = torch.optim.Adam(model.parameters(), lr=2e-3)
for step in range(1600):
    x = table[torch.randint(len(table), (128,))]
    y, mean, log_sd = model(x)
    rec = ((x - y) ** 2).sum(1).mean() / (2 * 0.02)
    kl = (0.5 * (mean**2 + (2 * log_sd).exp() - 1) - log_sd).sum(1).mean()
    opt.zero_grad()
    (rec + kl).backward()
    opt.step()
    if step % 200 == 199:
        print(f"{step + 1:5d} rec {rec.item():8.3f} kl {kl.item():7.3f}")
