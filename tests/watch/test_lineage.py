"""What is what on a tape, found by what the tensors do."""

import numpy as np
import pytest
import torch
import torch.distributions as td
import torch.nn.functional as F
from steps import VAE, B, Bag, D, d, kl_sum, record, reparameterise, sse
from torch import nn

from whyvae.audit.cut import cut, gradient, posterior
from whyvae.watch.dependencies import Dependencies
from whyvae.watch.lineage import NoVAE, find, find_deterministic
from whyvae.watch.recorder import Recorder
from whyvae.watch.replay import Replay

SEEN = {}


def see(**tensors):
    """The step under test shows the tensors it made, by role."""
    SEEN.update(tensors)


def found(step, *data):
    """(lineage, slot of each tensor seen)."""
    SEEN.clear()
    recorder = Recorder()
    with recorder:
        loss = step(*data)
    recorder.tape.roots.append(recorder.slot_of(loss))
    slots = {role: recorder.slot_of(t) for role, t in SEEN.items()}
    return find(recorder.finished()), slots


@pytest.fixture
def m():
    torch.manual_seed(0)
    return VAE()


@pytest.fixture
def x():
    return torch.rand(B, D, generator=torch.Generator().manual_seed(1))


def test_roles_of_a_plain_vae(m, x):
    def step(x):
        head = m.head(m.body(x))
        mu, lv = head.chunk(2, 1)
        eps = torch.randn_like(mu)
        z = mu + eps * (lv / 2).exp()
        y = m.decoder(z)
        see(head=head, eps=eps, z=z, output=y, target=x, data=x)
        return sse(y, x) + kl_sum(mu, lv)

    lineage, slot = found(step, x)

    assert lineage.posterior == "diagonal Gaussian"
    assert lineage.heads == (slot["head"],)
    assert (lineage.eps, lineage.z, lineage.data) == (slot["eps"], slot["z"], slot["data"])
    assert (lineage.output, lineage.target) == (slot["output"], slot["target"])
    assert lineage.tape.ops[lineage.noise_op].name == "randn_like"
    assert lineage.latents == d
    assert lineage.notes == []


def test_places_of_a_plain_vae(m, x):
    def step(x):
        mu, lv = m.enc(x)
        z = reparameterise(mu, lv)
        return sse(m.decoder(z), x) + kl_sum(mu, lv)

    lineage, _ = found(step, x)

    assert lineage.meeting.place.line == sse.__code__.co_firstlineno + 1
    assert lineage.tape.ops[lineage.noise_op].place.line == reparameterise.__code__.co_firstlineno + 1


DRAWS = {
    "in one line": lambda mu, s: mu + torch.randn_like(mu) * s,
    "noise first": lambda mu, s: torch.randn_like(mu) * s + mu,
    "subtracted": lambda mu, s: mu - s * torch.randn_like(mu),
    "addcmul": lambda mu, s: torch.addcmul(mu, s, torch.randn_like(s)),
    "lerp": lambda mu, s: torch.lerp(mu, mu + s, torch.randn_like(s)),
    "in place": lambda mu, s: torch.randn_like(mu).mul_(s).add_(mu),
    "normal_": lambda mu, s: mu + torch.empty(B, d).normal_() * s,
    "rsample": lambda mu, s: td.Normal(mu, s).rsample(),
    "independent": lambda mu, s: td.Independent(td.Normal(mu, s), 1).rsample(),
    "reshaped": lambda mu, s: (mu.reshape(-1) + torch.randn(B * d) * s.reshape(-1)).view(B, d),
    "einsum": lambda mu, s: mu + torch.einsum("bi,bi->bi", torch.randn(B, d), s),
    "divided": lambda mu, s: mu + torch.randn(B, d) / s.reciprocal(),
    "scaled twice": lambda mu, s: mu + (2 * torch.randn(B, d)) * (s / 2),
    "numpy": lambda mu, s: mu + torch.from_numpy(np.random.default_rng(0).standard_normal((B, d))).float() * s,
    "clamped": lambda mu, s: (mu + torch.randn(B, d) * s).clamp(-50, 50),
}


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_mu_and_sigma_are_found_however_z_is_drawn(m, x, draw):
    seen = {}

    def step(x):
        mu, lv = m.enc(x)
        sigma = (lv / 2).exp()
        seen.update(mu=mu, sigma=sigma)
        return sse(m.decoder(draw(mu, sigma)), x) + kl_sum(mu, lv)

    lineage, _ = found(step, x)
    replay = Replay(lineage.tape)
    heads = [replay.run(lineage.heads)[h].detach().requires_grad_() for h in lineage.heads]
    mu, sigma = posterior(lineage, replay, heads)

    assert lineage.posterior == "diagonal Gaussian"
    mu, sigma = mu.detach().view(B, d), sigma.detach().abs().view(B, d)
    assert torch.allclose(mu, seen["mu"].detach().double(), atol=1e-6)
    assert torch.allclose(sigma, seen["sigma"].detach().double(), atol=1e-6)


