"""Fit the 3-D S-curve with a two-dimensional latent, plain tensors and p.grad only."""
import numpy as np
import torch
from sklearn.datasets import make_s_curve

rng = np.random.RandomState(0)
pts, _ = make_s_curve(2000, noise=0.05, random_state=rng)
pts = (pts - pts.mean(0)) / pts.std(0)
pts = torch.tensor(pts, dtype=torch.float32)

params = []


def lin(i, o):
    w = torch.tensor(rng.randn(i, o) / np.sqrt(i), dtype=torch.float32, requires_grad=True)
    b = torch.zeros(o, requires_grad=True)
    params.extend([w, b])
    return lambda t: t @ w + b


f1, f2, fm, fs = lin(3, 64), lin(64, 64), lin(64, 2), lin(64, 2)
g1, g2, g3 = lin(2, 64), lin(64, 64), lin(64, 3)
f = lambda t: f2(f1(t).relu()).relu()
g = lambda t: g3(g2(g1(t).relu()).relu())
log_noise = torch.tensor(-2.0, requires_grad=True)
params.append(log_noise)

avg = [torch.zeros_like(p) for p in params]
n_steps = 4000
for step in range(n_steps):
    x = pts[torch.randint(len(pts), (200,))]
    h = f(x)
    m, log_s = fm(h), fs(h)
    z = m + log_s.exp() * torch.randn_like(m)
    y = g(z)
    rec = (0.5 * ((x - y) / log_noise.exp()) ** 2 + log_noise).sum(1)
    kl = (0.5 * (m**2 + (2 * log_s).exp() - 1) - log_s).sum(1)
    loss = (rec + kl).mean()
    loss.backward()
    lr = 2e-3 * (1 - step / n_steps) + 1e-5
    with torch.no_grad():
        for p, a in zip(params, avg):
            a.mul_(0.99).addcmul_(p.grad, p.grad, value=0.01)
            p -= lr * p.grad / (a.sqrt() + 1e-8)
            p.grad.zero_()
    if step % 400 == 0:
        print(step, round(loss.item(), 3), "kl", round(kl.mean().item(), 3), "noise", round(log_noise.exp().item(), 3))
