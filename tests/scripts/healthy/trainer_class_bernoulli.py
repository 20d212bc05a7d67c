"""Train a Bernoulli VAE on binarised digits with a small Trainer class."""
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset


class BernoulliVAE(nn.Module):
    def __init__(self, in_dim: int, hidden: int, latent: int):
        super().__init__()
        self.enc = nn.Sequential(nn.Linear(in_dim, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU())
        self.to_mean = nn.Linear(hidden, latent)
        self.to_logvar = nn.Linear(hidden, latent)
        self.dec = nn.Sequential(nn.Linear(latent, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(),
                                 nn.Linear(hidden, in_dim))

    def forward(self, batch):
        feats = self.enc(batch)
        mean, logvar = self.to_mean(feats), self.to_logvar(feats)
        std = torch.exp(logvar / 2)
        latent = mean + std * torch.randn_like(std)
        return {"logits": self.dec(latent), "mean": mean, "logvar": logvar, "latent": latent}


class Trainer:
    def __init__(self, model, train_set, val_set, lr=3e-3, batch_size=64, epochs=80):
        self.model, self.epochs = model, epochs
        self.train_set = train_set
        self.train_loader = DataLoader(train_set, batch_size=batch_size, shuffle=True)
        self.val_loader = DataLoader(val_set, batch_size=256)
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=1e-2)

    def criterion(self, out, x):
        rec = F.binary_cross_entropy_with_logits(out["logits"], x, reduction="sum")
        kl = -0.5 * torch.sum(1 + out["logvar"] - out["mean"] ** 2 - out["logvar"].exp())
        return (rec + kl) / x.size(0), rec / x.size(0), kl / x.size(0)

    def train_epoch(self):
        self.model.train()
        for (x,) in self.train_loader:
            self.optimizer.zero_grad(set_to_none=True)
            loss, *_ = self.criterion(self.model(x), x)
            loss.backward()
            self.optimizer.step()

    @torch.no_grad()
    def validate(self):
        self.model.eval()
        sums = torch.zeros(3)
        for (x,) in self.val_loader:
            sums += torch.stack(self.criterion(self.model(x), x)) * len(x)
        return (sums / len(self.val_loader.dataset)).tolist()

    def fit(self):
        for ep in range(self.epochs):
            self.train_epoch()
            if (ep + 1) % 10 == 0:
                total, rec, kl = self.validate()
                print(f"[{ep + 1}/{self.epochs}] val elbo={-total:.2f} rec={rec:.2f} kl={kl:.2f}")
        return self


torch.manual_seed(1234)
data = (load_digits().data > 7.5).astype("float32")
a, b = train_test_split(data, test_size=0.2, random_state=0)
trainer = Trainer(BernoulliVAE(64, 128, 8), TensorDataset(torch.from_numpy(a)), TensorDataset(torch.from_numpy(b)))
trainer.fit()