def test_a_sigma_that_has_come_to_nothing_hides_neither_head(m, x):
    """Beside such a mean the noise is below rounding; what is left of it must not be taken for the latent."""
    with torch.no_grad():
        m.head.bias[:d], m.head.bias[d:] = 5.0, -80.0

    def step(x):
        mu, lv = m.enc(x)
        z = mu + torch.randn_like(mu) * (lv / 2).exp()
        see(z=z)
        return sse(m.decoder(z), x) + kl_sum(mu, lv)

    lineage, slot = found(step, x)

    assert lineage.z == slot["z"]
    assert lineage.posterior == "diagonal Gaussian"


def test_the_cut_separates_kl_and_reconstruction(m, x):
    def step(x):
        y, mu, lv = m(x)
        return 3 * sse(y, x) + 7 * kl_sum(mu, lv)

    lineage, _ = found(step, x)
    at = cut(lineage, Replay(lineage.tape))
    mu, sigma = at.mu, at.sigma
    kl = (0.5 * (mu**2 + sigma**2) - sigma.log()).sum()
    output = m.double().decoder(at.z)

    assert torch.allclose(gradient(at.loss, at.heads), 7 * gradient(kl, at.heads), atol=1e-10)
    assert torch.allclose(gradient(at.loss, [at.z]), 3 * gradient(sse(output, x.double()), [at.z]))


def test_noise_drawn_into_new_memory_is_drawn_again(m, x):
    def step(x):
        mu, lv = m.head(m.body(x)).chunk(2, 1)
        eps = torch.empty(mu.shape).normal_()
        z = mu + eps * (lv / 2).exp()
        y = m.decoder(z)
        see(z=z)
        return sse(y, x) + kl_sum(mu, lv)

    lineage, _ = found(step, x)
    one, other = (Replay(lineage.tape).run([lineage.z], seed=seed)[lineage.z] for seed in (1, 2))
    assert lineage.posterior == "diagonal Gaussian"
    assert bool((one != other).all())


def test_noise_on_the_input_is_not_the_latent(m, x):
    def step(x):
        eps = torch.randn_like(x)
        y, mu, lv = m(x + 0.1 * eps)
        see(wrong=eps)
        return sse(y, x) + kl_sum(mu, lv)

    lineage, slot = found(step, x)
    assert lineage.eps != slot["wrong"]
    assert lineage.tape.slots[lineage.z].shape == (B, d)


def test_noise_on_hidden_units_is_not_the_latent(m, x):
    def step(x):
        h = m.body(x)
        mu, lv = m.head(h * (1 + torch.randn_like(h))).chunk(2, 1)
        z = reparameterise(mu, lv)
        see(z=z)
        return sse(m.decoder(z), x) + kl_sum(mu, lv)

    lineage, slot = found(step, x)
    assert lineage.z == slot["z"]
    assert lineage.posterior == "diagonal Gaussian"


def test_a_sample_that_only_a_print_uses_is_no_latent(m, x):
    def step(x):
        m.decoder(torch.randn(4, d)).mean()
        y, mu, lv = m(x)
        see(output=y)
        return sse(y, x) + kl_sum(mu, lv)

    lineage, slot = found(step, x)
    assert lineage.output == slot["output"]


def test_shapes_do_not_make_a_dependence(m, x):
    def step(x):
        mu, lv = m.enc(x)
        scaled = torch.randn_like(mu) * torch.ones_like(mu)
        see(mu=mu, scaled=scaled)
        return sse(m.decoder(mu + scaled * (lv / 2).exp()), x) + kl_sum(mu, lv)

    lineage, slot = found(step, x)
    above = Dependencies(lineage.tape).ancestors([slot["scaled"]])
    assert slot["mu"] not in above
    assert lineage.z != slot["scaled"]


