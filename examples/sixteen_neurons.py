"""I want a VAE for handwritten digits that is tiny: 16 neurons in the encoder and in the decoder, for a small device."""

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)

HIDDEN = 16  # neurons of the encoder, and of the decoder
LATENT = 16
EPOCHS = 160
PIXEL_VARIANCE = 0.005  # how far a pixel may be off: about 0.07 on a scale from 0 to 1

# 1797 pictures of 8 x 8 pixels, enlarged to 16 x 16, with values from 0 to 1
small = torch.tensor(load_digits().images, dtype=torch.float32).unsqueeze(1) / 16
pictures = F.interpolate(small, size=16, mode="bilinear").flatten(1)
pictures = pictures[torch.randperm(len(pictures))]
train_loader = DataLoader(TensorDataset(pictures[:1500]), batch_size=64, shuffle=True)
test_pictures = pictures[1500:]


class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(256, HIDDEN), nn.SiLU())
        self.to_mu = nn.Linear(HIDDEN, LATENT)
        self.to_logvar = nn.Linear(HIDDEN, LATENT)
        self.decoder = nn.Sequential(nn.Linear(LATENT, HIDDEN), nn.SiLU(), nn.Linear(HIDDEN, 256))

    def encode(self, x):
        hidden = self.encoder(x)
        return self.to_mu(hidden), self.to_logvar(hidden)

    def sample(self, mu, logvar):
        return mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)


def loss_terms(vae, x):
    mu, logvar = vae.encode(x)
    output = vae.decoder(vae.sample(mu, logvar))
    reconstruction = ((output - x) ** 2).sum(dim=1) / (2 * PIXEL_VARIANCE)
    kl = -0.5 * (1 + logvar - mu**2 - logvar.exp()).sum(dim=1)
    return reconstruction.mean(), kl.mean()


vae = VAE()
optimizer = torch.optim.Adam(vae.parameters(), lr=2e-3)
for epoch in range(1, EPOCHS + 1):
    for (x,) in train_loader:
        reconstruction, kl = loss_terms(vae, x)
        loss = reconstruction + kl
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if epoch % 20 == 0:
        with torch.no_grad():
            test_reconstruction, test_kl = loss_terms(vae, test_pictures)
        print(
            f"epoch {epoch:3d}  train {loss.item():.1f}"
            f"  test: reconstruction {test_reconstruction.item():.1f}, kl {test_kl.item():.1f}"
        )

# There are strokes, but hardly ever a digit. Does it need more training?
with torch.no_grad():
    drawn = vae.decoder(torch.randn(2, LATENT)).clamp(0, 1).reshape(2, 16, 16)
for picture in drawn:
    print("-" * 32)
    for row in picture:
        print("".join(2 * " .:-=+*#%@"[int(9.99 * pixel)] for pixel in row))
