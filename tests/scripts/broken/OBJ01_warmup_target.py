"""VAE with a linear KL warm-up on digits, trainer in a function."""
import torch
from sklearn.datasets import load_digits
from torch import nn

EPOCHS = 80
WARMUP = 20
MAX_BETA = 100.0


def beta_schedule(epoch):
    return MAX_BETA * min(1.0, epoch / WARMUP)


class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, 128), nn.SELU(), nn.Linear(128, 16))
        self.decoder = nn.Sequential(nn.Linear(8, 128), nn.SELU(), nn.Linear(128, 64))

    def forward(self, x):
        code = self.encoder(x)
        mean, logvar = code[..., :8], code[..., 8:]
        noise = torch.randn_like(mean)
        return self.decoder(mean + noise * (logvar / 2).exp()), mean, logvar


def main():
    torch.manual_seed(10)
    data = torch.tensor(load_digits().data, dtype=torch.float) / 16
    vae = VAE()
    optim = torch.optim.Adam(vae.parameters(), lr=4e-3)
    for epoch in range(EPOCHS):
        beta = beta_schedule(epoch)
        for x in data[torch.randperm(len(data))].split(120):
            xh, mean, logvar = vae(x)
            rec = ((xh - x) ** 2).sum(1).mean() / (2 * 0.02)
            kl = (0.5 * (mean**2 + logvar.exp() - 1 - logvar)).sum(1).mean()
            loss = rec + beta * kl
            optim.zero_grad()
            loss.backward()
            optim.step()
        if epoch % 10 == 9:
            print(f"{epoch + 1:3d} beta {beta:.2f} rec {rec.item():.2f} kl {kl.item():.3f}")


if __name__ == "__main__":
    main()
