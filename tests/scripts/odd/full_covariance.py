"""VAE whose posterior has a full covariance (Cholesky head)."""
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.distributions import MultivariateNormal, kl_divergence

torch.manual_seed(0)
K = 5
X = torch.tensor(load_digits().data / 16, dtype=torch.float32)
body = nn.Sequential(nn.Linear(64, 128), nn.ReLU())
mean, diag, off = nn.Linear(128, K), nn.Linear(128, K), nn.Linear(128, K * K)
dec = nn.Sequential(nn.Linear(K, 128), nn.ReLU(), nn.Linear(128, 64))
net = nn.ModuleList([body, mean, diag, off, dec])
prior = MultivariateNormal(torch.zeros(K), torch.eye(K))
opt = torch.optim.Adam(net.parameters(), lr=2e-3)
for epoch in range(50):
    for x in X[torch.randperm(len(X))].split(128):
        h = body(x)
        L = 0.2 * off(h).view(-1, K, K).tril(-1) + torch.diag_embed(nn.functional.softplus(diag(h)) + 1e-3)
        q = MultivariateNormal(mean(h), scale_tril=L)
        y = dec(q.rsample())
        rec = ((y - x) ** 2).sum(1).mean() / (2 * 0.03)
        kl = kl_divergence(q, prior).mean()
        opt.zero_grad()
        (rec + kl).backward()
        opt.step()
    if epoch % 10 == 9:
        print(f"epoch {epoch + 1} rec {rec.item():.2f} kl {kl.item():.2f}")
