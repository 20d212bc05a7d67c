"""Small full-batch VAE trained with L-BFGS."""
import torch
from torch import nn
from sklearn.datasets import make_moons

torch.manual_seed(2)
M, _ = make_moons(500, noise=0.05, random_state=2)
M = torch.tensor(M, dtype=torch.float32)
lift = torch.linalg.qr(torch.randn(6, 2))[0]
X = (M - M.mean(0)) / M.std(0) @ lift.T + 0.1 * torch.randn(500, 6)

enc = nn.Sequential(nn.Linear(6, 24), nn.Tanh(), nn.Linear(24, 4))
decode = nn.Sequential(nn.Linear(2, 24), nn.Tanh(), nn.Linear(24, 6))
log_s = nn.Parameter(torch.tensor(0.0))
weights = [*enc.parameters(), *decode.parameters(), log_s]


def objective(eps):
    mu, lv = enc(X).chunk(2, 1)
    z = mu + eps * (0.5 * lv).exp()
    nll = (0.5 * ((X - decode(z)) / log_s.exp()) ** 2 + log_s).sum(-1).mean(-1).mean()
    kl = 0.5 * (mu**2 + lv.exp() - lv - 1).sum(1).mean()
    return nll + kl


optimizer = torch.optim.LBFGS(weights, lr=0.5, max_iter=6, history_size=10, line_search_fn="strong_wolfe")
for it in range(250):
    eps = torch.randn(8, len(X), 2)

    def closure():
        optimizer.zero_grad()
        loss = objective(eps)
        loss.backward()
        return loss

    value = optimizer.step(closure)
    if it % 25 == 0:
        print(f"{it:4d} {value.item():.4f} sigma {log_s.exp().item():.3f}")
