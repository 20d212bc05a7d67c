"""Wide latent VAE on a standardised table (make_low_rank_matrix)."""
import torch
from sklearn.datasets import make_low_rank_matrix
from sklearn.preprocessing import scale
from torch import nn

torch.manual_seed(12)
T = torch.tensor(scale(make_low_rank_matrix(3000, 40, effective_rank=10, tail_strength=0.2, random_state=3)), dtype=torch.float32)
rec_net = nn.Sequential(nn.Linear(40, 64), nn.Tanh(), nn.Linear(64, 32))
gen = nn.Sequential(nn.Linear(16, 64), nn.Tanh(), nn.Linear(64, 40))
log_sig = nn.Parameter(torch.zeros(()))
optim = torch.optim.Adam([*rec_net.parameters(), *gen.parameters(), log_sig], lr=2e-3)


def gaussian_nll(x, m):
    return (0.5 * ((x - m) * torch.exp(-log_sig)) ** 2 + log_sig).sum(-1)


def kl(m, lv):
    return (0.5 * (m**2 + lv.exp() - 1 - lv)).sum(-1)


for step in range(2200):
    x = T[torch.randint(len(T), (128,))]
    m, lv = rec_net(x).tensor_split(2, dim=1)
    z = torch.addcmul(m, torch.randn_like(m), (0.5 * lv).exp())
    nll, k = gaussian_nll(x, gen(z)).mean(), kl(m, lv).mean()
    optim.zero_grad()
    (nll + k).backward()
    optim.step()
    if step % 220 == 219:
        print(f"step {step + 1}: nll {nll.item():.2f} kl {k.item():.2f} sigma {log_sig.exp().item():.3f}")
