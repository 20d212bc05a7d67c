"""Annealed VAE for two-dimensional clusters seen through ten noisy sensors."""
import torch
import torch.distributions as dist
import torch.nn as nn
from sklearn.datasets import make_blobs

torch.manual_seed(31)
pts, _ = make_blobs(2500, centers=[[-2, 0], [2, 0], [0, 3], [0, -3]], cluster_std=0.8, random_state=31)
A = torch.randn(2, 10)
obs = torch.tensor(pts).float() @ A / 2 + 0.3 * torch.randn(2500, 10)
obs = obs - obs.mean(0)

q_net = nn.Sequential(nn.Linear(10, 50), nn.ReLU(), nn.Linear(50, 4))
p_net = nn.Sequential(nn.Linear(2, 50), nn.ReLU(), nn.Linear(50, 10))
optimizer = torch.optim.Adam(list(q_net.parameters()) + list(p_net.parameters()), lr=2e-3)

total_epochs = 80
anneal_epochs = 20
for epoch in range(total_epochs):
    weight = min(1, epoch / anneal_epochs)
    for xb in obs[torch.randperm(len(obs))].split(125):
        loc, log_scale = q_net(xb).split(2, dim=1)
        q = dist.Normal(loc, log_scale.exp())
        p = dist.Normal(p_net(q.rsample()), 0.3)
        recon = -p.log_prob(xb).sum(1).mean()
        kl = dist.kl_divergence(q, dist.Normal(torch.zeros_like(loc), torch.ones_like(loc))).sum(1).mean()
        loss = recon + weight * kl
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if epoch % 8 == 7:
        print(f"epoch {epoch + 1:2d} weight {weight:.2f} recon {recon.item():.3f} kl {kl.item():.3f}")
