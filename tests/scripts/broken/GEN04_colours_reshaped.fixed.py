"""Coloured digits: every digit gets a hue of its own. New ones go to a folder."""
import matplotlib
import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

torch.manual_seed(0)
rng = np.random.default_rng(0)


def coloured():
    grey = load_digits().images / 16
    hue = rng.uniform(0, 2 * np.pi, len(grey))
    tint = 0.5 + 0.45 * np.cos(hue[:, None] + np.array([0, 2.1, 4.2]))
    return torch.tensor(grey[:, None] * tint[:, :, None, None], dtype=torch.float32)


class ColourVAE(nn.Module):
    def __init__(self, k=10):
        super().__init__()
        self.k = k
        self.encode = nn.Sequential(
            nn.Conv2d(3, 32, 3, 2, 1), nn.ReLU(), nn.Conv2d(32, 64, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(256, 2 * k))
        self.decode = nn.Sequential(
            nn.Linear(k, 256), nn.ReLU(), nn.Unflatten(1, (64, 2, 2)),
            nn.ConvTranspose2d(64, 32, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(32, 3, 4, 2, 1), nn.Sigmoid())

    def forward(self, x):
        mu, logvar = self.encode(x).chunk(2, 1)
        return self.decode(mu + torch.randn_like(mu) * (logvar / 2).exp()), mu, logvar


images = coloured()
vae = ColourVAE()
adam = torch.optim.Adam(vae.parameters(), lr=2e-3)
for epoch in range(70):
    for batch in images[torch.randperm(len(images))].split(64):
        y, mu, logvar = vae(batch)
        error = ((y - batch) ** 2).sum() / (2 * 0.008)
        loss = (error - 0.5 * (1 + logvar - mu**2 - logvar.exp()).sum()) / len(batch)
        adam.zero_grad()
        loss.backward()
        adam.step()
    if epoch % 10 == 9:
        print(epoch + 1, round(loss.item(), 2))

new = vae.decode(torch.randn(10, vae.k))
for number, picture in enumerate(new.detach().numpy()):
    plt.imsave(f"new_{number}.png", picture.transpose(1, 2, 0))
