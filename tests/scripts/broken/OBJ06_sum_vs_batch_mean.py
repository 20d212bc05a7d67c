"""Binary digits VAE, loss as a callable class."""
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import binary_cross_entropy, relu


class VaeLoss:
    def __call__(self, prob, target, mu, logvar):
        n = target.shape[0]
        self.bce = binary_cross_entropy(prob, target, reduction="sum")
        self.kld = torch.mean(-0.5 * torch.sum(1 + logvar - mu**2 - logvar.exp(), dim=1))
        return self.bce + self.kld


class Encoder(nn.Module):
    def __init__(self, k):
        super().__init__()
        self.l1, self.l2, self.l3 = nn.Linear(64, 128), nn.Linear(128, k), nn.Linear(128, k)

    def forward(self, x):
        h = relu(self.l1(x))
        return self.l2(h), self.l3(h)


class Decoder(nn.Module):
    def __init__(self, k):
        super().__init__()
        self.l1, self.l2 = nn.Linear(k, 128), nn.Linear(128, 64)

    def forward(self, z):
        return self.l2(relu(self.l1(z)))


class Both(nn.Module):
    def __init__(self, k=8):
        super().__init__()
        self.encoder, self.decoder = Encoder(k), Decoder(k)

    def forward(self, x):
        mu, logvar = self.encoder(x)
        std = torch.sqrt(torch.exp(logvar))
        return torch.sigmoid(self.decoder(mu + std * torch.randn(std.size()))), mu, logvar


torch.manual_seed(100)
x_train = (torch.tensor(load_digits().data) > 7).float()
model, criterion = Both(), VaeLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
for epoch in range(90):
    for batch in torch.utils.data.DataLoader(x_train, batch_size=100, shuffle=True):
        prob, mu, logvar = model(batch)
        loss = criterion(prob, batch, mu, logvar)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if epoch % 15 == 14:
        print(f"epoch {epoch + 1}: bce {criterion.bce.item():.2f} kld {criterion.kld.item():.2f}")
