"""Watching leaves the patient as it was: the same bits with and without it."""

import hashlib
import random
import sys
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from whyvae.watch.replay import Replay
from whyvae.watch.subject import Subject
from whyvae.watch.watcher import Watcher

STEPS = 30
torch.set_num_threads(1)  # tensors this small are not worth the threads' waiting


@pytest.fixture(autouse=True)
def private_streams():
    streams = random.getstate(), np.random.get_state()  # noqa: NPY002 - the stream scripts use
    with torch.random.fork_rng():
        yield
    random.setstate(streams[0])
    np.random.set_state(streams[1])  # noqa: NPY002


class VAE(nn.Module):
    def __init__(self, *, drop=0.0):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(16, 24), nn.ReLU(), nn.Dropout(drop))
        self.head = nn.Linear(24, 6)
        self.decoder = nn.Sequential(nn.Linear(3, 24), nn.ReLU(), nn.Linear(24, 16))

    def forward(self, x):
        mu, logvar = self.head(self.body(x)).chunk(2, 1)
        z = mu + torch.randn_like(mu) * (0.5 * logvar).exp()
        return self.decoder(z), mu, logvar


class Conv(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.2),
            nn.Flatten(),
        )  # fmt: skip
        self.head = nn.Linear(64, 6)
        self.decoder = nn.Sequential(
            nn.Linear(3, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Unflatten(1, (4, 4, 4)),
            nn.Dropout2d(0.1), nn.ConvTranspose2d(4, 1, 3, padding=1), nn.Flatten(),
        )  # fmt: skip

    def forward(self, x):
        mu, logvar = self.head(self.body(x.view(-1, 1, 4, 4))).chunk(2, 1)
        return self.decoder(mu + torch.randn_like(mu) * (0.5 * logvar).exp()), mu, logvar


class Bent(torch.autograd.Function):
    """An activation with a backward of its own, and not that of its forward."""

    @staticmethod
    def forward(ctx, a, slope):
        ctx.slope = slope
        return torch.where(a > 0, a, slope * a)

    @staticmethod
    def backward(ctx, g):
        return 0.5 * g, None


class Bending(nn.Module):
    def forward(self, a):
        return Bent.apply(a, 0.1)


def data():
    return torch.rand(96, 16)


def elbo(x, y, mu, logvar):
    error = F.mse_loss(y, x, reduction="sum")
    return (error - 0.5 * torch.sum(1 + logvar - mu**2 - logvar.exp())) / len(x)


def trained(model, step, optimizers):
    """The trainer most scripts are, with an evaluation now and then; yields what it leaves."""
    x, losses = data(), []
    for at in range(STEPS):
        rows = torch.randperm(len(x))[: 16 + random.randrange(2)]
        losses.append(step(model, x[rows] + 0.01 * float(np.random.rand()), *optimizers))  # noqa: NPY002
        if at % 10 == 9:
            model.eval()
            with torch.no_grad():
                losses.append(elbo(x, *model(x)).item())
                losses.append(model.decoder(torch.randn(8, 3)).sum().item())
            model.train()
    return model, losses


def plain_step(model, x, optimizer):
    optimizer.zero_grad()
    loss = elbo(x, *model(x))
    loss.backward()
    optimizer.step()
    return loss.item()


def plain():
    model = VAE()
    return trained(model, plain_step, [torch.optim.Adam(model.parameters(), 1e-2)])


def convolution_batch_norm_dropout():
    model = Conv()
    return trained(model, plain_step, [torch.optim.AdamW(model.parameters(), 1e-2)])


def shuffled_loader(workers=0):
    model, losses = VAE(drop=0.1), []
    optimizer = torch.optim.SGD(model.parameters(), 1e-2, momentum=0.9)
    loader = DataLoader(TensorDataset(data()), 16, shuffle=True, num_workers=workers)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 4)
    for _ in range(4):
        losses += [plain_step(model, x, optimizer) for (x,) in loader]
        schedule.step()
    return model, losses


def loader_with_workers():
    return shuffled_loader(workers=1)


