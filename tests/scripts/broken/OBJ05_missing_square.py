"""VAE on 8x8 digits with a custom KL layer."""
import torch
from sklearn.datasets import load_digits
from torch import nn


class KLLayer(nn.Module):
    """Draws z and remembers the KL of the draw."""

    def forward(self, mean, log_var):
        self.value = -0.5 * (1 + log_var - mean - torch.exp(log_var)).sum(1).mean()
        return mean + torch.exp(0.5 * log_var) * torch.randn_like(mean)


class Model(nn.Module):
    def __init__(self, zdim=8):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, 96), nn.PReLU(), nn.Linear(96, 96), nn.PReLU())
        self.mean, self.log_var = nn.Linear(96, zdim), nn.Linear(96, zdim)
        self.kl = KLLayer()
        self.decoder = nn.Sequential(nn.Linear(zdim, 96), nn.PReLU(), nn.Linear(96, 96), nn.PReLU(), nn.Linear(96, 64))

    def forward(self, x):
        h = self.encoder(x)
        return self.decoder(self.kl(self.mean(h), self.log_var(h)))


torch.manual_seed(8)
X = torch.tensor(load_digits().data / 16.0).float()
model = Model()
opt = torch.optim.Adam(model.parameters(), lr=1.5e-3)
for epoch in range(80):
    losses = []
    for i in torch.randperm(len(X)).split(100):
        out = model(X[i])
        loss = (out - X[i]).pow(2).sum(1).mean() / 0.04 + model.kl.value
        opt.zero_grad()
        loss.backward()
        opt.step()
        losses.append(loss.item())
    if epoch % 10 == 9:
        print("epoch", epoch + 1, "loss", round(sum(losses) / len(losses), 3), "kl", round(model.kl.value.item(), 3))
