"""Models of other people, seen without an adapter: mu, sigma, z, output, target, s, or what it is instead.

The packages are no dependencies: where they are absent, their tests are skipped, and equivalents written in our own
words stand in for the short ones.
"""

import warnings
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from steps import Audited
from torch import nn

from whyvae.audit.cut import posterior
from whyvae.audit.likelihood import audit_likelihood
from whyvae.audit.regulariser import audit_regulariser
from whyvae.probe import Bench
from whyvae.probes.facts import described
from whyvae.probes.objective import Objective
from whyvae.watch.lineage import find
from whyvae.watch.recorder import Recorder
from whyvae.watch.replay import Replay

B, SIDE, K = 12, 8, 6


@pytest.fixture
def x():
    return torch.rand(B, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


class Seen:
    """One step, recorded: what was found beside what the model itself says, by role."""

    def __init__(self, step):
        recorder = Recorder()
        with recorder:
            loss, own = step()
        recorder.tape.roots.append(recorder.slot_of(loss))
        slots = {role: recorder.slot_of(t) for role, t in own.items()}
        self.storage = {role: recorder.tape.slots[s].storage for role, s in slots.items()}
        self.own = {role: t.detach().double() for role, t in own.items()}
        self.lineage = lineage = find(recorder.finished())
        self.replay = Replay(lineage.tape)
        self.audited = Audited(
            lineage.tape, lineage, self.replay, audit_likelihood(lineage, self.replay),
            audit_regulariser(lineage, self.replay),
        )  # fmt: skip
        self.bench = Bench(self.audited.subject())

    @property
    def objective(self):
        return self.bench.get(Objective)

    @property
    def facts(self):
        return described(self.bench.get)

    def heads_agree(self):
        lineage, replay = self.lineage, self.replay
        heads = [v.detach().requires_grad_() for v in replay.run(lineage.heads).values()]
        mu, sigma = posterior(lineage, replay, heads)
        for name, value in (("mu", mu), ("sigma", sigma.abs())):
            own = self.own[name]
            assert torch.allclose(value.detach().reshape(own.shape), own, atol=1e-5), name
        return True

    def is_same(self, role, slot):
        """Is `slot` the tensor the model calls `role`, or a view of it?"""
        return self.lineage.tape.slots[slot].storage == self.storage[role]

    def roles_agree(self):
        lineage = self.lineage
        found = {"z": lineage.z, "output": lineage.output, "target": lineage.target}
        wrong = [role for role, slot in found.items() if not self.is_same(role, slot)]
        assert not wrong
        assert self.is_same("target", lineage.data)
        return self.heads_agree()


# ------------------------------------------------------------------ written here
class Dense(nn.Module):
    """The MLP of PyTorch's own example: ReLU, two heads, sigmoid output."""

    def __init__(self):
        super().__init__()
        self.fc1, self.fc21, self.fc22 = nn.Linear(64, 40), nn.Linear(40, K), nn.Linear(40, K)
        self.fc3, self.fc4 = nn.Linear(K, 40), nn.Linear(40, 64)

    def encode(self, x):
        h = F.relu(self.fc1(x))
        return self.fc21(h), self.fc22(h)

    def decode(self, z):
        return torch.sigmoid(self.fc4(F.relu(self.fc3(z))))


def kl(mu, logvar):
    return -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())


def test_the_example_of_pytorch(x):
    torch.manual_seed(0)
    model = Dense()

    def step():
        mu, logvar = model.encode(x.view(-1, 64))
        sigma = torch.exp(0.5 * logvar)
        z = mu + torch.randn_like(sigma) * sigma
        y = model.decode(z)
        loss = F.binary_cross_entropy(y, x.view(-1, 64), reduction="sum") + kl(mu, logvar)
        return loss, {"mu": mu, "sigma": sigma, "z": z, "output": y, "target": x}

    seen = Seen(step)

    assert seen.roles_agree()
    assert seen.lineage.posterior == "diagonal Gaussian"
    assert seen.lineage.notes == []
    assert seen.objective.family == "bernoulli"
    assert seen.objective.noise_variance == pytest.approx(1)