def two_optimizers():
    def step(model, x, first, second):
        loss = elbo(x, *model(x))
        for optimizer in (first, second):
            optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        first.step()
        second.step()
        return loss.item()

    model = VAE()
    encoder = [*model.body.parameters(), *model.head.parameters()]
    optimizers = torch.optim.Adam(encoder, 1e-2), torch.optim.SGD(model.decoder.parameters(), 1e-2)
    return trained(model, step, optimizers)


def closures():
    def step(model, x, optimizer):
        def closure():
            optimizer.zero_grad()
            loss = elbo(x, *model(x))
            loss.backward()
            return loss

        return optimizer.step(closure).item()

    model = VAE()
    return trained(model, step, [torch.optim.LBFGS(model.parameters(), 0.01, max_iter=4)])


def mixed_precision():
    def step(model, x, optimizer):
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            out = model(x)
        loss = elbo(x, *(t.float() for t in out))
        loss.backward()
        optimizer.step()
        return loss.item()

    model = VAE()
    return trained(model, step, [torch.optim.Adam(model.parameters(), 1e-2)])


def custom_function():
    model = VAE()
    model.decoder[1] = Bending()
    return trained(model, plain_step, [torch.optim.Adam(model.parameters(), 1e-2)])


def compiled():
    torch.compiler.reset()
    model = VAE()
    fast = torch.compile(model, backend="aot_eager")
    return trained(fast, plain_step, [torch.optim.Adam(model.parameters(), 1e-2)])


def accumulated_gradients():
    def step(model, x, optimizer):
        optimizer.zero_grad()
        total = 0.0
        for part in x.chunk(2):
            loss = elbo(part, *model(part)) / 2
            loss.backward()
            total += loss.item()
        optimizer.step()
        return total

    model = VAE()
    return trained(model, step, [torch.optim.Adam(model.parameters(), 1e-2)])


def parameters_by_hand():
    def step(model, x):
        loss = elbo(x, *model(x))
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(model.parameters(), gradients, strict=True):
                parameter -= 1e-2 * gradient
        return loss.item()

    return trained(VAE(), step, [])


def digest(tensors):
    return hashlib.sha256(b"".join(t.detach().numpy().tobytes() for t in tensors)).hexdigest()


def result(train, *, watched):
    random.seed(3)
    np.random.seed(3)  # noqa: NPY002
    torch.manual_seed(3)
    watcher = Watcher(budget=1.0) if watched else None
    if watcher is not None:
        with watcher:
            model, losses = train()
    else:
        model, losses = train()
    left = {
        "losses": losses,
        "parameters": digest(model.parameters()),
        "buffers": digest(model.buffers()),
        "gradients": digest(p.grad for p in model.parameters() if p.grad is not None),
        "torch": digest([torch.get_rng_state()]),
        "numpy": hashlib.sha256(np.random.get_state()[1].tobytes()).hexdigest(),  # noqa: NPY002
        "python": random.getstate(),
        "modes": [m.training for m in model.modules()],
    }
    return left, watcher


@pytest.mark.parametrize(
    "train",
    [
        plain, convolution_batch_norm_dropout, shuffled_loader, loader_with_workers, two_optimizers,
        closures, mixed_precision, accumulated_gradients, parameters_by_hand,
        custom_function,
        pytest.param(compiled, marks=pytest.mark.skipif(sys.platform == "win32", reason="no compiler")),
    ],
    ids=lambda f: f.__name__,
)  # fmt: skip
def test_watching_changes_no_bit(train):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)  # of torch's own compiler
        alone, _ = result(train, watched=False)
        watched, watcher = result(train, watched=True)

    assert alone == watched
    assert watcher.error is None
    assert len(watcher.steps) >= 3
    assert Subject.of(watcher).lineage.posterior == "diagonal Gaussian"


def test_what_is_wrapped_is_put_back():
    before = torch.Tensor.backward, torch.autograd.grad, torch.no_grad.__enter__
    with Watcher():
        assert torch.Tensor.backward is not before[0]
    assert (torch.Tensor.backward, torch.autograd.grad, torch.no_grad.__enter__) == before


