"""Digits VAE with gradient accumulation (effective batch of 128 from micro-batches of 32)."""
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

ACCUM = 4


class VAE(nn.Module):
    def __init__(self, hidden=128, z=12):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, hidden), nn.LayerNorm(hidden), nn.SiLU(), nn.Linear(hidden, 2 * z))
        self.decoder = nn.Sequential(nn.Linear(z, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, 64))
        self.register_buffer("s2", torch.tensor(0.05))  # running estimate of the residual variance

    def forward(self, x):
        mean, logvar = self.encoder(x).chunk(2, dim=1)
        z = torch.normal(mean=torch.zeros_like(mean), std=1.0) * torch.exp(0.5 * logvar) + mean
        return self.decoder(z), mean, logvar


def train():
    torch.manual_seed(0)
    loader = DataLoader(TensorDataset(torch.tensor(load_digits().data / 16, dtype=torch.float32)), batch_size=32,
                        shuffle=True, drop_last=True)
    model = VAE()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for epoch in range(55):
        stats = []
        optimizer.zero_grad()
        for i, (x,) in enumerate(loader):
            y, mean, logvar = model(x)
            sq = (x - y).pow(2)
            nll = sq.sum(1).mean() / (2 * model.s2)
            kl = 0.5 * (mean.pow(2) + logvar.exp() - 1 - logvar).sum(1).mean()
            ((nll + kl) / ACCUM).backward()
            with torch.no_grad():
                model.s2.mul_(0.99).add_(0.01 * sq.mean())
            if (i + 1) % ACCUM == 0:
                torch.nn.utils.clip_grad_norm_(model.parameters(), 100.0)
                optimizer.step()
                optimizer.zero_grad()
            stats.append(torch.stack([nll, kl]).detach())
        if (epoch + 1) % 11 == 0:
            nll, kl = torch.stack(stats).mean(0).tolist()
            print(f"epoch {epoch + 1}: nll {nll:.2f} kl {kl:.2f} s2 {model.s2.item():.4f}")
    return model


model = train()
