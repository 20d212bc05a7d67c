"""Digits with a regularised decoder; new ones are drawn after training."""
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
digits = torch.tensor(load_digits().data / 16, dtype=torch.float32)


class VAE(nn.Module):
    def __init__(self, latent=6, hidden=192):
        super().__init__()
        self.latent = latent
        self.enc = nn.Sequential(nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, 2 * latent))
        self.fc1 = nn.Linear(latent, hidden)
        self.fc2 = nn.Linear(hidden, hidden)
        self.fc3 = nn.Linear(hidden, 64)

    def decode(self, z):
        h = F.relu(self.fc1(z))
        h = F.relu(self.fc2(h))
        h = F.dropout(h, 0.15, training=self.training)
        return self.fc3(h)

    def forward(self, x):
        mu, logvar = self.enc(x).chunk(2, 1)
        z = mu + torch.randn_like(mu) * torch.exp(0.5 * logvar)
        return self.decode(z), mu, logvar


model = VAE()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
loader = DataLoader(TensorDataset(digits), batch_size=100, shuffle=True)
for epoch in range(90):
    for (x,) in loader:
        logits, mu, logvar = model(x)
        bce = F.binary_cross_entropy_with_logits(logits, x, reduction="sum")
        kld = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
        loss = (bce + kld) / len(x)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if epoch % 15 == 14:
        print(epoch + 1, round(loss.item(), 2))

model.eval()
new = torch.sigmoid(model.decode(torch.randn(64, model.latent))).detach().numpy()
page = new.reshape(8, 8, 8, 8).transpose(0, 2, 1, 3).reshape(64, 64)
Image.fromarray((page * 255).astype(np.uint8)).save("new_digits.png")
