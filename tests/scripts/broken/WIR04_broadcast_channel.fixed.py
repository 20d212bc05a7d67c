"""Conv VAE on digits kept as (N, 1, 8, 8)."""
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn

torch.manual_seed(5)
images = torch.tensor(load_digits().images / 16.0, dtype=torch.float32).unsqueeze(1)


class ConvNet(nn.Module):
    def __init__(self, nz=8):
        super().__init__()
        self.c1 = nn.Conv2d(1, 16, 3, 2, 1)
        self.c2 = nn.Conv2d(16, 32, 3, 2, 1)
        self.mu, self.lv = nn.Linear(128, nz), nn.Linear(128, nz)
        self.fc = nn.Linear(nz, 128)
        self.t1 = nn.ConvTranspose2d(32, 16, 4, 2, 1)
        self.t2 = nn.ConvTranspose2d(16, 1, 4, 2, 1)

    def decode(self, z):
        h = F.relu(self.fc(z)).view(-1, 32, 2, 2)
        return self.t2(F.relu(self.t1(h)))

    def forward(self, x):
        h = F.relu(self.c2(F.relu(self.c1(x)))).flatten(1)
        mu, lv = self.mu(h), self.lv(h)
        return self.decode(mu + torch.randn_like(mu) * torch.exp(lv / 2)), mu, lv


def loss_fn(recon, x, mu, lv, pixels=64, variance=0.03):
    rec = F.mse_loss(recon, x) * pixels / (2 * variance)
    kl = -0.5 * (1 + lv - mu**2 - lv.exp()).sum(1).mean()
    return rec + kl, kl


net = ConvNet()
opt = torch.optim.Adam(net.parameters(), lr=3e-3)
for epoch in range(32):
    for x in images[torch.randperm(len(images))].split(100):
        recon, mu, lv = net(x)
        loss, kl = loss_fn(recon, x, mu, lv)
        opt.zero_grad()
        loss.backward()
        opt.step()
    if epoch % 5 == 4:
        print(f"epoch {epoch + 1}: loss {loss.item():.2f} kl {kl.item():.3f}")
