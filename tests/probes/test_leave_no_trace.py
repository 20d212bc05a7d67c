"""Measuring a model changes nothing of it, nor of the run it is measured in."""

import importlib
import math
import pkgutil
import random

import numpy as np
import torch
import torch.nn.functional as F
from linear import ROWS
from torch import nn

import whyvae.probes
from whyvae.probe import Bench, CannotMeasure, Probe
from whyvae.probes.amortisation import Amortisation
from whyvae.watch.direct import watch_model
from whyvae.watch.subject import Subject
from whyvae.watch.watcher import Watcher

for module in pkgutil.iter_modules(whyvae.probes.__path__):
    importlib.import_module(f"whyvae.probes.{module.name}")
PROBES = sorted(
    (p for p in Probe.__subclasses__() if p.__module__.startswith("whyvae.")),
    key=lambda p: p.__name__,
)
# no picture is shown here, and the decoder's batch norm is in evaluation mode
NOTHING_TO_MEASURE = {"Showing", "Undone", "CopiedStatistics"}
FEATURES = 6


class Model(nn.Module):
    """Running statistics, dropout, a buffer of its own, an in-place activation."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Linear(FEATURES, 16), nn.BatchNorm1d(16), nn.ReLU(inplace=True), nn.Dropout(0.2),
            nn.Linear(16, 6),
        )  # fmt: skip
        self.decoder = nn.Sequential(nn.Linear(3, 16), nn.BatchNorm1d(16), nn.Tanh(), nn.Linear(16, FEATURES))
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        mu, logvar = self.encoder(x).chunk(2, 1)
        z = mu + torch.randn_like(mu) * torch.exp(0.5 * logvar)
        kl = -0.5 * (1 + logvar - mu**2 - logvar.exp()).sum()
        return (F.mse_loss(2 * self.decoder(z), x, reduction="sum") / 0.2 + kl) / len(x)


def rows(n=ROWS // 2):
    return torch.randn(n, FEATURES, generator=torch.Generator().manual_seed(0)).cumsum(1)


def run(model, optimizer, x, steps):
    for _ in range(steps):
        batch = x[torch.randint(len(x), (32,))]
        optimizer.zero_grad()
        model(batch).backward()
        optimizer.step()


def prepared(steps=4):
    """(subject of a short run, what it was made with)."""
    torch.manual_seed(0)
    model, x = Model(), rows()
    model.decoder[1].eval()  # modes may be mixed
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    with Watcher() as watcher:
        run(model, optimizer, x, steps)
        with torch.no_grad():
            model(x[:64])
            model.decoder(torch.randn(8, 3))
    return Subject.of(watcher), model, optimizer, x


def state(model, optimizer, x):
    """Everything that a measurement could have touched, bit for bit."""
    numbers = {f"state {k}": v for k, v in model.state_dict().items()}
    numbers |= {f"grad {k}": p.grad for k, p in model.named_parameters()}
    for i, kept in enumerate(optimizer.state.values()):
        numbers |= {f"optimizer {i} {k}": v for k, v in kept.items()}
    numbers |= {"data": x, "torch": torch.get_rng_state()}
    words = {
        "modes": [m.training for m in model.modules()],
        "learning": [p.requires_grad for p in model.parameters()],
        "dtypes": [p.dtype for p in model.parameters()],
        "identity": [(id(p), p.data_ptr(), p._version) for p in model.parameters()],
        "buffers": [(id(b), b.data_ptr(), b._version) for b in model.buffers()],
        "hooks": [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()],
        "lr": [g["lr"] for g in optimizer.param_groups],
        "default": torch.get_default_dtype(),
        "device": torch.get_default_device(),
        "grad": torch.is_grad_enabled(),
        "anomaly": torch.is_anomaly_enabled(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "threads": torch.get_num_threads(),
        "python": random.getstate(),
        "numpy": tuple(map(str, np.random.get_state(legacy=False)["state"].values())),  # noqa: NPY002
    }
    return {k: v if v is None else v.detach().clone() for k, v in numbers.items()}, words


def same(before, after):
    assert before[1] == after[1]
    assert before[0].keys() == after[0].keys()
    for name, value in before[0].items():
        assert value is None or (value.dtype == after[0][name].dtype and torch.equal(value, after[0][name])), name


def measure(bench, probe):
    try:
        return bench.get(probe)
    except CannotMeasure:
        return None


def test_all_probes_are_known():
    assert len(PROBES) >= 15


def test_all_probes_leave_everything_as_it_was():
    subject, *made = prepared(steps=24)
    bench = Bench(subject)
    replayed = {k: v.detach().clone() for k, v in subject.replay.parameters.items()}
    before = state(*made)
    measured = [measure(bench, probe) for probe in PROBES]
    same(before, state(*made))
    assert {p.__name__ for p, m in zip(PROBES, measured, strict=True) if m is None} <= NOTHING_TO_MEASURE
    for index, value in replayed.items():
        assert torch.equal(subject.replay.parameters[index], value)


def test_results_do_not_depend_on_what_was_measured_before():
    """Neither the order of the probes nor the state of the random streams enters a result."""
    results = []
    for order in (PROBES, PROBES[::-1]):
        subject, *_ = prepared()
        torch.manual_seed(len(results))
        random.seed(len(results))
        bench = Bench(subject)
        measured = {probe.__name__: repr(measure(bench, probe)) for probe in order}
        results.append(measured)
    for name, text in results[0].items():
        assert results[1][name] == text, name


def test_training_goes_on_as_if_nothing_had_been_measured():
    ends = []
    for watched in (False, True):
        torch.manual_seed(1)
        model, x = Model(), rows()
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
        if watched:
            with Watcher() as watcher:
                run(model, optimizer, x, 4)
            bench = Bench(Subject.of(watcher))
            for probe in PROBES:
                measure(bench, probe)
        else:
            run(model, optimizer, x, 4)
        run(model, optimizer, x, 4)
        ends.append(state(model, optimizer, x)[0])
    for name, value in ends[0].items():
        assert torch.equal(value, ends[1][name]), name


def test_no_gradient_mode_and_evaluation_mode_are_kept():
    subject, model, *rest = prepared()
    model.eval()
    with torch.no_grad():
        before = state(model, *rest)
        bench = Bench(subject)
        for probe in PROBES:
            measure(bench, probe)
        same(before, state(model, *rest))


def test_examining_a_model_draws_nothing_from_the_streams():
    """`watch_model` runs the user's forward pass: only its running statistics may move."""
    torch.manual_seed(0)
    model, x = Model().eval(), rows()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model.calls.fill_(-1000)
    before = state(model, optimizer, x)
    subject = watch_model(model, x)
    replayed = {k: v.detach().clone() for k, v in subject.replay.parameters.items()}
    bench = Bench(subject)
    for probe in PROBES:
        measure(bench, probe)
    after = state(model, optimizer, x)
    for kept in (before, after):
        kept[0].pop("state calls")
        kept[1].pop("buffers")
    same(before, after)
    assert math.isfinite(bench.get(Amortisation).own_after_training)  # it trained a copy
    for index, value in replayed.items():
        assert torch.equal(subject.replay.parameters[index], value)


def test_a_broken_run_is_left_alone_too():
    subject, model, optimizer, x = prepared()
    with torch.no_grad():
        model.decoder[3].weight.fill_(float("nan"))
    before = state(model, optimizer, x)
    bench = Bench(subject)
    assert any(measure(bench, probe) is None for probe in PROBES)
    after = state(model, optimizer, x)
    for kept in (before, after):
        assert kept[0].pop("state decoder.3.weight").isnan().all()
    same(before, after)
