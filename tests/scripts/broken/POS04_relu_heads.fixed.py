"""VAE with layer helper, digits."""
import torch
from sklearn.datasets import load_digits
from torch import nn, optim


def dense(n_in, n_out, act=True):
    return nn.Sequential(nn.Linear(n_in, n_out), nn.ReLU()) if act else nn.Linear(n_in, n_out)


class VAE(nn.Module):
    def __init__(self, nz=10):
        super().__init__()
        self.enc = nn.Sequential(dense(64, 128), dense(128, 128))
        self.fc_mu = dense(128, nz, act=False)
        self.fc_lv = dense(128, nz, act=False)
        self.dec = nn.Sequential(dense(nz, 128), dense(128, 128), dense(128, 64, act=False))

    def encode(self, x):
        h = self.enc(x)
        return self.fc_mu(h), self.fc_lv(h)

    def decode(self, z):
        return self.dec(z)


torch.manual_seed(1)
X = torch.tensor(load_digits().data).float() / 16
model = VAE()
opt = optim.Adam(model.parameters(), lr=2e-3)
for epoch in range(60):
    for x in X[torch.randperm(len(X))].split(64):
        mu, lv = model.encode(x)
        recon = model.decode(mu + (0.5 * lv).exp() * torch.randn_like(lv))
        rl = ((recon - x) ** 2).sum() / (2 * 0.025)
        kl = -0.5 * torch.sum(1 + lv - mu.pow(2) - lv.exp())
        loss = (rl + kl) / x.shape[0]
        opt.zero_grad()
        loss.backward()
        opt.step()
    if epoch % 10 == 9:
        print(f"{epoch + 1}\t{loss.item():.3f}\t{kl.item() / x.shape[0]:.3f}")
