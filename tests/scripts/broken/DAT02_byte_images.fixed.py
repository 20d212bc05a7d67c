"""Read 8-bit pictures and train a VAE on them."""
import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

pictures = (load_digits().images * 15.9375).astype(np.uint8)
x_train = torch.from_numpy(pictures).float().flatten(1) / 255


class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc1 = nn.Linear(64, 128)
        self.enc2 = nn.Linear(128, 12)
        self.dec = nn.Sequential(nn.Linear(6, 128), nn.ReLU(), nn.Linear(128, 64))

    def forward(self, x):
        mu, log_std = self.enc2(torch.relu(self.enc1(x))).split(6, dim=1)
        z = mu + torch.exp(log_std) * torch.randn_like(mu)
        return self.dec(z), mu, log_std


torch.manual_seed(0)
model = VAE()
opt = torch.optim.Adam(model.parameters(), lr=2e-3)
for epoch in range(100):
    for x in x_train[torch.randperm(len(x_train))].split(128):
        y, mu, log_std = model(x)
        rec = 0.5 * ((x - y) ** 2).sum(1).mean() / 0.025
        kl = (0.5 * (mu**2 + (2 * log_std).exp() - 1) - log_std).sum(1).mean()
        loss = rec + kl
        opt.zero_grad()
        loss.backward()
        opt.step()
    if epoch % 10 == 9:
        print(f"epoch {epoch + 1} rec {rec.item():.1f} kl {kl.item():.1f}")
