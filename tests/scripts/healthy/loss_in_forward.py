"""Gaussian blobs at random places: learn the two coordinates and the width with a VAE."""
import torch
from torch import nn


def make_blobs(n, size=12):
    cx = torch.rand(n, 1, 1) * 6 + 3
    cy = torch.rand(n, 1, 1) * 6 + 3
    w = torch.rand(n, 1, 1) * 1.0 + 1.0
    yy, xx = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    img = torch.exp(-((xx - cx) ** 2 + (yy - cy) ** 2) / (2 * w**2))
    return img + 0.05 * torch.randn(n, size, size)


class BlobVAE(nn.Module):
    def __init__(self, n_pix=144, n_z=5, width=96):
        super().__init__()
        self.n_z = n_z
        self.inference = nn.Sequential(nn.Linear(n_pix, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(),
                                       nn.Linear(width, 2 * n_z))
        self.generator = nn.Sequential(nn.Linear(n_z, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(),
                                       nn.Linear(width, n_pix))

    def forward(self, images):
        x = images.flatten(1)
        m, lv = self.inference(x).chunk(2, dim=-1)
        z = m + torch.randn_like(m) * (0.5 * lv).exp()
        y = self.generator(z)
        d = x.shape[1]
        rec = 0.5 * d * torch.log(((x - y) ** 2).mean())
        kl = 0.5 * (m**2 + lv.exp() - lv - 1).sum(-1).mean()
        self.last = (rec.item(), kl.item())
        return rec + kl

    @torch.no_grad()
    def generate(self, n):
        return self.generator(torch.randn(n, self.n_z))


torch.manual_seed(7)
model = BlobVAE()
steps = 2500
optim = torch.optim.Adam(model.parameters(), lr=2e-3)
sched = torch.optim.lr_scheduler.CosineAnnealingLR(optim, steps)
for step in range(steps):
    images = make_blobs(128)
    loss = model(images)
    optim.zero_grad()
    loss.backward()
    optim.step()
    sched.step()
    if step % 250 == 0:
        print(step, "rec %.2f  kl %.2f" % model.last)
images = make_blobs(1000)
print("generated mean", model.generate(500).mean().item(), "data mean", images.mean().item())
