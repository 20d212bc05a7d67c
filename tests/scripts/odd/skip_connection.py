"""U-Net style VAE: encoder features are concatenated in the decoder."""
import torch
from sklearn.datasets import load_digits
from torch import nn

torch.manual_seed(0)
X = torch.tensor(load_digits().images / 16, dtype=torch.float32)[:, None]


class UNetVAE(nn.Module):
    def __init__(self, nz=8):
        super().__init__()
        self.down1 = nn.Sequential(nn.Conv2d(1, 12, 3, 2, 1), nn.ReLU())
        self.down2 = nn.Sequential(nn.Conv2d(12, 24, 3, 2, 1), nn.ReLU())
        self.head = nn.Linear(96, 2 * nz)
        self.lift = nn.Linear(nz, 96)
        self.up1 = nn.Sequential(nn.ConvTranspose2d(24, 12, 4, 2, 1), nn.ReLU())
        self.up2 = nn.ConvTranspose2d(24, 1, 4, 2, 1)

    def decode(self, z, skip):
        h = self.up1(torch.relu(self.lift(z)).view(-1, 24, 2, 2))
        return self.up2(torch.cat([h, skip], dim=1))

    def forward(self, x):
        s = self.down1(x)
        mu, lv = self.head(self.down2(s).flatten(1)).chunk(2, 1)
        return self.decode(mu + torch.randn_like(mu) * (0.5 * lv).exp(), s), mu, lv


model = UNetVAE()
opt = torch.optim.Adam(model.parameters(), lr=3e-3)
for epoch in range(30):
    for x in X[torch.randperm(len(X))].split(100):
        y, mu, lv = model(x)
        rec = ((y - x) ** 2).sum((1, 2, 3)).mean() / (2 * 0.02)
        kl = 0.5 * (mu**2 + lv.exp() - 1 - lv).sum(1).mean()
        opt.zero_grad()
        (rec + kl).backward()
        opt.step()
    if epoch % 5 == 4:
        print(f"epoch {epoch + 1} rec {rec.item():.2f} kl {kl.item():.3f}")
with torch.no_grad():
    new = model.decode(torch.randn(16, 8), torch.zeros(16, 12, 4, 4))
print("generated mean", new.mean().item())
