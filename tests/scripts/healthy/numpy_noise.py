"""Seeded experiment: all randomness comes from one numpy stream."""
import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits

np.random.seed(42)
torch.manual_seed(42)

xs = (load_digits().data / 16.0).astype("float32")
BATCH, LATENT, EPOCHS = 90, 8, 110


class NumpyNoiseVAE(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.e = torch.nn.Linear(64, 128)
        self.e_mu = torch.nn.Linear(128, LATENT)
        self.e_lv = torch.nn.Linear(128, LATENT)
        self.d = torch.nn.Linear(LATENT, 128)
        self.d_out = torch.nn.Linear(128, 64)

    def dec(self, z):
        return torch.sigmoid(self.d_out(F.leaky_relu(self.d(z))))

    def forward(self, x):
        h = F.leaky_relu(self.e(x))
        mu, log_var = self.e_mu(h), self.e_lv(h)
        eps = torch.from_numpy(np.random.randn(*mu.shape).astype("float32"))
        return self.dec(mu + eps * torch.exp(log_var * 0.5)), mu, log_var


vae = NumpyNoiseVAE()
adam = torch.optim.Adam(vae.parameters(), lr=0.002)
for epoch in range(EPOCHS):
    perm = np.random.permutation(len(xs))
    losses = []
    for i in range(0, len(xs), BATCH):
        batch = torch.from_numpy(xs[perm[i:i + BATCH]])
        rec, mu, log_var = vae(batch)
        # Gaussian log likelihood, sigma = 0.14
        rec_loss = F.mse_loss(rec, batch, reduction="sum") / (2 * 0.14**2)
        kl_loss = -0.5 * (1 + log_var - mu**2 - log_var.exp()).sum()
        loss = (rec_loss + kl_loss) / len(batch)
        adam.zero_grad(); loss.backward(); adam.step()
        losses.append([rec_loss.item() / len(batch), kl_loss.item() / len(batch)])
    if epoch % 10 == 9:
        print(epoch + 1, np.mean(losses, axis=0).round(2))
