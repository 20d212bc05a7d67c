"""I want new handwritten digits that look like the ones scikit-learn ships with."""

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)

EPOCHS = 60
LATENT = 8

images = torch.tensor(load_digits().data, dtype=torch.float32) / 16  # 1797 x 64, in [0, 1]
train_images, test_images = images[:1500], images[1500:]
train_loader = DataLoader(TensorDataset(train_images), batch_size=64, shuffle=True)


class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Linear(64, 256), nn.ReLU(),
            nn.Linear(256, 128), nn.ReLU(),
        )
        self.mu = nn.Linear(128, LATENT)
        self.logvar = nn.Linear(128, LATENT)
        self.decoder = nn.Sequential(
            nn.Linear(LATENT, 128), nn.ReLU(),
            nn.Linear(128, 64), nn.Sigmoid(),
        )

    def forward(self, x):
        h = self.encoder(x)
        mu, logvar = self.mu(h), self.logvar(h)
        z = mu + torch.randn_like(mu) * torch.exp(0.5 * logvar)
        return self.decoder(z), mu, logvar


def loss_function(output, x, mu, logvar):
    reconstruction = F.binary_cross_entropy(output, x, reduction="sum") / len(x)
    kl = -0.5 * torch.sum(1 + logvar - mu**2 - logvar.exp()) / len(x)
    return reconstruction, kl


model = VAE()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

for epoch in range(1, EPOCHS + 1):
    model.train()
    for (x,) in train_loader:
        output, mu, logvar = model(x)
        reconstruction, kl = loss_function(output, x, mu, logvar)
        loss = reconstruction + kl
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    model.eval()
    with torch.no_grad():
        output, mu, logvar = model(test_images)
        test_reconstruction, test_kl = loss_function(output, test_images, mu, logvar)
    if epoch % 10 == 0:
        print(
            f"epoch {epoch:3d}  train {loss.item():6.2f}"
            f"  test {(test_reconstruction + test_kl).item():6.2f}  kl {test_kl.item():5.2f}"
        )

with torch.no_grad():
    samples = model.decoder(torch.randn(3, LATENT)).reshape(3, 8, 8)
for sample in samples:
    for row in sample:
        print("".join(" .:-=+*#%@"[int(9.99 * pixel)] * 2 for pixel in row))
    print("-" * 16)