def test_data_is_the_batch_not_what_was_made_of_it(m, x):
    def step(x):
        y, mu, lv = m((x.view(B, D) - 0.5).div(0.5))
        see(data=x)
        return sse(y, x) + kl_sum(mu, lv)

    lineage, slot = found(step, x)
    assert lineage.data == slot["data"]


def test_data_of_a_recurrent_encoder_is_not_its_first_state():
    torch.manual_seed(0)
    embed, gru, head, out = (
        nn.Embedding(7, 8),
        nn.GRU(8, 32, batch_first=True),
        nn.Linear(32, 2 * d),
        nn.Linear(d, 35),
    )
    tokens = torch.randint(0, 7, (B, 5))

    def step(x):
        mu, lv = head(gru(embed(x))[1][-1]).chunk(2, 1)
        logits = out(reparameterise(mu, lv)).view(B, 7, 5)
        see(data=x)
        return F.cross_entropy(logits, x, reduction="sum") + kl_sum(mu, lv)

    lineage, slot = found(step, tokens)
    assert lineage.data == slot["data"]


def test_data_of_a_recurrent_encoder_is_not_a_state_that_is_carried_along():
    """Of more numbers than the data: the last state of the batch before."""
    torch.manual_seed(0)
    embed, lstm, head, out = (
        nn.Embedding(7, 8),
        nn.LSTM(8, 64, batch_first=True),
        nn.Linear(64, 2 * d),
        nn.Linear(d, 35),
    )
    tokens, state = torch.randint(0, 7, (B, 5)), (torch.randn(1, B, 64), torch.randn(1, B, 64))

    def step(x):
        packed = nn.utils.rnn.pack_padded_sequence(embed(x), torch.full((B,), 5), batch_first=True)
        mu, lv = head(lstm(packed, state)[1][0][-1]).chunk(2, 1)
        logits = out(reparameterise(mu, lv)).view(B, 7, 5)
        see(data=x)
        return F.cross_entropy(logits, x, reduction="sum") + kl_sum(mu, lv)

    lineage, slot = found(step, tokens)
    assert lineage.data == slot["data"]


def test_zeros_put_before_the_data_do_not_make_them_blank(x):
    torch.manual_seed(0)
    m = VAE()
    body, before = nn.Linear(D + 3, 24), torch.zeros(B, 3)

    def step(x):
        mu, lv = m.head(torch.tanh(body(torch.cat([before, x], 1)))).chunk(2, 1)
        see(data=x)
        return sse(m.decoder(reparameterise(mu, lv)), x) + kl_sum(mu, lv)

    lineage, slot = found(step, x)
    assert lineage.data == slot["data"]


def test_data_of_a_conditional_encoder_is_not_the_label(m, x):
    torch.manual_seed(0)
    label, first, last = nn.Embedding(4, 4), nn.Linear(D + 4, D), nn.Linear(d + 4, d)

    def step(x, k):
        mu, lv = m.enc(first(torch.cat([x, label(k)], 1)))
        z = last(torch.cat([reparameterise(mu, lv), label(k)], 1))
        see(data=x)
        return sse(m.decoder(z), x) + kl_sum(mu, lv)

    lineage, slot = found(step, x, torch.arange(B) % 4)
    assert lineage.data == slot["data"]
    assert lineage.notes == []


def test_data_of_a_conditional_encoder_is_not_a_wider_condition(m, x):
    torch.manual_seed(0)
    wide = 2 * D
    first, last = nn.Linear(D + wide, D), nn.Linear(d + wide, d)

    def step(x, c):
        mu, lv = m.enc(first(torch.cat([x, c], 1)))
        z = last(torch.cat([reparameterise(mu, lv), c], 1))
        see(data=x)
        return sse(m.decoder(z), x) + kl_sum(mu, lv)

    lineage, slot = found(step, x, torch.rand(B, wide))
    assert lineage.data == slot["data"]
    assert lineage.notes == []