class Spread:
    """A diagonal Gaussian over a spatial code, from one tensor of moments, its log-variance clamped."""

    def __init__(self, moments):
        self.mean, self.logvar = torch.chunk(moments, 2, dim=1)
        self.logvar = torch.clamp(self.logvar, -30.0, 20.0)
        self.std = torch.exp(0.5 * self.logvar)
        self.var = torch.exp(self.logvar)

    def sample(self, generator=None):
        noise = torch.randn(self.mean.shape, generator=generator, dtype=self.mean.dtype)
        return self.mean + self.std * noise

    def kl(self):
        return 0.5 * torch.sum(self.mean**2 + self.var - 1.0 - self.logvar, dim=[1, 2, 3])


class Latent(nn.Module):
    """A convolutional autoencoder as latent diffusion uses it: 4 channels, 1x1 convolutions beside the code."""

    def __init__(self):
        super().__init__()
        self.down = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1), nn.SiLU(),
            nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.GroupNorm(4, 16), nn.SiLU(),
            nn.Conv2d(16, 8, 3, padding=1),
        )  # fmt: skip
        self.quant_conv, self.post_quant_conv = nn.Conv2d(8, 8, 1), nn.Conv2d(4, 4, 1)
        self.up = nn.Sequential(
            nn.Conv2d(4, 16, 3, padding=1), nn.SiLU(), nn.Upsample(scale_factor=2),
            nn.Conv2d(16, 1, 3, padding=1),
        )  # fmt: skip

    def encode(self, x):
        return Spread(self.quant_conv(self.down(x)))

    def decode(self, z):
        return self.up(self.post_quant_conv(z))


@pytest.mark.parametrize("weight", [1e-6, 1.0])
def test_a_spatial_code_with_one_head(x, weight):
    torch.manual_seed(0)
    model = Latent()

    def step():
        spread = model.encode(x)
        z = spread.sample()
        y = model.decode(z)
        loss = F.mse_loss(y, x) + weight * spread.kl().mean()
        own = {"mu": spread.mean, "sigma": spread.std, "z": z, "output": y, "target": x}
        return loss, own

    seen = Seen(step)

    assert seen.roles_agree()
    assert seen.lineage.latents == 4 * 4 * 4
    assert seen.objective.family == "gaussian"
    # mean over D = 64 numbers is 2 s / D nats: s = w D / 2
    assert seen.objective.noise_variance == pytest.approx(weight * 64 / 2)


def test_an_encoder_run_again_for_the_kl_gives_no_second_posterior(x):
    torch.manual_seed(0)
    model = Latent()

    def step():
        first = model.encode(x)
        z = first.sample()
        y = model.decode(z)
        again = model.encode(x)
        loss = (y - x).pow(2).sum((1, 2, 3)).mean() / 0.1 + again.kl().mean()
        own = {"mu": first.mean, "sigma": first.std, "z": z, "output": y, "target": x}
        return loss, own

    seen = Seen(step)

    assert seen.roles_agree()
    assert seen.objective.regulariser.form == "exact"
    assert seen.objective.noise_variance == pytest.approx(0.05)


def test_an_encoder_with_batch_norm_run_again(x):
    torch.manual_seed(0)
    body = nn.Sequential(nn.Linear(64, 24), nn.BatchNorm1d(24), nn.ReLU(), nn.Linear(24, 2 * K))
    decoder = nn.Linear(K, 64)

    def step():
        flat = x.view(-1, 64)
        mu, logvar = body(flat).chunk(2, 1)
        z = mu + torch.randn_like(mu) * (0.5 * logvar).exp()
        loss = F.mse_loss(decoder(z), flat, reduction="sum") + kl(*body(flat).chunk(2, 1))
        return loss, {"mu": mu}

    assert Seen(step).objective.noise_variance == pytest.approx(0.5)


