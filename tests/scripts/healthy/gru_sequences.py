"""Sequence VAE: noisy sine waves of different frequency, phase and height."""
import numpy as np
import torch
import torch.nn as nn

T = 12


def waves(n, rng):
    t = np.arange(T)[None]
    f = rng.uniform(0.4, 0.9, (n, 1))
    p = rng.uniform(0, np.pi, (n, 1))
    a = rng.uniform(0.5, 1.2, (n, 1))
    y = a * np.sin(f * t + p) + rng.normal(0, 0.1, (n, T))
    return torch.tensor(y[..., None], dtype=torch.float32)


class SeqVAE(nn.Module):
    def __init__(self, hidden=32, z_dim=5):
        super().__init__()
        self.z_dim = z_dim
        self.enc_rnn = nn.GRU(1, hidden, batch_first=True, bidirectional=True)
        self.stats = nn.Linear(2 * hidden, 2 * z_dim)
        self.init_h = nn.Linear(z_dim, hidden)
        self.dec_rnn = nn.GRU(z_dim, hidden, batch_first=True)
        self.readout = nn.Linear(hidden, 1)

    def decode(self, z):
        h0 = torch.tanh(self.init_h(z)).unsqueeze(0)
        out, _ = self.dec_rnn(z.unsqueeze(1).expand(-1, T, -1).contiguous(), h0)
        return self.readout(out)

    def forward(self, x):
        _, h = self.enc_rnn(x)
        mu, logvar = self.stats(torch.cat([h[0], h[1]], dim=-1)).chunk(2, dim=-1)
        z = mu + torch.randn_like(mu) * torch.exp(logvar / 2)
        return self.decode(z), mu, logvar


rng = np.random.default_rng(1)
torch.manual_seed(1)
train = waves(3000, rng)
model = SeqVAE()
opt = torch.optim.Adam(model.parameters(), lr=8e-3)
n_iter = 420
sched = torch.optim.lr_scheduler.OneCycleLR(opt, max_lr=8e-3, total_steps=n_iter)
for i in range(n_iter):
    x = train[torch.randint(0, len(train), (64,))]
    y, mu, logvar = model(x)
    nll = ((x - y) ** 2).sum(dim=(1, 2)).mean() / (2 * 0.15**2)
    kl = -0.5 * (1 + logvar - mu.pow(2) - logvar.exp()).sum(dim=1).mean()
    opt.zero_grad()
    (nll + kl).backward()
    nn.utils.clip_grad_norm_(model.parameters(), 20)
    opt.step()
    sched.step()
    if i % 42 == 41:
        print(f"iter {i + 1} nll {nll.item():.2f} kl {kl.item():.2f}")