def test_the_links_of_a_graph_are_not_its_data(m):
    """Though they hold more numbers than the features of the nodes."""
    x, links = torch.rand(3 * D, D), (torch.rand(3 * D, 3 * D) < 0.2).float()

    def step(x, links):
        head = links @ m.head(torch.relu(links @ m.body(x)))
        mu, lv = head.chunk(2, 1)
        z = reparameterise(mu, lv)
        see(data=x)
        return F.binary_cross_entropy_with_logits(m.decoder(z) @ m.decoder(z).T, links, reduction="sum") + kl_sum(
            mu, lv
        )

    lineage, slot = found(step, x, links)
    assert lineage.data == slot["data"]


def test_a_further_column_that_the_encoder_is_shown_is_part_of_the_table(m, x):
    torch.manual_seed(0)
    first, flag = nn.Linear(D + 1, D), nn.Linear(d, 1)

    def step(x, c):
        mu, lv = m.enc(first(torch.cat([x, c], 1)))
        z = reparameterise(mu, lv)
        other = F.binary_cross_entropy_with_logits(flag(z), c, reduction="sum")
        return sse(m.decoder(z), x) + other + kl_sum(mu, lv)

    lineage, _ = found(step, x, (torch.rand(B, 1) > 0.5).float())
    assert lineage.notes == []


@pytest.mark.parametrize("repeated", [
    lambda t, x: t.expand_as(x), lambda t, x: t.expand(len(x), -1), lambda t, x: t.repeat(len(x), 1), lambda t, x: t[None].expand_as(x),
])  # fmt: skip
def test_the_times_of_a_curve_are_not_its_data(repeated):
    """Each example a set of (time, value), all at the same times."""
    torch.manual_seed(0)
    point, head, decoder = nn.Linear(2, 8), nn.Linear(8, 2 * d), nn.Linear(d, D)
    every, times = torch.rand(4 * B, D), torch.linspace(-1, 3, D)

    def step(every):
        x = every[torch.arange(B)]
        points = torch.stack([repeated(times, x), x], -1)
        mu, lv = head(point(points).relu().mean(1)).chunk(2, 1)
        z = reparameterise(mu, lv)
        y = decoder(z)
        see(data=x, target=x, output=y)
        return sse(y, x) + kl_sum(mu, lv)

    lineage, slot = found(step, every)

    assert (lineage.data, lineage.target, lineage.output) == (slot["data"], slot["target"], slot["output"])


def test_target_may_be_indices():
    torch.manual_seed(0)
    bag, tokens = Bag(), torch.randint(0, 7, (B, 5))

    def step(x):
        logits, mu, lv = bag(x)
        flat = x.view(-1)
        see(target=flat)
        return F.cross_entropy(logits.view(-1, 7), flat) + kl_sum(mu, lv)

    lineage, slot = found(step, tokens)
    assert lineage.target == slot["target"]


def test_target_of_a_denoiser_is_the_clean_input(m, x):
    def step(x):
        shown = x + 0.2 * torch.randn_like(x)
        y, mu, lv = m(shown)
        see(clean=x)
        return sse(y, x) + kl_sum(mu, lv)

    lineage, slot = found(step, x)
    assert lineage.target == slot["clean"]


def test_features_are_not_preferred_to_data(m, x):
    torch.manual_seed(0)
    features = nn.Linear(D, D).requires_grad_(requires_grad=False)

    def step(x):
        y, mu, lv = m(x)
        see(output=y, target=x)
        return 0.1 * sse(features(y), features(x)) + sse(y, x) + kl_sum(mu, lv)

    lineage, slot = found(step, x)
    assert (lineage.output, lineage.target) == (slot["output"], slot["target"])
    assert lineage.meetings[-1].features


def test_a_frozen_network_before_the_encoder_is_part_of_the_data(m, x):
    torch.manual_seed(0)
    frozen = nn.Linear(D, D).requires_grad_(requires_grad=False)

    def step(x):
        x = torch.tanh(frozen(x))
        y, mu, lv = m(x)
        see(target=x)
        return sse(y, x) + kl_sum(mu, lv)

    lineage, slot = found(step, x)
    assert lineage.target == slot["target"]
    assert not lineage.meeting.features


def test_samples_in_a_leading_axis_do_not_change_the_latents(m, x):
    def step(x):
        mu, lv = m.enc(x)
        z = mu + (lv / 2).exp() * torch.randn(5, B, d)
        return ((m.decoder(z) - x) ** 2).sum(-1).mean() + kl_sum(mu, lv) / B

    lineage, _ = found(step, x)
    assert lineage.latents == d


