"""VAE for digits with separate widths for encoder and decoder."""
import torch
from sklearn.datasets import load_digits
from torch import nn

torch.manual_seed(0)
X = torch.tensor(load_digits().data / 16.0, dtype=torch.float32)
ENC_HIDDEN = 3
DEC_HIDDEN = 128


class Encoder(nn.Module):
    def __init__(self, nh, nz=8):
        super().__init__()
        self.hidden = nn.Linear(64, nh)
        self.mu = nn.Linear(nh, nz)
        self.logvar = nn.Linear(nh, nz)

    def forward(self, x):
        h = torch.tanh(self.hidden(x))
        return self.mu(h), self.logvar(h)


enc = Encoder(ENC_HIDDEN)
dec = nn.Sequential(nn.Linear(8, DEC_HIDDEN), nn.ReLU(), nn.Linear(DEC_HIDDEN, DEC_HIDDEN), nn.ReLU(), nn.Linear(DEC_HIDDEN, 64))
opt = torch.optim.Adam([*enc.parameters(), *dec.parameters()], lr=2e-3)
for epoch in range(100):
    for x in X[torch.randperm(len(X))].split(100):
        mu, logvar = enc(x)
        z = mu + torch.randn_like(mu) * torch.exp(0.5 * logvar)
        rec = ((dec(z) - x) ** 2).sum(1).mean() / (2 * 0.02)
        kl = -0.5 * (1 + logvar - mu**2 - logvar.exp()).sum(1).mean()
        opt.zero_grad()
        (rec + kl).backward()
        opt.step()
    if epoch % 10 == 9:
        print(f"epoch {epoch + 1} rec {rec.item():.2f} kl {kl.item():.2f}")