def test_dropout_between_two_runs_is_two_posteriors(x):
    body = nn.Sequential(nn.Linear(64, 24), nn.Dropout(0.5), nn.Linear(24, 2 * K))
    recorder = Recorder()
    with recorder:
        loss = body(x.view(-1, 64)).sum() + body(x.view(-1, 64)).sum()
    recorder.tape.roots.append(recorder.slot_of(loss))

    assert [op.name for op in recorder.finished().ops].count("dropout") == 2


def test_importance_weights_written_by_hand(x):
    """Self-normalised weights that are not differentiated: IWAE without a log-sum-exp."""
    torch.manual_seed(0)
    model, draws = Dense(), 5

    def step():
        flat = x.view(-1, 64)
        mu, logvar = (t.unsqueeze(1).repeat(1, draws, 1) for t in model.encode(flat))
        z = mu + torch.randn_like(mu) * (0.5 * logvar).exp()
        y = model.decode(z)
        target = flat.unsqueeze(1).expand(-1, draws, -1)
        error = F.binary_cross_entropy(y, target, reduction="none").sum(-1)
        log_q = -0.5 * (logvar + (z - mu) ** 2 / logvar.exp()).sum(-1)
        log_w = -0.5 * z.pow(2).sum(-1) - log_q - error
        weights = (log_w - log_w.max(1, keepdim=True)[0]).exp()
        weights = (weights / weights.sum(1, keepdim=True)).detach()
        return -(weights * log_w).sum(1).mean(), {"z": z, "mu": mu}

    seen = Seen(step)

    assert seen.lineage.latents == K
    assert seen.objective.family == "bernoulli"
    assert seen.objective.noise_variance == pytest.approx(1)


def test_a_sample_moved_by_gradients_is_named(x):
    """Leapfrog steps between the draw and the decoder: the posterior is no Gaussian any more."""
    torch.manual_seed(0)
    model = Dense()
    flat = x.view(-1, 64)

    def energy(z):
        return F.binary_cross_entropy(model.decode(z), flat, reduction="sum") + z.pow(2).sum() / 2

    def step():
        mu, logvar = model.encode(flat)
        z = z0 = mu + torch.randn_like(mu) * (0.5 * logvar).exp()
        rho = torch.randn_like(z)
        for _ in range(2):
            rho = rho - 0.01 * torch.autograd.grad(energy(z), z)[0]
            z = z + 0.01 * rho
        loss = F.binary_cross_entropy(model.decode(z), flat, reduction="sum") + kl(mu, logvar)
        return loss + rho.pow(2).sum() / 2, {"z": z0}

    seen = Seen(step)

    assert seen.lineage.posterior == "moved by gradients"
    assert "Hamiltonian" in " ".join(seen.lineage.notes)
    assert "noise_variance" not in seen.facts[0]


