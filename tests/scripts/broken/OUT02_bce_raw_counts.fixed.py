"""VAE class with sample() and loss() for scikit-learn digits."""
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.distributions import Bernoulli

pixels = (torch.from_numpy(load_digits().data) > 7).float()


class DigitsVAE(nn.Module):
    def __init__(self, n_latent=6, n_hidden=100):
        super().__init__()
        self.n_latent = n_latent
        self.enc_net = nn.Sequential(nn.Linear(64, n_hidden), nn.LeakyReLU(), nn.Linear(n_hidden, 2 * n_latent))
        self.dec_net = nn.Sequential(nn.Linear(n_latent, n_hidden), nn.LeakyReLU(), nn.Linear(n_hidden, 64))

    def loss(self, x):
        mean, logvar = self.enc_net(x).split(self.n_latent, 1)
        z = mean + torch.randn_like(mean) * (logvar / 2).exp()
        log_px = Bernoulli(logits=self.dec_net(z), validate_args=False).log_prob(x).sum(1)
        kl = 0.5 * (mean**2 + logvar.exp() - logvar - 1).sum(1)
        return -log_px.mean(), kl.mean()

    @torch.no_grad()
    def sample(self, n):
        return torch.sigmoid(self.dec_net(torch.randn(n, self.n_latent)))


torch.manual_seed(0)
vae = DigitsVAE()
optimizer = torch.optim.Adam(vae.parameters(), lr=3e-3)
for epoch in range(90):
    for rows in pixels[torch.randperm(len(pixels))].split(128):
        nll, kl = vae.loss(rows)
        optimizer.zero_grad()
        (nll + kl).backward()
        optimizer.step()
    if epoch % 10 == 9:
        print(f"epoch {epoch + 1}: nll={nll.item():.2f} kl={kl.item():.2f}")
print("sample range", vae.sample(100).min().item(), vae.sample(100).max().item())