def test_examining_changes_no_bit_either():
    model = VAE()
    torch.manual_seed(0)
    with Watcher() as watcher:
        trained(model, plain_step, [torch.optim.Adam(model.parameters(), 1e-2)])
    before = digest(model.parameters()), digest([torch.get_rng_state()]), random.getstate()
    watcher.examine()

    assert (digest(model.parameters()), digest([torch.get_rng_state()]), random.getstate()) == before
    assert all(p.requires_grad for p in model.parameters())
    assert model.training


def test_a_mistake_of_ours_does_not_reach_the_script(monkeypatch):
    monkeypatch.delenv("WHYVAE_DEBUG", raising=False)

    def broken(*_):
        raise ZeroDivisionError

    monkeypatch.setattr(Watcher, "_snapshot", broken)
    _, watcher = result(plain, watched=True)

    assert isinstance(watcher.error, ZeroDivisionError)
    assert watcher.failures == 3
    assert watcher.steps == []


def test_a_function_of_the_users_is_one_op_with_its_own_backward():
    with Watcher() as watcher:
        custom_function()
    tape = Subject.of(watcher).tape
    (op,) = [op for op in tape.ops if op.name == "apply"]
    replay, (loss,) = Replay(tape), tape.roots
    values = replay.run([loss, op.reads[0], op.outs[0]])
    before, after = torch.autograd.grad(values[loss], [values[op.reads[0]], values[op.outs[0]]])

    assert op.grad
    assert torch.equal(before, 0.5 * after)
    assert torch.autograd.Function.apply.__func__.__module__ == "torch.autograd.function"


def test_a_name_given_to_apply_leads_to_the_recorder_of_its_time():
    """`bent = Bent.apply` once, at the top of a script: every recorded step sees the function, and it is put back."""
    with Watcher(budget=100.0) as watcher:
        named = Bent.apply

        class Named(nn.Module):
            def forward(self, a):
                return named(a, 0.1)

        model = VAE()
        model.decoder[1] = Named()
        trained(model, plain_step, [torch.optim.Adam(model.parameters(), 1e-2)])
    assert len(watcher.steps) > 2
    assert all([op.name for op in step.tape.ops].count("apply") == 1 for step in watcher.steps)
    assert torch.autograd.Function.apply.__func__.__module__ == "torch.autograd.function"


def test_gradients_inside_the_step_are_no_training_step():
    model = VAE()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    with Watcher() as watcher:
        for _ in range(5):
            x = data()
            y, mu, logvar = model(x)
            slope = torch.autograd.grad(y.sum(), mu, retain_graph=True)[0]
            optimizer.zero_grad()
            (elbo(x, y, mu, logvar) + 0 * slope.sum()).backward()
            optimizer.step()

    assert watcher.backwards == watcher.count == 5
    assert all(len(step.tape.roots) == 1 for step in watcher.steps)


def test_sparse_gradients_are_watched_too():
    """A bag of words whose embedding has sparse gradients, under its own optimiser."""
    embed, head, out = nn.Embedding(20, 8, sparse=True), nn.Linear(8, 4), nn.Linear(2, 20)
    dense = torch.optim.Adam([*head.parameters(), *out.parameters()])
    sparse = torch.optim.SparseAdam(embed.parameters())
    with Watcher() as watcher:
        for _ in range(5):
            words = torch.randint(0, 20, (16, 5))
            mu, logvar = head(embed(words).mean(1)).chunk(2, 1)
            logits = out(mu + torch.randn_like(mu) * (0.5 * logvar).exp())
            target = F.one_hot(words, 20).amax(1).float()
            loss = F.binary_cross_entropy_with_logits(logits, target, reduction="sum")
            loss = loss - 0.5 * torch.sum(1 + logvar - mu**2 - logvar.exp())
            for optimizer in (dense, sparse):
                optimizer.zero_grad()
            loss.backward()
            for optimizer in (dense, sparse):
                optimizer.step()

    assert watcher.error is None
    assert len(watcher.steps) >= 3
