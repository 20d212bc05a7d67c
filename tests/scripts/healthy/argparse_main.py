#!/usr/bin/env python
"""Command-line VAE trainer for scikit-learn digits (Bernoulli pixels)."""
import argparse
import sys

import torch
from sklearn.datasets import load_digits
from torch import nn, optim
from torch.nn import functional as F


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=80)
    parser.add_argument("--latent-dim", type=int, default=6)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--log-interval", type=int, default=5)
    return parser.parse_args()


class VAE(nn.Module):
    def __init__(self, latent_dim):
        super().__init__()
        self.fc1 = nn.Linear(64, 100)
        self.fc21 = nn.Linear(100, latent_dim)
        self.fc22 = nn.Linear(100, latent_dim)
        self.fc3 = nn.Linear(latent_dim, 100)
        self.fc4 = nn.Linear(100, 64)

    def encode(self, x):
        h1 = F.relu(self.fc1(x))
        return self.fc21(h1), self.fc22(h1)

    def reparameterize(self, mu, logvar):
        std = torch.exp(0.5 * logvar)
        return mu + torch.randn_like(std) * std

    def decode(self, z):
        return self.fc4(F.relu(self.fc3(z)))

    def forward(self, x):
        mu, logvar = self.encode(x.view(-1, 64))
        return torch.sigmoid(self.decode(self.reparameterize(mu, logvar))), mu, logvar


def loss_function(recon_x, x, mu, logvar):
    BCE = F.binary_cross_entropy(recon_x, x.view(-1, 64), reduction="sum")
    KLD = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
    return BCE + KLD


def train(model, optimizer, x, batch_size):
    model.train()
    total = 0
    for batch in x[torch.randperm(len(x))].split(batch_size):
        optimizer.zero_grad()
        recon, mu, logvar = model(batch)
        loss = loss_function(recon, batch, mu, logvar)
        loss.backward()
        total += loss.item()
        optimizer.step()
    return total / len(x)


def test(model, x):
    model.eval()
    with torch.no_grad():
        return loss_function(model(x)[0], x, *model.encode(x)).item() / len(x)


def main():
    args = parse_args()
    torch.manual_seed(args.seed)
    pixels = (torch.tensor(load_digits().data) > 7).float()
    pixels = pixels[torch.randperm(len(pixels))]
    train_x, test_x = pixels[:1500], pixels[1500:]
    model = VAE(args.latent_dim)
    optimizer = optim.Adam(model.parameters(), lr=args.lr)
    for epoch in range(1, args.epochs + 1):
        loss = train(model, optimizer, train_x, args.batch_size)
        if epoch % args.log_interval == 0:
            print(f"====> Epoch: {epoch} Average loss: {loss:.4f} Test: {test(model, test_x):.4f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
