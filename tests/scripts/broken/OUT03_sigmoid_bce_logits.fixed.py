"""Bernoulli VAE on digits, Sequential style."""
import torch
from torch import nn
from torch.nn import functional as F
from sklearn.datasets import load_digits

torch.manual_seed(2)
X = torch.tensor((load_digits().data > 7).astype("float32"))


class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU())
        self.mean = nn.Linear(64, 8)
        self.logvar = nn.Linear(64, 8)
        self.decoder = nn.Sequential(
            nn.Linear(8, 64),
            nn.ReLU(),
            nn.Linear(64, 128),
            nn.ReLU(),
            nn.Linear(128, 64),
        )

    def forward(self, x):
        h = self.encoder(x)
        mean, logvar = self.mean(h), self.logvar(h)
        z = mean + torch.randn_like(mean) * torch.exp(0.5 * logvar)
        return self.decoder(z), mean, logvar


model = VAE()
opt = torch.optim.Adam(model.parameters(), lr=4e-3)
for epoch in range(110):
    for x in torch.utils.data.DataLoader(X, batch_size=128, shuffle=True):
        out, mean, logvar = model(x)
        rec = F.binary_cross_entropy_with_logits(out, x, reduction="sum") / len(x)
        kld = -0.5 * torch.sum(1 + logvar - mean.pow(2) - logvar.exp()) / len(x)
        opt.zero_grad()
        (rec + kld).backward()
        opt.step()
    if (epoch + 1) % 10 == 0:
        print("Epoch %d: rec %.3f kld %.3f" % (epoch + 1, rec.item(), kld.item()))
