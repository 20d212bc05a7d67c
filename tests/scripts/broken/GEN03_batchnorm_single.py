"""Convolutional VAE with batch norm; afterwards a folder of new digits, one by one."""
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch import nn


class ConvVAE(nn.Module):
    def __init__(self, latent_dim=8):
        super().__init__()
        self.latent_dim = latent_dim
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 16, 3, stride=2, padding=1), nn.BatchNorm2d(16), nn.ReLU(inplace=True),
            nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.BatchNorm2d(32), nn.ReLU(inplace=True),
            nn.Flatten())
        self.fc_mu = nn.Linear(32 * 2 * 2, latent_dim)
        self.fc_var = nn.Linear(32 * 2 * 2, latent_dim)
        self.decoder_input = nn.Linear(latent_dim, 32 * 2 * 2)
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(32, 16, 4, stride=2, padding=1), nn.BatchNorm2d(16), nn.ReLU(inplace=True),
            nn.ConvTranspose2d(16, 1, 4, stride=2, padding=1), nn.Sigmoid())

    def encode(self, x):
        h = self.encoder(x)
        return self.fc_mu(h), self.fc_var(h)

    def reparameterize(self, mu, logvar):
        std = torch.exp(0.5 * logvar)
        eps = torch.randn_like(std)
        return mu + eps * std

    def decode(self, z):
        return self.decoder(self.decoder_input(z).view(-1, 32, 2, 2))

    def forward(self, x):
        mu, logvar = self.encode(x)
        return [self.decode(self.reparameterize(mu, logvar)), x, mu, logvar]

    def loss_function(self, recons, x, mu, logvar):
        recons_loss = ((recons - x) ** 2).flatten(1).sum(1).mean() / (2 * 0.03)
        kld_loss = torch.mean(-0.5 * torch.sum(1 + logvar - mu**2 - logvar.exp(), dim=1), dim=0)
        return {"loss": recons_loss + kld_loss, "rec": recons_loss.detach(), "kld": kld_loss.detach()}


def save_sample(model, name):
    with torch.no_grad():
        picture = model.decode(torch.randn(1, model.latent_dim))[0, 0]
    Image.fromarray(picture.mul(255).byte().numpy()).save(name)


torch.manual_seed(3)
images = torch.tensor(load_digits().images, dtype=torch.float32).unsqueeze(1) / 16
loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(images), batch_size=128, shuffle=True)
model = ConvVAE()
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=30, gamma=0.4)
for epoch in range(50):
    for (x,) in loader:
        optimizer.zero_grad()
        losses = model.loss_function(*model(x))
        losses["loss"].backward()
        optimizer.step()
    scheduler.step()
    if epoch % 5 == 4:
        print(epoch + 1, {k: round(float(v.detach()), 2) for k, v in losses.items()})
for number in range(12):
    save_sample(model, f"sample_{number}.png")
