"""I want disentangled digits, so I follow the advice to give the KL term a large weight."""

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(1)

images = torch.tensor(load_digits().images, dtype=torch.float32).unsqueeze(1) / 16  # 1797 x 1 x 8 x 8
loader = DataLoader(TensorDataset(images), batch_size=64, shuffle=True)


class Encoder(nn.Module):
    def __init__(self, latent_size):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, kernel_size=3, stride=2, padding=1)  # 8x8 -> 4x4
        self.conv2 = nn.Conv2d(16, 32, kernel_size=3, stride=2, padding=1)  # 4x4 -> 2x2
        self.fc_mu = nn.Linear(32 * 2 * 2, latent_size)
        self.fc_logvar = nn.Linear(32 * 2 * 2, latent_size)

    def forward(self, x):
        x = F.relu(self.conv1(x))
        x = F.relu(self.conv2(x))
        x = torch.flatten(x, start_dim=1)
        return self.fc_mu(x), self.fc_logvar(x)


class Decoder(nn.Module):
    def __init__(self, latent_size):
        super().__init__()
        self.fc = nn.Linear(latent_size, 32 * 2 * 2)
        self.conv1 = nn.ConvTranspose2d(32, 16, kernel_size=4, stride=2, padding=1)  # 2x2 -> 4x4
        self.conv2 = nn.ConvTranspose2d(16, 1, kernel_size=4, stride=2, padding=1)  # 4x4 -> 8x8

    def forward(self, z):
        x = F.relu(self.fc(z)).view(-1, 32, 2, 2)
        x = F.relu(self.conv1(x))
        return torch.sigmoid(self.conv2(x))


def sample_latent(mu, logvar):
    std = torch.exp(0.5 * logvar)
    return mu + std * torch.randn_like(std)


encoder = Encoder(latent_size=10)
decoder = Decoder(latent_size=10)
optimizer = torch.optim.Adam(list(encoder.parameters()) + list(decoder.parameters()), lr=2e-3)

for epoch in range(1, 21):
    for (x,) in loader:
        mu, logvar = encoder(x)
        output = decoder(sample_latent(mu, logvar))
        reconstruction = F.binary_cross_entropy(output, x, reduction="sum")
        kl = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
        loss = reconstruction + 100 * kl

        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"epoch {epoch:2d}  reconstruction {reconstruction.item() / len(x):.2f}  kl {kl.item() / len(x):.4f}")

# New digits. All three come out as the same grey blob: why?
decoder.eval()
with torch.no_grad():
    samples = decoder(torch.randn(3, 10))
for sample in samples:
    print()
    for row in sample[0]:
        print(" ".join(f"{pixel:.1f}" for pixel in row.tolist()))
