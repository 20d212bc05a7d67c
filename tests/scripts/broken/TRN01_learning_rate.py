"""SGD-trained VAE on digits."""
import torch
from sklearn.datasets import load_digits
from torch import nn

torch.manual_seed(0)
X = torch.tensor(load_digits().data / 16, dtype=torch.float32)
LEARNING_RATE = 2e-2


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc = nn.Sequential(nn.Linear(64, 100), nn.ReLU(), nn.Linear(100, 16))
        self.dec = nn.Sequential(nn.Linear(8, 100), nn.ReLU(), nn.Linear(100, 64))

    def forward(self, x):
        mu, logvar = self.enc(x).chunk(2, 1)
        return self.dec(mu + torch.exp(logvar / 2) * torch.randn_like(mu)), mu, logvar


net = Net()
opt = torch.optim.SGD(net.parameters(), lr=LEARNING_RATE, momentum=0.9)
for epoch in range(160):
    for x in X[torch.randperm(len(X))].split(100):
        y, mu, logvar = net(x)
        loss = ((y - x) ** 2).sum(1).mean() / (2 * 0.025) - 0.5 * (1 + logvar - mu**2 - logvar.exp()).sum(1).mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
    if epoch % 20 == 19:
        print(f"epoch {epoch + 1} loss {loss.item():.3f}")
