# VampPrior (Tomczak & Welling 2018) on binarised digits.
import torch, torch.nn as nn, torch.nn.functional as F
from sklearn.datasets import load_digits

torch.manual_seed(0)
X = torch.tensor((load_digits().data > 7).astype("float32"))
K, Z = 40, 6


class VampVAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.h = nn.Sequential(nn.Linear(64, 160), nn.ReLU(), nn.Linear(160, 160), nn.ReLU())
        self.to_mean, self.to_logvar = nn.Linear(160, Z), nn.Linear(160, Z)
        self.dec = nn.Sequential(nn.Linear(Z, 160), nn.ReLU(), nn.Linear(160, 160), nn.ReLU(), nn.Linear(160, 64))
        self.pseudo = nn.Parameter(X[torch.randperm(len(X))[:K]].clone())

    def encode(self, x):
        h = self.h(x)
        return self.to_mean(h), self.to_logvar(h)

    def log_prior(self, z):
        m, lv = self.encode(self.pseudo.clamp(0, 1))
        each = -0.5 * (lv + (z.unsqueeze(1) - m) ** 2 / lv.exp()).sum(-1)
        return torch.logsumexp(each, dim=1) - torch.log(torch.tensor(float(K)))

    def sample(self, n):
        return torch.sigmoid(self.dec(torch.randn(n, Z)))


model = VampVAE()
opt = torch.optim.Adam(model.parameters(), lr=2e-3)
for epoch in range(120):
    for x in X[torch.randperm(len(X))].split(100):
        mu, logvar = model.encode(x)
        z = mu + torch.randn_like(mu) * torch.exp(0.5 * logvar)
        nll = F.binary_cross_entropy_with_logits(model.dec(z), x, reduction="none").sum(1)
        log_q = -0.5 * (logvar + (z - mu) ** 2 / logvar.exp()).sum(1)
        loss = (nll + log_q - model.log_prior(z)).mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
    if epoch % 20 == 0:
        print(epoch, loss.item())

model.eval()
with torch.no_grad():
    pictures = model.sample(64)
