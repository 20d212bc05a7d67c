"""I want a VAE to draw digits from ordinary 8-bit pictures, with grey levels from 0 to 255."""

import torch
from sklearn.datasets import load_digits
from torch import nn

torch.manual_seed(2)

pictures = torch.tensor(load_digits().data * 255 / 16, dtype=torch.float32)  # 1797 x 64
train_pictures = pictures[:1600]
test_pictures = pictures[1600:]

input_size = 64
hidden_size = 128
latent_size = 8
batch_size = 50
epochs = 25


class VariationalAutoencoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(input_size, hidden_size)
        self.fc_mu = nn.Linear(hidden_size, latent_size)
        self.fc_logvar = nn.Linear(hidden_size, latent_size)
        self.fc2 = nn.Linear(latent_size, hidden_size)
        self.fc3 = nn.Linear(hidden_size, input_size)

    def encode(self, x):
        h = torch.tanh(self.fc1(x))
        return self.fc_mu(h), self.fc_logvar(h)

    def reparameterize(self, mu, logvar):
        return mu + torch.exp(logvar / 2) * torch.randn_like(mu)

    def decode(self, z):
        h = torch.tanh(self.fc2(z))
        return torch.sigmoid(self.fc3(h))

    def forward(self, x):
        mu, logvar = self.encode(x)
        return self.decode(self.reparameterize(mu, logvar)), mu, logvar


def vae_loss(output, x, mu, logvar):
    squared_error = ((output - x) ** 2).sum(dim=1).mean()
    kl = (-0.5 * (1 + logvar - mu**2 - logvar.exp()).sum(dim=1)).mean()
    return squared_error + kl


vae = VariationalAutoencoder()
optimizer = torch.optim.Adam(vae.parameters(), lr=1e-3)

for epoch in range(epochs):
    vae.train()
    shuffled = torch.randperm(len(train_pictures))
    for start in range(0, len(shuffled), batch_size):
        batch = train_pictures[shuffled[start : start + batch_size]]
        output, mu, logvar = vae(batch)
        loss = vae_loss(output, batch, mu, logvar)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    vae.eval()
    with torch.no_grad():
        output, mu, logvar = vae(test_pictures)
        test_loss = vae_loss(output, test_pictures, mu, logvar)
    if epoch % 5 == 4:
        print(f"epoch {epoch + 1}: train loss {loss.item():.0f}, test loss {test_loss.item():.0f}")

# The loss stops falling at once, and every picture is white. Is the learning rate too low?
vae.eval()
with torch.no_grad():
    new_pictures = vae.decode(torch.randn(5, latent_size))
print("real pictures: ", pictures.min().item(), "to", pictures.max().item())
print("new pictures:  ", new_pictures.min().item(), "to", new_pictures.max().item())
