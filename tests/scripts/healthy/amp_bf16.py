"""Digits VAE under bfloat16 autocast, the same loop we use on the GPU box."""
import torch, torch.nn as nn, torch.nn.functional as F
from sklearn.datasets import load_digits

device = "cuda" if torch.cuda.is_available() else "cpu"
torch.manual_seed(0)
x_all = torch.tensor(load_digits().data, dtype=torch.float32, device=device) / 16.


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.q = nn.Sequential(nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 16))
        self.g = nn.Sequential(nn.Linear(8, 96), nn.ReLU(), nn.Linear(96, 64))

    def forward(self, x):
        mu, lv = self.q(x).float().chunk(2, 1)
        z = mu + torch.randn_like(mu) * torch.exp(0.5 * lv)
        return self.g(z), mu, lv


net = Net().to(device)
opt = torch.optim.AdamW(net.parameters(), lr=2e-3)
scaler = torch.amp.GradScaler(device, enabled=False)
for ep in range(60):
    tot = 0
    for xb in x_all[torch.randperm(len(x_all), device=device)].split(96):
        opt.zero_grad(set_to_none=True)
        with torch.autocast(device_type=device, dtype=torch.bfloat16):
            y, mu, lv = net(xb)
        rec = F.mse_loss(y.float(), xb, reduction="none").sum(1) / (2 * 0.16 ** 2)
        kl = -0.5 * (1 + lv - mu ** 2 - lv.exp()).sum(1)
        loss = (rec + kl).mean()
        scaler.scale(loss).backward()
        scaler.unscale_(opt)
        nn.utils.clip_grad_norm_(net.parameters(), 50.)
        scaler.step(opt)
        scaler.update()
        tot += loss.item() * len(xb)
    if ep % 5 == 4:
        print(f"ep {ep + 1} loss {tot / len(x_all):.2f} kl {kl.mean().item():.2f}")
