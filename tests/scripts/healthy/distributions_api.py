"""VAE with torch.distributions on binarised digits."""
import torch
import torch.distributions as D
from torch import nn
from sklearn import datasets

torch.manual_seed(11)
digits = datasets.load_digits()
train = torch.as_tensor(digits.images > 8).float().reshape(-1, 64)
latent_dim = 6


def mlp(*sizes):
    layers = []
    for a, b in zip(sizes[:-1], sizes[1:]):
        layers += [nn.Linear(a, b), nn.Softplus()]
    return nn.Sequential(*layers[:-1])


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.inference_net = mlp(64, 128, 2 * latent_dim)
        self.generative_net = mlp(latent_dim, 128, 64)

    def posterior(self, x) -> D.Distribution:
        loc, raw = self.inference_net(x).split(latent_dim, dim=-1)
        return D.Independent(D.Normal(loc, nn.functional.softplus(raw) + 1e-4), 1)

    def likelihood(self, z) -> D.Distribution:
        return D.Independent(D.Bernoulli(logits=self.generative_net(z)), 1)


def prior():
    return D.Independent(D.Normal(torch.zeros(latent_dim), torch.ones(latent_dim)), 1)


def prior_draw(n):
    with torch.no_grad():
        return prior().sample((n,))


model = Model()
opt = torch.optim.Adam(model.parameters(), lr=4e-3)
for epoch in range(150):
    for x in train[torch.randperm(len(train))].split(128):
        q = model.posterior(x)
        z = q.rsample()
        elbo = model.likelihood(z).log_prob(x) - D.kl_divergence(q, prior())
        loss = -elbo.mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
    if epoch % 10 == 0:
        print(f"epoch {epoch} elbo {elbo.mean().item():.3f}")
print(model.likelihood(prior_draw(4)).sample().reshape(4, 8, 8).int()[0])
