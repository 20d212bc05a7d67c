"""Digits VAE fed by a DataLoader with two worker processes."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, Dataset


class DigitsDataset(Dataset):
    """Digits scaled to [-1, 1]."""

    def __init__(self):
        bunch = load_digits()
        self.images = bunch.data.astype("float32") / 8.0 - 1.0
        self.labels = bunch.target

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        return torch.from_numpy(self.images[i]), int(self.labels[i])


class VAE(nn.Module):
    def __init__(self, z=10):
        super().__init__()
        self.hidden = nn.Linear(64, 128)
        self.mean = nn.Linear(128, z)
        self.logvar = nn.Linear(128, z)
        self.up = nn.Linear(z, 128)
        self.out = nn.Linear(128, 64)

    def decode(self, z):
        return torch.tanh(self.out(F.relu(self.up(z))))

    def forward(self, x):
        h = F.relu(self.hidden(x))
        mean, logvar = self.mean(h), self.logvar(h)
        std = logvar.mul(0.5).exp_()
        z = torch.empty_like(std).normal_().mul(std).add_(mean)
        return self.decode(z), mean, logvar


def main():
    torch.manual_seed(0)
    loader = DataLoader(DigitsDataset(), batch_size=128, shuffle=True, num_workers=2, persistent_workers=True)
    model = VAE()
    opt = torch.optim.Adam(model.parameters(), lr=3e-3)
    variance = 0.075
    for epoch in range(40):
        total = 0.0
        for x, _ in loader:
            rec, mean, logvar = model(x)
            loss = (F.mse_loss(rec, x, reduction="sum") / (2 * variance)
                    - 0.5 * torch.sum(1 + logvar - mean.pow(2) - logvar.exp())) / x.size(0)
            opt.zero_grad()
            loss.backward()
            opt.step()
            total += loss.item() * x.size(0)
        if epoch % 5 == 4:
            print("epoch", epoch + 1, "loss", round(total / len(loader.dataset), 3))


if __name__ == "__main__":
    main()