def test_spatial_latents_are_counted():
    torch.manual_seed(0)
    encoder, decoder = nn.Conv2d(1, 4, 4, 4), nn.ConvTranspose2d(2, 1, 4, 4)

    def step(x):
        mu, lv = encoder(x).chunk(2, 1)
        return sse(decoder(reparameterise(mu, lv)), x) + kl_sum(mu, lv)

    lineage, _ = found(step, torch.rand(B, 1, 8, 8))
    assert lineage.latents == 2 * 2 * 2


def test_two_layers_are_a_hierarchy(m, x):
    torch.manual_seed(0)
    above = nn.Linear(d, 2 * d)

    def step(x):
        mu, lv = m.enc(x)
        mu2, lv2 = above(reparameterise(mu, lv)).chunk(2, 1)
        return sse(m.decoder(reparameterise(mu2, lv2)), x) + kl_sum(mu, lv) + kl_sum(mu2, lv2)

    lineage, _ = found(step, x)
    assert lineage.posterior == "hierarchy"
    assert len(lineage.candidates) == 2
    assert "hierarchy" in lineage.notes[0]


def test_a_code_with_a_kl_but_no_noise_is_deterministic(m, x):
    def step(x):
        mu, lv = m.enc(x)
        return sse(m.decoder(mu), x) + kl_sum(mu, lv)

    tape, _ = record(step, x)
    with pytest.raises(NoVAE, match="random draw"):
        find(tape)
    lineage = find_deterministic(tape)
    assert lineage.posterior == "deterministic"
    assert lineage.latents == d


def test_a_classifier_is_no_vae(m, x):
    tape, _ = record(lambda x: F.cross_entropy(m.head(F.dropout(m.body(x))), torch.arange(B) % 6), x)
    with pytest.raises(NoVAE):
        find(tape)
    with pytest.raises(NoVAE):
        find_deterministic(tape)


@pytest.mark.parametrize("shaped", [torch.Tensor.view_as, torch.Tensor.reshape_as])
def test_a_shape_taken_from_the_target_is_no_comparison_with_it(m, x, shaped):
    def step(x):
        mu, lv = m.head(m.body(x)).chunk(2, 1)
        y = m.decoder(reparameterise(mu, lv)).unsqueeze(1)
        output = shaped(y, x)
        see(output=output, target=x)
        return F.mse_loss(output, x, reduction="sum") + kl_sum(mu, lv)

    lineage, slot = found(step, x)

    assert (lineage.output, lineage.target) == (slot["output"], slot["target"])


def curves(z):
    """Oscillations [B, D] of amplitude, frequency and phase: no layer decodes them."""
    return z[:, :1] * torch.sin(z[:, 1:2] * torch.arange(D) + z[:, 2:3])


def test_a_formula_may_decode(m, x):
    def step(x):
        mu, lv = m.enc(x)
        z = reparameterise(mu, lv)
        output = curves(z)
        see(z=z, output=output, target=x)
        return 3 * sse(output, x) + 7 * kl_sum(mu, lv)

    lineage, slot = found(step, x)
    assert (lineage.z, lineage.output, lineage.target) == (slot["z"], slot["output"], slot["target"])
    at = cut(lineage, Replay(lineage.tape))
    kl = (0.5 * (at.mu**2 + at.sigma**2) - at.sigma.log()).sum()
    assert torch.allclose(gradient(at.loss, at.heads), 7 * gradient(kl, at.heads), atol=1e-10)
    assert torch.allclose(gradient(at.loss, [at.z]), 3 * gradient(sse(curves(at.z), x.double()), [at.z]))


def test_noise_on_an_output_is_no_latent(m, x):
    """A network that predicts its own input with a spread, which is kept from falling, decodes nothing."""
    heads = nn.Linear(D, 2 * D)

    def step(x):
        mean, spread = heads(x).chunk(2, 1)
        output = mean + torch.randn_like(mean) * spread.exp()
        return sse(output.sigmoid(), x) - spread.sum()

    with pytest.raises(NoVAE):
        find(record(step, x)[0])


def test_a_formula_that_nothing_regularises_is_no_decoder(m, x):
    def step(x):
        mu, lv = m.enc(x)
        return sse(curves(reparameterise(mu, lv)), x)

    with pytest.raises(NoVAE):
        find(record(step, x)[0])
