"""What is seen of a script outside training: when it is looked at, and what is taken for a new sample."""

import functools
import io

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from whyvae.watch.onlooker import Onlooker
from whyvae.watch.subject import Subject
from whyvae.watch.watcher import Watcher

LATENT = 3


class VAE(nn.Module):
    def __init__(self, extra=0):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(8, 16), nn.Tanh())
        self.mu, self.logvar = nn.Linear(16, LATENT), nn.Linear(16, LATENT)
        self.decoder = nn.Sequential(nn.Linear(LATENT + extra, 16), nn.Tanh(), nn.Linear(16, 8))

    def encode(self, x):
        h = self.body(x)
        return self.mu(h), self.logvar(h)

    def forward(self, x):
        mu, logvar = self.encode(x)
        z = mu + torch.randn(mu.shape) * torch.exp(0.5 * logvar)
        return self.decoder(z), mu, logvar


def step(model, x, optimizer):
    y, mu, logvar = model(x)
    kl = -0.5 * torch.sum(1 + logvar - mu**2 - logvar.exp())
    optimizer.zero_grad()
    ((y - x).square().sum() + kl).backward()
    optimizer.step()


def watched(then, steps=20, model=None, batch=lambda x: x, *, subject=False):
    """The decoded of a short training and what `then` does with its model afterwards; `then` is a function of (model, x)."""
    with torch.random.fork_rng(), Watcher() as watcher:
        torch.manual_seed(0)
        model = model or VAE()
        optimizer = torch.optim.Adam(model.parameters(), 1e-2)
        x = torch.randn(32, 8)
        for _ in range(steps):
            step(model, batch(x), optimizer)
        then(model, x)
    assert watcher.error is None
    assert watcher.outside.onlooker.enabled
    seen = Subject.of(watcher)
    return seen if subject else seen.decoded


def bare(model, x):
    model.decoder(torch.randn(5, LATENT))


def without_gradients(model, x):
    with torch.no_grad():
        model.decoder(torch.full((5, LATENT), 0.5))


def gradients_switched_off(model, x):
    torch.set_grad_enabled(False)
    try:
        model.decoder(torch.full((5, LATENT), 0.5))
    finally:
        torch.set_grad_enabled(True)


def in_evaluation_mode(model, x):
    model.eval()
    model.decoder(torch.full((5, LATENT), 0.5))


def after_a_loader(model, x):
    list(DataLoader(TensorDataset(x), 16))
    model.decoder(torch.full((5, LATENT), 0.5))


def drawn_by_numpy(model, x):
    model.decoder(torch.tensor(np.random.randn(5, LATENT), dtype=torch.float32))  # noqa: NPY002 - what scripts call


def from_a_distribution(model, x):
    model.decoder(torch.distributions.Normal(0.0, 1.0).sample((5, LATENT)))


def scaled_as_encodings_are(model, x):
    """As a second stage does, that was fitted to encodings in units of their spread."""
    with torch.no_grad():
        spread = model.encode(x)[0].std(0)
        model.decoder(torch.tensor(np.random.randn(5, LATENT), dtype=torch.float32) * spread)  # noqa: NPY002


def moved_as_encodings_are(model, x):
    with torch.no_grad():
        mu = model.encode(x)[0]
        model.decoder(mu.mean(dim=0) + torch.randn(5, LATENT) * mu.std(dim=0))


@pytest.mark.parametrize("sample", [
    bare, without_gradients, gradients_switched_off, in_evaluation_mode, after_a_loader, drawn_by_numpy, from_a_distribution,
    scaled_as_encodings_are, moved_as_encodings_are,
])  # fmt: skip
def test_new_latents_are_seen_however_the_script_samples(sample):
    (call,) = watched(sample)
    assert call.z.shape == (5, LATENT)
    assert call.place.file == __file__


def reconstructed(model, x):
    with torch.no_grad():
        model(x)


def interpolated(model, x):
    model.eval()
    a, b = model.encode(x)[0][:2]
    model.decoder(torch.stack([a + t * (b - a) for t in torch.linspace(0, 1, 5)]))


def noise_added_to_the_input(model, x):
    model(x + 0.1 * torch.randn(32, 8))


def mean_of_a_class(model, x):
    with torch.no_grad():
        mu = model.encode(x)[0]
        model.decoder(mu[:10].mean(0, keepdim=True) - mu[10:].mean(0, keepdim=True))


def standardised(model, x):
    with torch.no_grad():
        mu = model.encode(x)[0]
        model.decoder((mu - mu.mean(0)) / mu.std(0))


@pytest.mark.parametrize("use", [reconstructed, interpolated, noise_added_to_the_input, mean_of_a_class, standardised])
def test_what_was_encoded_is_no_sample(use):
    assert watched(use) == []


class NumpyNoise(VAE):
    def forward(self, x):
        mu, logvar = self.encode(x)
        eps = torch.from_numpy(np.random.randn(*mu.shape).astype("float32"))  # noqa: NPY002 - what scripts call
        return self.decoder(mu + eps * torch.exp(0.5 * logvar)), mu, logvar