# ------------------------------------------------------------------ pythae
def pythae_model(name, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        models = pytest.importorskip("pythae.models")
        torch.manual_seed(0)
        config = getattr(models, f"{name}Config")
        size = {"input_dim": (1, SIDE, SIDE), "latent_dim": K}
        return getattr(models, name)(config(**size, **options))


def pythae_step(model, x):
    own = {}

    def encoded(_, __, out):
        own.setdefault("mu", out.embedding)
        own.setdefault("logvar", out.log_covariance)

    def decoded(_, inputs, out):
        own.setdefault("z", inputs[0])
        own.setdefault("output", out.reconstruction)

    def step():
        hooks = [
            model.encoder.register_forward_hook(encoded),
            model.decoder.register_forward_hook(decoded),
        ]
        loss = model({"data": x}, epoch=1, dataset_size=1000).loss
        for hook in hooks:
            hook.remove()
        with torch.no_grad():
            own["sigma"] = (0.5 * own.pop("logvar")).exp()
        return loss, {**own, "target": x}

    return step


@pytest.mark.parametrize(
    ("name", "options", "family", "s"),
    [
        ("VAE", {"reconstruction_loss": "mse"}, "gaussian", 1),
        ("VAE", {"reconstruction_loss": "bce"}, "bernoulli", 1),
        ("BetaVAE", {"reconstruction_loss": "bce", "beta": 4.0}, "bernoulli", 4),
        ("BetaVAE", {"reconstruction_loss": "mse", "beta": 0.1}, "gaussian", 0.1),
    ],
)
def test_pythae_with_a_gaussian_posterior(x, name, options, family, s):
    seen = Seen(pythae_step(pythae_model(name, **options), x))

    assert seen.roles_agree()
    assert seen.lineage.latents == K
    assert seen.objective.auditable
    assert seen.objective.family == family
    assert seen.objective.noise_variance == pytest.approx(s)


def test_pythae_vamp_has_a_mixture_for_a_prior(x):
    model = pythae_model("VAMP", reconstruction_loss="bce", number_components=7)
    seen = Seen(pythae_step(model, x))

    assert seen.roles_agree()
    assert seen.objective.regulariser.form == "prior density"
    assert seen.objective.noise_variance == pytest.approx(1)


@pytest.mark.parametrize("loss", ["mse", "bce"])
def test_pythae_iwae_weighs_its_samples(x, loss):
    model = pythae_model("IWAE", reconstruction_loss=loss, number_samples=5)
    seen = Seen(pythae_step(model, x))

    assert seen.is_same("target", seen.lineage.data)
    assert seen.lineage.latents == K
    assert seen.objective.auditable
    assert seen.objective.noise_variance == pytest.approx(1)


def test_pythae_hvae_is_no_diagonal_gaussian(x):
    seen = Seen(pythae_step(pythae_model("HVAE", reconstruction_loss="mse", n_lf=2), x))

    assert seen.lineage.posterior == "moved by gradients"
    assert not seen.objective.auditable


# ------------------------------------------------------------------ diffusers
@pytest.fixture(scope="module")
def autoencoder_kl():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("diffusers")
        from diffusers import AutoencoderKL

        torch.manual_seed(0)
        return AutoencoderKL(
            in_channels=1, out_channels=1, down_block_types=("DownEncoderBlock2D",) * 2, sample_size=SIDE,
            up_block_types=("UpDecoderBlock2D",) * 2, block_out_channels=(8, 16), norm_num_groups=4,
        )  # fmt: skip


def diffusers_own(spread, z, y, x):
    return {"mu": spread.mean, "sigma": spread.std, "z": z, "output": y, "target": x}


def test_diffusers_encode_sample_decode(x, autoencoder_kl):
    def step():
        spread = autoencoder_kl.encode(x).latent_dist
        z = spread.sample()
        y = autoencoder_kl.decode(z).sample
        return F.mse_loss(y, x) + 1e-6 * spread.kl().mean(), diffusers_own(spread, z, y, x)

    seen = Seen(step)

    assert seen.roles_agree()
    assert seen.lineage.posterior == "diagonal Gaussian"
    assert seen.lineage.latents == 64
    assert seen.objective.noise_variance == pytest.approx(1e-6 * 64 / 2)


def test_diffusers_forward_and_a_second_encoding(x, autoencoder_kl):
    def step():
        y = autoencoder_kl(x, sample_posterior=True).sample
        spread = autoencoder_kl.encode(x).latent_dist
        loss = (y - x).pow(2).sum((1, 2, 3)).mean() / 0.1 + spread.kl().mean()
        return loss, {"mu": spread.mean, "sigma": spread.std, "output": y, "target": x}

    seen = Seen(step)

    assert seen.heads_agree()
    assert seen.is_same("output", seen.lineage.output)
    assert seen.objective.noise_variance == pytest.approx(0.05)


def test_the_stand_in_spreads_as_diffusers_does():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        vae = pytest.importorskip("diffusers.models.autoencoders.vae")
    moments = torch.randn(3, 8, 2, 2, generator=torch.Generator().manual_seed(2))
    theirs, ours = vae.DiagonalGaussianDistribution(moments), Spread(moments)

    assert torch.equal(theirs.kl(), ours.kl())
    drawn = SimpleNamespace(theirs=torch.Generator().manual_seed(3), ours=torch.Generator().manual_seed(3))  # fmt: skip
    assert torch.equal(theirs.sample(drawn.theirs), ours.sample(drawn.ours))
