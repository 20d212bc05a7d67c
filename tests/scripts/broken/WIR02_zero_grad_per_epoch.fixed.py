"""Trainer class with hooks for before/after each epoch (digits, Bernoulli VAE)."""
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce


class Model(nn.Module):
    def __init__(self, h=128, z=6):
        super().__init__()
        self.enc = nn.Sequential(nn.Linear(64, h), nn.Softplus())
        self.loc, self.ls = nn.Linear(h, z), nn.Linear(h, z)
        self.dec = nn.Sequential(nn.Linear(z, h), nn.Softplus(), nn.Linear(h, 64))

    def step(self, x):
        h = self.enc(x)
        loc, ls = self.loc(h), self.ls(h)
        z = loc + ls.exp() * torch.randn_like(ls)
        rec = bce(self.dec(z), x, reduction="sum") / len(x)
        kl = (0.5 * (loc**2 + (2 * ls).exp() - 1) - ls).sum(-1).mean()
        return rec, kl


class Trainer:
    def __init__(self, model, data, lr):
        self.model, self.data = model, data
        self.opt = torch.optim.Adam(model.parameters(), lr=lr)

    def before_epoch(self):
        self.order = torch.randperm(len(self.data))

    def run(self, epochs):
        for epoch in range(epochs):
            self.before_epoch()
            for i in self.order.split(64):
                self.opt.zero_grad()
                rec, kl = self.model.step(self.data[i])
                (rec + kl).backward()
                self.opt.step()
            self.after_epoch(epoch, rec, kl)

    def after_epoch(self, epoch, rec, kl):
        if epoch % 10 == 9:
            print(f"epoch {epoch + 1} rec {rec.item():.2f} kl {kl.item():.2f}")


torch.manual_seed(3)
t = Trainer(Model(), (torch.tensor(load_digits().data) > 7).float(), lr=3e-3)
t.run(80)
