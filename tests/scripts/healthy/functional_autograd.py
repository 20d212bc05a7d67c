"""VAE from scratch: weights in a dict, updates by hand."""
import torch
from sklearn.datasets import load_digits

torch.manual_seed(3)
DATA = torch.from_numpy(load_digits().data).float().div(16)
D, H, K = 64, 80, 6


def init(n_in, n_out):
    return (torch.randn(n_in, n_out) * (1.0 / n_in) ** 0.5).requires_grad_(), torch.zeros(n_out, requires_grad=True)


W = {"e1": init(D, H), "mu": init(H, K), "lv": init(H, K), "d1": init(K, H), "d2": init(H, H), "out": init(H, D)}
velocity = {k: tuple(torch.zeros_like(t) for t in v) for k, v in W.items()}


def dense(x, p):
    return x @ p[0] + p[1]


def encode(W, x):
    h = torch.tanh(dense(x, W["e1"]))
    return dense(h, W["mu"]), dense(h, W["lv"])


def decode(W, z):
    return dense(torch.tanh(dense(torch.tanh(dense(z, W["d1"])), W["d2"])), W["out"])


def negative_elbo(W, x, sigma2=0.025):
    mu, lv = encode(W, x)
    z = mu + torch.randn(mu.shape) * torch.exp(lv / 2)
    rec = (decode(W, z) - x).square().sum(1) / (2 * sigma2)
    kl = 0.5 * (mu.square() + lv.exp() - 1 - lv).sum(1)
    return (rec + kl).mean() / D, kl.mean()


def generate(W, n):
    with torch.no_grad():
        return decode(W, torch.randn(n, K))


lr, momentum = 3e-2, 0.9
flat = [t for v in W.values() for t in v]
vel = [t for v in velocity.values() for t in v]
for it in range(5000):
    x = DATA[torch.randint(0, len(DATA), (100,))]
    loss, kl = negative_elbo(W, x)
    grads = torch.autograd.grad(loss, flat)
    rate = lr if it < 3500 else lr / 5
    with torch.no_grad():
        for p, v, g in zip(flat, vel, grads):
            v.mul_(momentum).add_(g)
            p.sub_(rate * v)
    if it % 500 == 0:
        print(f"it {it:5d}  -elbo/dim {loss.item():7.3f}  kl {kl.item():6.2f}")

print("pixel std of data / samples:", DATA.std().item(), generate(W, 1000).std().item())
