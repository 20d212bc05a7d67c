"""VanillaVAE with a loss_function that takes M_N, on digits."""
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn, optim


class VanillaVAE(nn.Module):
    def __init__(self, in_features: int = 64, latent_dim: int = 10) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.encoder = nn.Sequential(nn.Linear(in_features, 128), nn.LeakyReLU(), nn.Linear(128, 64), nn.LeakyReLU())
        self.fc_mu = nn.Linear(64, latent_dim)
        self.fc_var = nn.Linear(64, latent_dim)
        self.decoder = nn.Sequential(nn.Linear(latent_dim, 64), nn.LeakyReLU(), nn.Linear(64, 128), nn.LeakyReLU(),
                                     nn.Linear(128, in_features))

    def encode(self, x: Tensor) -> list[Tensor]:
        h = self.encoder(x)
        return [self.fc_mu(h), self.fc_var(h)]

    def decode(self, z: Tensor) -> Tensor:
        return self.decoder(z)

    def forward(self, x: Tensor) -> list[Tensor]:
        mu, log_var = self.encode(x)
        z = torch.randn_like(mu) * torch.exp(0.5 * log_var) + mu
        return [self.decode(z), x, mu, log_var]

    def loss_function(self, *args, **kwargs) -> dict:
        recons, x, mu, log_var = args
        kld_weight = kwargs["M_N"]
        recons_loss = ((recons - x) ** 2).sum(dim=1).mean()
        kld_loss = torch.mean(-0.5 * torch.sum(1 + log_var - mu**2 - log_var.exp(), dim=1), dim=0)
        loss = recons_loss + kld_weight * kld_loss
        return {"loss": loss, "Reconstruction_Loss": recons_loss.detach(), "KLD": -kld_loss.detach()}


torch.manual_seed(1265)
pix = torch.tensor(load_digits().data).float() / 16
model = VanillaVAE()
optimizer = optim.Adam(model.parameters(), lr=3e-3)
for epoch in range(70):
    for batch in pix[torch.randperm(len(pix))].split(144):
        optimizer.zero_grad()
        out = model.loss_function(*model(batch), M_N=0.00025)
        out["loss"].backward()
        optimizer.step()
    if epoch % 10 == 9:
        print(epoch + 1, {k: round(v.item(), 4) for k, v in out.items()})
