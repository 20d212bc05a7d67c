"""VAE whose prior is a learned mixture of Gaussians, written with torch.distributions."""
import torch
from torch import nn
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal
from sklearn.datasets import load_digits

torch.manual_seed(3)
images = torch.tensor(load_digits().images / 16.0, dtype=torch.float32).flatten(1)


class Prior(nn.Module):
    def __init__(self, units, parts=12):
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(parts))
        self.loc = nn.Parameter(torch.randn(parts, units))
        self.log_scale = nn.Parameter(torch.zeros(parts, units))

    def forward(self):
        return MixtureSameFamily(
            Categorical(logits=self.logits), Independent(Normal(self.loc, self.log_scale.exp()), 1)
        )


class Net(nn.Module):
    def __init__(self, units=5):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, 256), nn.SiLU(), nn.Linear(256, 2 * units))
        self.decoder = nn.Sequential(nn.Linear(units, 256), nn.SiLU(), nn.Linear(256, 64))
        self.prior = Prior(units)

    def elbo(self, x, s):
        loc, raw = self.encoder(x).chunk(2, dim=-1)
        q = Independent(Normal(loc, nn.functional.softplus(raw) + 1e-4), 1)
        z = q.rsample()
        fit = Normal(self.decoder(z), s).log_prob(x).sum(-1)
        return fit - q.log_prob(z) + self.prior().log_prob(z)


net = Net()
optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=1e-4)
loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(images), batch_size=128, shuffle=True, drop_last=True)
for epoch in range(150):
    for (batch,) in loader:
        loss = -net.elbo(batch, 0.14).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    if epoch % 25 == 24:
        print(f"epoch {epoch + 1}: {loss.item():.2f}")

with torch.no_grad():
    new = net.decoder(net.prior().sample((36,)))
