"""Minimal VAE on black and white digits, and twenty-five new ones as text."""
import torch, torch.nn as nn
from sklearn.datasets import load_digits
torch.manual_seed(1)
d = (torch.tensor(load_digits().data) > 7.5).float()
E = nn.Sequential(nn.Linear(64, 100), nn.ReLU(), nn.Linear(100, 12))
D_ = nn.Sequential(nn.Linear(6, 100), nn.ReLU(), nn.Linear(100, 64))
o = torch.optim.Adam([*E.parameters(), *D_.parameters()], 3e-3)
bce = nn.BCEWithLogitsLoss(reduction='sum')
for e in range(80):
    for b in d[torch.randperm(len(d))].split(100):
        m, v = E(b).chunk(2, 1)
        r = D_(m + torch.randn(m.shape)*torch.exp(v/2))
        l = bce(r, b) - 0.5*torch.sum(1 + v - m**2 - v.exp())
        o.zero_grad(); l.backward(); o.step()
    if e % 10 == 0: print(e, l.item()/len(b))

z = torch.rand(25, 6)
for new in (D_(z) > 0).reshape(25, 8, 8):
    print("\n".join("".join(" #"[int(p)] for p in row) for row in new), "\n" + "-" * 8)
