"""VAE with KL warm-up and an exponential moving average of the weights for sampling."""
import copy
import torch
from sklearn.datasets import load_digits

torch.manual_seed(6)
data = torch.tensor(load_digits().data).float() / 16.0


class Net(torch.nn.Module):
    def __init__(self, k=10, h=128):
        super().__init__()
        nn = torch.nn
        self.encoder = nn.Sequential(nn.Linear(64, h), nn.LeakyReLU(0.1), nn.Linear(h, h), nn.LeakyReLU(0.1))
        self.head_m, self.head_s = nn.Linear(h, k), nn.Linear(h, k)
        self.decoder = nn.Sequential(nn.Linear(k, h), nn.LeakyReLU(0.1), nn.Linear(h, 64))

    def forward(self, x):
        e = self.encoder(x)
        m, s = self.head_m(e), self.head_s(e)
        return self.decoder(m + s.div(2).exp() * torch.randn_like(s)), m, s


@torch.no_grad()
def update_ema(ema, model, decay=0.995):
    for pe, p in zip(ema.parameters(), model.parameters()):
        pe.lerp_(p, 1 - decay)


model = Net()
ema = copy.deepcopy(model).requires_grad_(False)
opt = torch.optim.Adam(model.parameters(), lr=2e-3)
epochs, warmup = 100, 30
for epoch in range(epochs):
    beta = min(1.0, (epoch + 1) / warmup)
    for x in torch.split(data[torch.randperm(len(data))], 128):
        y, m, s = model(x)
        nll = 0.5 * (y - x).square().sum(1).mean() / 0.02
        kl = 0.5 * (m.square() + s.exp() - s - 1).sum(1).mean()
        opt.zero_grad()
        (nll + beta * kl).backward()
        opt.step()
        update_ema(ema, model)
    if epoch % 10 == 9:
        print(f"epoch {epoch + 1} beta {beta:.2f} nll {nll.item():.2f} kl {kl.item():.2f}")

with torch.no_grad():
    new = ema.decoder(torch.randn(1000, 10))
print("sample mean/std", new.mean().item(), new.std().item(), "data", data.mean().item(), data.std().item())