@pytest.mark.parametrize("how", [
    {"batch": lambda x: x + 0.1 * torch.randn(32, 8)}, {"batch": lambda x: torch.randn(32, 8)}, {"model": NumpyNoise()},
])  # fmt: skip
def test_decoders_are_known_whatever_else_is_drawn_in_training(how):
    assert [c.z.shape for c in watched(bare, **how)] == [(5, LATENT)]
    assert watched(reconstructed, **how) == []


def test_clipping_at_every_step_is_soon_left_alone_and_sampling_is_not():
    opened = []

    def clipped(model, x):
        optimizer = torch.optim.Adam(model.parameters(), 1e-2)
        begin = Onlooker.begin
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Onlooker, "begin", lambda self, step: (opened.append(step), begin(self, step)))
            for _ in range(20):
                y, mu, logvar = model(x)
                ((y - x).square().sum() + (mu**2 + logvar.exp() - logvar).sum()).backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
            model(x)[0].sum().backward()  # the run ends between a backward and a step
        without_gradients(model, x)

    assert len(watched(clipped)) == 1
    assert len(opened) == 3


def test_training_itself_is_no_sample():
    assert watched(lambda model, x: None) == []


def test_a_place_that_samples_is_watched_each_time_and_kept_thinned():
    def epochs(model, x):
        optimizer = torch.optim.Adam(model.parameters(), 1e-2)
        for _ in range(26):
            bare(model, x)
            step(model, x, optimizer)

    calls = watched(epochs)
    assert [c.step for c in calls] == [20, 44, 45]  # the new optimiser goes on where the first ended


def test_a_copy_of_the_decoder_is_recognised():
    def averaged(model, x):
        copy = VAE()
        copy.load_state_dict(model.state_dict())
        copy.decoder(torch.randn(5, LATENT))

    assert len(watched(averaged)) == 1


def test_what_leaves_torch_is_kept_where_it_is_saved():
    def saved(model, x):
        with torch.no_grad():
            out = model.decoder(torch.randn(5, LATENT))
        array = (out * 255).byte().numpy()
        np.save(io.BytesIO(), array)

    subject = watched(saved, subject=True)
    (shown,) = subject.shown
    (call,) = subject.decoded
    assert shown.tape is call.tape
    assert [op.name for op in call.tape.ops][-2:] == ["mul", "byte"]
    assert shown.left[0].slot == call.tape.ops[-1].outs[0]
    assert np.array_equal(shown.value, shown.left[0].value)
    assert shown.place.file == __file__


@pytest.mark.parametrize(
    "compiler",
    [lambda: torch.jit.script, lambda: functools.partial(torch.compile, backend="eager")],
    ids=["jit", "compile"],
)
def test_compilers_find_torch_as_it_was(compiler):
    original, seen = torch.randn, []

    def compiled(model, x):
        seen.append(torch.randn)
        seen.append(compiler()(noise_of))
        seen.append(torch.randn)

    watched(compiled)
    noticing, function, during = seen
    assert noticing is not original
    assert during is original
    assert function(3).shape == (3,)


def test_names_imported_from_torch_can_still_be_compiled():
    def compiled(model, x):
        globals()["imported"] = (
            torch.randn
        )  # as `from torch import randn` does in a module imported after the first step
        assert torch.jit.script(noise_by_name)(3).shape == (3,)

    watched(compiled)


def test_a_class_can_be_scripted_that_turns_gradients_off_and_names_what_stands_around_it():
    def compiled(model, x):
        def named(x: torch.Tensor) -> torch.Tensor:
            return x + 1

        @torch.jit.script
        class Step:
            def __init__(self) -> None:
                self.rate = 1.0

            def step(self, x: torch.Tensor) -> torch.Tensor:
                with torch.no_grad():
                    return named(x)

        assert Step().step(torch.zeros(2)).tolist() == [1, 1]
        assert "leaving" in torch.no_grad.__exit__.__qualname__  # noticed again

    watched(compiled)
    assert "leaving" not in torch.no_grad.__exit__.__qualname__


def test_functions_compiled_before_stay_whole():
    before = torch.compile(noise_of, backend="eager", fullgraph=True)

    def sampled(model, x):
        model.decoder(before(LATENT)[None])

    watched(sampled)


def noise_of(n: int) -> torch.Tensor:
    return torch.randn(n)


imported = torch.randn


def noise_by_name(n: int) -> torch.Tensor:
    return imported(n)


def test_what_was_wrapped_is_put_back():
    names = [(torch, "randn"), (torch, "compile"), (np.random, "randn"), (nn.Module, "train"), (torch.no_grad, "__enter__"),
             (torch.set_grad_enabled, "__init__")]  # fmt: skip
    before = [getattr(owner, name) for owner, name in names]
    watched(bare)
    assert [getattr(owner, name) for owner, name in names] == before
