"""Denoising VAE: clean targets, slightly noisy inputs."""
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(41)
clean = torch.tensor(load_digits().data / 16.0, dtype=torch.float32)
noisy = clean + 0.05 * torch.randn_like(clean)
pairs = DataLoader(TensorDataset(noisy, clean), batch_size=128, shuffle=True)


class DenoisingVAE(nn.Module):
    def __init__(self, nz=8, nh=128):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, nh), nn.ReLU(), nn.Linear(nh, 2 * nz))
        self.decoder = nn.Sequential(nn.Linear(nz, nh), nn.ReLU(), nn.Linear(nh, 64))

    def decode(self, z):
        return self.decoder(z)

    def forward(self, x):
        mean, logvar = self.encoder(x).chunk(2, dim=1)
        return self.decode(mean + torch.exp(0.5 * logvar) * torch.randn_like(mean)), mean, logvar


model = DenoisingVAE()
opt = torch.optim.Adam(model.parameters(), lr=2e-3)
for epoch in range(80):
    for x, target in pairs:
        y, mean, logvar = model(x)
        rec = (y - target).pow(2).sum(1).mean() / (2 * 0.022)
        kl = 0.5 * (mean.pow(2) + logvar.exp() - 1 - logvar).sum(1).mean()
        opt.zero_grad()
        (rec + kl).backward()
        opt.step()
    if epoch % 10 == 9:
        print(f"epoch {epoch + 1} rec {rec.item():.3f} kl {kl.item():.3f}")
