"""Probabilistic-programming style VAE on binarised digits."""
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.distributions import Bernoulli, Normal
from torch.distributions.kl import kl_divergence

torch.manual_seed(0)
x_train = torch.tensor(load_digits().data > 7, dtype=torch.float32)


class VAE(nn.Module):
    def __init__(self, x_dim=64, h_dim=128, z_dim=6):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(x_dim, h_dim), nn.Tanh())
        self.enc_loc = nn.Linear(h_dim, z_dim)
        self.enc_scale = nn.Sequential(nn.Linear(h_dim, z_dim), nn.Softplus())
        self.decoder = nn.Sequential(nn.Linear(z_dim, h_dim), nn.Tanh(), nn.Linear(h_dim, x_dim))
        self.register_buffer("zero", torch.zeros(z_dim))
        self.register_buffer("one", torch.ones(z_dim))

    def guide(self, x):
        h = self.encoder(x)
        return Normal(self.enc_loc(h), self.enc_scale(h) + 1e-5)

    def elbo(self, x):
        q = self.guide(x)
        z = q.rsample()
        log_lik = Bernoulli(logits=self.decoder(z)).log_prob(x).sum(-1)
        return (log_lik - kl_divergence(q, Normal(self.zero, self.one)).sum(-1)).mean()


vae = VAE()
svi = torch.optim.Adam(vae.parameters(), lr=3e-3)
for epoch in range(80):
    bounds = []
    for x in x_train[torch.randperm(len(x_train))].split(100):
        svi.zero_grad()
        elbo = vae.elbo(x)
        (-elbo).backward()
        svi.step()
        bounds.append(elbo.item())
    if epoch % 10 == 9:
        print("epoch", epoch + 1, "elbo", sum(bounds) / len(bounds))
