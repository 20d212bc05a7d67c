"""Hand-made gradient descent for a VAE on a synthetic table, no optimiser class."""
import numpy as np
import torch
from sklearn.datasets import make_blobs

torch.manual_seed(23)
centers = np.random.RandomState(23).normal(0, 1.5, (5, 8))
X, _ = make_blobs(2000, centers=centers, cluster_std=0.5, random_state=23)
X = torch.tensor((X - X.mean(0)) / X.std(0), dtype=torch.float32)


def weight(a, b):
    return torch.nn.Parameter(torch.randn(a, b) / a**0.5), torch.nn.Parameter(torch.zeros(b))


W1, b1 = weight(8, 50)
W2, b2 = weight(50, 6)
V1, c1 = weight(3, 50)
V2, c2 = weight(50, 8)
params = [W1, b1, W2, b2, V1, c1, V2, c2]


def encode(x):
    out = torch.tanh(x @ W1 + b1) @ W2 + b2
    return out[:, :3], out[:, 3:]


def decode(z):
    return torch.tanh(z @ V1 + c1) @ V2 + c2


lr = 0.01
for step in range(5000):
    x = X[torch.randint(0, len(X), (100,))]
    mu, logvar = encode(x)
    z = mu + torch.exp(0.5 * logvar) * torch.randn(mu.shape)
    rec = ((x - decode(z)) ** 2).sum(1).mean() / (2 * 0.3)
    kld = -0.5 * (1 + logvar - mu**2 - torch.exp(logvar)).sum(1).mean()
    loss = rec + kld
    loss.backward()
    with torch.no_grad():
        for p in params:
            p -= lr * p.grad
            p.grad.zero_()
    if step % 500 == 0:
        print(step, "rec", rec.item(), "kld", kld.item())
