"""Digits VAE with a compiled forward pass."""
import torch
from sklearn.datasets import load_digits
from torch import nn

torch.manual_seed(17)
data = (load_digits().data / 16).astype("float32")


class DigitVAE(nn.Module):
    def __init__(self, n_latent=8):
        super().__init__()
        self.n_latent = n_latent
        self.encoder = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 2 * n_latent))
        self.decoder = nn.Sequential(nn.Linear(n_latent, 128), nn.ReLU(), nn.Linear(128, 64))
        self.log_noise = nn.Parameter(torch.tensor(-1.5))

    def decode(self, z):
        return self.decoder(z)

    def forward(self, x):
        stats = self.encoder(x)
        mu, logvar = stats[:, : self.n_latent], stats[:, self.n_latent:]
        z = mu + torch.randn_like(mu) * torch.exp(0.5 * logvar)
        return self.decode(z), mu, logvar


vae = DigitVAE()
fast = torch.compile(vae, backend="aot_eager")
optimizer = torch.optim.Adam(vae.parameters(), lr=4e-3)
loader = torch.utils.data.DataLoader(torch.from_numpy(data), batch_size=128, shuffle=True, drop_last=True)
for epoch in range(90):
    for x in loader:
        x_hat, mu, logvar = fast(x)
        prec = torch.exp(-2 * vae.log_noise)
        nll = (0.5 * prec * (x - x_hat) ** 2 + vae.log_noise).sum(dim=1).mean()
        kl = (-0.5 * (1 + logvar - mu**2 - logvar.exp())).sum(dim=1).mean()
        loss = nll + kl
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if epoch % 10 == 9:
        print(f"{epoch + 1:3d}: loss={loss.item():.2f} kl={kl.item():.2f}")
