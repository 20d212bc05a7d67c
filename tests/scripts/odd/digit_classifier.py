"""Classify digits with a small MLP."""
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
d = load_digits()
xtr, xte, ytr, yte = train_test_split(torch.tensor(d.data / 16).float(), torch.tensor(d.target), random_state=0)
model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, 10))
opt = torch.optim.Adam(model.parameters(), lr=1e-3)
for epoch in range(30):
    model.train()
    for x, y in DataLoader(TensorDataset(xtr, ytr), batch_size=64, shuffle=True):
        loss = nn.functional.cross_entropy(model(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
    model.eval()
    with torch.no_grad():
        acc = (model(xte).argmax(1) == yte).float().mean().item()
    if epoch % 5 == 4:
        print(f"epoch {epoch + 1} test accuracy {acc:.3f}")
