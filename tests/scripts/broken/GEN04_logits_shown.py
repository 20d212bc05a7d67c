"""8x8 binary digits, a convolutional VAE, and an album of new ones."""
from itertools import chain

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch import nn

torch.manual_seed(0)
Z = 8
imgs = torch.tensor((load_digits().images > 7).astype(np.float32))[:, None]

encoder = nn.Sequential(
    nn.Conv2d(1, 12, 3, stride=2, padding=1), nn.LeakyReLU(0.2),
    nn.Conv2d(12, 24, 3, stride=2, padding=1), nn.LeakyReLU(0.2),
    nn.Flatten(), nn.Linear(96, 2 * Z))
decoder = nn.Sequential(
    nn.Linear(Z, 96), nn.LeakyReLU(0.2), nn.Unflatten(1, (24, 2, 2)),
    nn.ConvTranspose2d(24, 12, 4, stride=2, padding=1), nn.LeakyReLU(0.2),
    nn.ConvTranspose2d(12, 1, 4, stride=2, padding=1))

criterion = nn.BCEWithLogitsLoss(reduction="sum")
opt = torch.optim.Adam(chain(encoder.parameters(), decoder.parameters()), lr=4e-3)

for epoch in range(35):
    for idx in np.array_split(np.random.permutation(len(imgs)), 18):
        x = imgs[idx]
        mu, log_var = encoder(x).chunk(2, dim=1)
        z = mu + torch.randn_like(mu) * log_var.mul(0.5).exp()
        rec = criterion(decoder(z), x) / len(x)
        kl = (0.5 * (mu**2 + log_var.exp() - log_var - 1)).sum(dim=1).mean()
        loss = rec + kl
        opt.zero_grad()
        loss.backward()
        opt.step()
    if epoch % 5 == 4:
        print(f"epoch {epoch + 1:2d} | rec {rec.item():.3f} | kl {kl.item():.4f}")


@torch.no_grad()
def album(rows, columns):
    pages = decoder(torch.randn(rows * columns, Z))
    return torch.cat([torch.cat(list(row[:, 0]), dim=1) for row in pages.clamp(0, 1).split(columns)], dim=0)


Image.fromarray((album(6, 10) * 255).to(torch.uint8).numpy()).save("album.png")
