"""A small VAE on the 8x8 scikit-learn digits; a sheet of new ones is saved as a picture."""
import math

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch import nn

torch.manual_seed(0)
X = torch.tensor(load_digits().data / 16.0, dtype=torch.float32)


class VAE(nn.Module):
    def __init__(self, d=10):
        super().__init__()
        self.fc1 = nn.Linear(64, 128)
        self.fc21 = nn.Linear(128, d)
        self.fc22 = nn.Linear(128, d)
        self.fc3 = nn.Linear(d, 128)
        self.fc4 = nn.Linear(128, 64)
        self.log_sigma = nn.Parameter(torch.tensor(-1.0))

    def encode(self, x):
        h = torch.relu(self.fc1(x))
        return self.fc21(h), self.fc22(h)

    def decode(self, z):
        return self.fc4(torch.relu(self.fc3(z)))

    def forward(self, x):
        mu, logvar = self.encode(x)
        z = mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)
        return self.decode(z), mu, logvar


def loss_function(recon, x, mu, logvar, log_sigma):
    nll = 0.5 * ((x - recon) / log_sigma.exp()) ** 2 + log_sigma + 0.5 * math.log(2 * math.pi)
    kld = -0.5 * (1 + logvar - mu.pow(2) - logvar.exp())
    return nll.sum(1).mean() + kld.sum(1).mean()


net = VAE()
opt = torch.optim.Adam(net.parameters(), lr=4e-3)
for epoch in range(1, 121):
    total = 0.0
    for idx in torch.randperm(len(X)).split(100):
        x = X[idx]
        recon, mu, logvar = net(x)
        loss = loss_function(recon, x, mu, logvar, net.log_sigma)
        opt.zero_grad()
        loss.backward()
        opt.step()
        total += loss.item() * len(x)
    if epoch % 20 == 0:
        print(f"epoch {epoch:3d}  loss {total / len(X):8.3f}  sigma {net.log_sigma.exp().item():.3f}")

net.eval()
z = torch.randn(64, 10)
samples = net.decode(z).detach().clamp(0, 1).numpy()
sheet = samples.reshape(8, 8, 8, 8).swapaxes(1, 2).reshape(64, 64)
picture = Image.fromarray(sheet.astype(np.uint8))
picture.resize((256, 256), Image.NEAREST).save("digits.png")
