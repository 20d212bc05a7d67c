"""Train and keep the latent statistics of every batch for a later plot."""
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
X = (torch.tensor(load_digits().data) >= 8).float()
stats = []


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.up1, self.up2 = nn.Linear(64, 128), nn.Linear(128, 12)
        self.dn1, self.dn2 = nn.Linear(6, 128), nn.Linear(128, 64)

    def encode(self, x):
        return self.up2(F.elu(self.up1(x))).chunk(2, dim=1)

    def decode(self, z):
        return self.dn2(F.elu(self.dn1(z)))


net = Net()
opt = torch.optim.Adam(net.parameters(), lr=3e-3)
for epoch in range(90):
    for x in X.index_select(0, torch.randperm(len(X))).split(128):
        mu, logvar = net.encode(x)
        z = mu + (logvar * 0.5).exp() * torch.randn_like(mu)
        bce = F.binary_cross_entropy_with_logits(net.decode(z), x, reduction="sum")
        keep = mu.detach(), logvar.detach()
        m, lv = mu, logvar
        kld = -0.5 * torch.sum(1 + lv - m.pow(2) - lv.exp())
        stats.append((keep[0].mean(0), keep[1].mean(0)))
        opt.zero_grad()
        ((bce + kld) / len(x)).backward()
        opt.step()
    if epoch % 10 == 0:
        print(f"epoch {epoch:3d} bce {bce.item() / len(x):.2f} kld {kld.item() / len(x):.2f}")
torch.save(stats[-50:], "latent_stats.pt")
