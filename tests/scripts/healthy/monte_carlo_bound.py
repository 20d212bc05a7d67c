"""Single-sample ELBO written as log p(x,z) - log q(z|x)."""
import math
import numpy as np, torch
import torch.nn as nn
from sklearn.datasets import load_digits

np.random.seed(5); torch.manual_seed(5)
data = torch.from_numpy((load_digits().data >= 8).astype(np.float32))
L = 6
phi = nn.Sequential(nn.Linear(64, 120), nn.Tanh(), nn.Linear(120, 2*L))
theta = nn.Sequential(nn.Linear(L, 120), nn.Tanh(), nn.Linear(120, 64))

def log_normal(v, m, logvar):
    return -0.5*(math.log(2*math.pi) + logvar + (v - m)**2/torch.exp(logvar)).sum(1)

def log_bernoulli(x, logit):
    return -nn.functional.binary_cross_entropy_with_logits(logit, x, reduction='none').sum(1)

optimizer = torch.optim.Adam(list(phi.parameters()) + list(theta.parameters()), lr=4e-3)
history = []
for i in range(3000):
    x = data[np.random.choice(len(data), 128, replace=False)]
    out = phi(x)
    m, lv = out[:, :L], out[:, L:]
    z = m + torch.exp(0.5*lv)*torch.randn(len(x), L)
    log_p = log_bernoulli(x, theta(z)) + log_normal(z, torch.zeros(1), torch.zeros(1))
    log_q = log_normal(z, m, lv)
    bound = (log_p - log_q).mean()
    optimizer.zero_grad()
    (-bound).backward()
    optimizer.step()
    history.append(bound.item())
    if i % 250 == 249:
        print('%5d  bound %.3f' % (i + 1, np.mean(history[-250:])))
