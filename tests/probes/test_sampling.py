"""How users sample: moments against closed forms, and what is deliberate and not judged."""

import math
from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import nn

from whyvae.probe import Bench, CannotMeasure
from whyvae.probes.looks import amid, moments
from whyvae.probes.normalisation import Normalisation
from whyvae.probes.sampling import Sampling
from whyvae.probes.sampling_mode import SamplingMode, moved_statistics
from whyvae.probes.wider import WiderBlocks
from whyvae.testing import Patient, factors

D = 4


def seen(generate, **changes):
    return Bench(Patient(generate=generate, **{"steps": 60} | changes).train())


def only(decoded, **changes):
    """The draws of a script that ends with `decoded(model)`, whose latents it decodes."""
    (place,) = seen(lambda model: model.eval().decoder(decoded(model)), **changes).get(Sampling).places
    return place


def nats(mean, sd):
    return 0.5 * (sd**2 + mean**2 - 1 - math.log(sd**2))


@pytest.mark.parametrize(("draw", "mean", "sd"), [
    (lambda _: torch.randn(16, D), 0, 1), (lambda _: 3 * torch.randn(16, D), 0, 3), (lambda _: torch.randn(2, D) * 0.5, 0, 0.5),
    (lambda _: torch.rand(16, D), 0.5, 12**-0.5), (lambda _: 2 * torch.rand(16, D) - 1, 0, 3**-0.5),
    (lambda _: torch.normal(0.0, 5.0, (16, D)), 0, 5), (lambda _: torch.normal(torch.ones(9, D), 2 * torch.ones(9, D)), 1, 2),
    (lambda _: torch.distributions.Normal(0.0, 0.2).sample((3, D)), 0, 0.2), (lambda _: torch.empty(8, D).normal_(1, 1), 1, 1),
])  # fmt: skip
def test_a_draw_that_was_seen_is_repeated_and_measured_exactly(draw, mean, sd):
    found = only(draw)
    assert found.judged
    assert found.mean * 1.0 == pytest.approx(mean, abs=0.06 * sd)
    assert found.nats == pytest.approx(nats(mean, sd), rel=0.08, abs=0.01)
    assert found.wrong is (min(found.nats, found.nats_encodings) > 0.11)


def test_sixteen_pairs_from_outside_torch_suffice_where_they_are_far_off():
    rng = np.random.default_rng(3)
    wide = only(lambda _: torch.tensor(rng.normal(0, 3, (16, 2)), dtype=torch.float32), latents=2)
    right = only(lambda _: torch.tensor(rng.normal(0, 1, (16, 2)), dtype=torch.float32), latents=2)
    assert wide.off
    assert wide.chance < 1e-12
    assert not right.off
    assert right.chance > 1e-4


def test_the_chance_is_that_of_a_chi_square():
    stats = pytest.importorskip("scipy.stats")
    numbers = torch.tensor(np.random.default_rng(0).normal(0, 1.4, (16, 2)), dtype=torch.float32)
    found = only(lambda _: numbers, latents=2)
    tail = 2 * stats.chi2.sf(float(numbers.double().square().sum()), 32)
    off = 2 * stats.norm.sf(abs(float(numbers.double().mean())) * 32**0.5)
    assert found.chance == pytest.approx(min(1, 2 * min(tail, off)), rel=1e-4)


def traversed(_):
    z = torch.randn(1, D).repeat(9, 1)
    z[:, 1] = torch.linspace(-3, 3, 9)
    return z


def grid(_):
    axis = torch.linspace(-8, 8, 12)
    return torch.stack(
        [*torch.meshgrid(axis, axis, indexing="ij"), torch.zeros(12, 12), torch.zeros(12, 12)], -1
    ).reshape(-1, D)


def between_codes(model):
    a, b = model.mu(model.encoder(torch.zeros(2, 12) + torch.tensor([[2.0], [-2.0]]))).detach().numpy() * 4
    return torch.tensor(np.stack([a + t * (b - a) for t in np.linspace(0, 1, 40)])).float()


def fitted(_):
    return torch.tensor([3.0, -2.0, 0.5, 0.0]) + torch.randn(64, D) * torch.tensor([0.1, 2.0, 0.3, 0.5])


@pytest.mark.parametrize("latents", [traversed, grid, between_codes, fitted])
def test_what_is_deliberate_is_not_judged(latents):
    assert not only(latents).judged


@pytest.mark.parametrize("sd", [1.0, 3.0])
def test_draws_that_are_decoded_below_encoded_rows_are_judged_alone(sd):
    def together(model):
        with torch.no_grad():
            codes = model.mu(model.encoder(torch.randn(64, 12))) + 7
            return torch.cat([codes, sd * torch.randn(300, D)])

    found = only(together)
    assert (found.rows, found.judged, found.off) == (300, True, sd != 1)
    assert found.sd == pytest.approx(sd, rel=0.05)
    assert found.mean == pytest.approx(0.0, abs=0.05 * sd)


def test_draws_beside_encoded_columns_are_not_followed():
    def together(model):
        with torch.no_grad():
            return torch.cat([model.mu(model.encoder(torch.randn(64, 12)))[:, :2], torch.randn(64, D - 2)], 1)

    with pytest.raises(CannotMeasure, match="no new latents"):
        only(together)


def test_draws_that_are_only_scaled_by_what_was_encoded_are_judged():
    """The spread of a posterior in place of the prior's: around 0, and far narrower than the encodings."""

    def scaled(model):
        with torch.no_grad():
            spread = (0.5 * model.logvar(model.encoder(torch.randn(64, 12)))).exp().mean(0)
        return 0.2 * spread / spread.mean() * torch.randn(400, D)

    found = only(scaled)
    assert found.judged
    assert found.off
    assert found.sd == pytest.approx(0.2, rel=0.1)


@pytest.mark.parametrize("read", [lambda t: t, lambda t: torch.tensor(t.tolist())])
@pytest.mark.parametrize("draw", ["sample", "rsample"])
def test_draws_around_the_middle_of_encodings_are_judged(draw, read):
    """`Normal(mu.mean(0), sigma.mean(0))`, as it is often written: narrower than the encodings, in units that are used."""

    def around(model):
        with torch.no_grad():
            h = model.encoder(factors())
            middle, spread = model.mu(h).mean(0), (0.5 * model.logvar(h)).exp().mean(0)
        return getattr(torch.distributions.Normal(read(middle), read(spread)), draw)((500,))

    found = only(around, steps=400)
    assert (found.rows, found.judged, found.off) == (500, True, True)


def test_the_middle_is_nearer_than_one_example_in_twenty_lies():
    mean, sd = torch.tensor([1.0, -2.0, 0.5]), torch.tensor([1.0, 0.5, 1e-6])
    codes = mean + sd * torch.randn(4000, 3, generator=torch.Generator().manual_seed(2))
    spread = 0.01 * torch.randn(256, 3, generator=torch.Generator().manual_seed(3)).double()
    among = [amid(code + spread, mean, sd) for code in codes]
    assert sum(among) / len(among) == pytest.approx(0.05, abs=0.015)
    assert amid(codes[:300].mean(0) + spread, mean, sd)
    assert not amid(codes[:300].mean(0) + spread, mean, torch.full((3,), 1e-3))


def test_latents_that_the_decoder_itself_rescales_are_measured_before_that():
    def halved(model, z, _):
        return model.decoder(0.5 * z + 1)

    (place,) = (
        seen(lambda model: model.eval().decoder(0.5 * (3 * torch.randn(400, D)) + 1), decode=halved)
        .get(Sampling)
        .places
    )
    assert place.sd == pytest.approx(3, rel=0.05)
    assert place.mean == pytest.approx(0, abs=0.1)


def test_a_copy_of_the_model_is_seen_to_encode_and_each_time_it_decodes():
    """Averaged weights: evaluated on data, then asked for samples, in one go."""

    def averaged(model):
        copy = deepcopy(model).eval().requires_grad_(requires_grad=False)
        with torch.no_grad():
            mu = copy.mu(copy.encoder(torch.linspace(-2, 2, 480).reshape(40, 12)))
            copy.decoder(mu + 0.1 * torch.randn(40, D))
            copy.decoder(torch.rand(16, D))

    (place,) = seen(averaged).get(Sampling).places
    assert (place.drawn_by, place.rows) == ("rand", 16)


def test_equal_rows_are_counted():
    same = only(lambda _: torch.randn(1, D).expand(16, D))
    assert (same.rows, same.distinct) == (16, 1)
    assert same.identical
    assert not only(lambda _: torch.randn(1, D)).identical


def test_equal_latents_with_labels_are_no_mistake():
    def by_class(model):
        z = torch.randn(1, D).expand(16, D)
        model.decoder[2](model.decoder[1](model.decoder[0](z)) + torch.eye(16, 64))

    (place,) = seen(lambda model: by_class(model.eval()), norm=lambda _: nn.Identity()).get(Sampling).places
    assert place.distinct == 1
    assert not place.identical


def test_one_number_for_all_units_is_seen():
    found = only(lambda _: torch.randn(16, 1) * torch.ones(D))
    assert (found.units, found.distinct_units) == (D, 1)
    assert found.one_number


def test_of_a_sweep_the_right_one_counts():
    def sweep(model):
        for temperature in (0.1, 1.0, 4.0):
            model.decoder(temperature * torch.randn(16, D))

    sampling = seen(sweep).get(Sampling)
    assert sampling.places[0].nats < 0.01
    assert sampling.worst is None


def test_without_sampling_there_is_nothing_to_judge():
    bench = seen(lambda model: None)
    for probe in (Sampling, SamplingMode):
        with pytest.raises(CannotMeasure, match="does not apply"):
            bench.get(probe)


def test_what_dropout_does_is_its_variance():
    """Of a linear decoder y = W m z / (1 - p): E|y - W z|^2 = p / (1 - p) sum_j z_j^2 |w_j|^2, the spread of W z without p."""

    def generate(model):
        decoder = nn.Sequential(nn.Linear(D, D, bias=False), nn.Dropout(0.2), nn.Linear(D, 400, bias=False))
        with torch.no_grad():
            decoder[0].weight.copy_(torch.eye(D))
            decoder(torch.randn(512, D))

    mode = seen(generate, decoder_hidden=D).get(SamplingMode).places[-1]
    assert mode.layers == ("dropout",)
    assert mode.changed == pytest.approx(0.25, rel=0.1)


@pytest.mark.parametrize(("evaluated", "moved"), [(False, True), (True, False)])
def test_samples_in_training_mode_move_the_running_statistics(evaluated, moved):
    """Two at a time, each as far from the other as can be; what is measured at those statistics is put down to it."""

    def generate(model):
        model.train(not evaluated)
        for _ in range(40):
            model.decoder(torch.randn(2, D))

    subject = Patient(steps=60, generate=generate, norm=nn.BatchNorm1d).train()
    bench = Bench(subject)
    assert moved_statistics(bench.get(SamplingMode), subject.count) is moved
    if moved:
        for probe in (WiderBlocks, Normalisation):
            with pytest.raises(CannotMeasure, match="explained by GEN03"):
                bench.get(probe)


def test_evaluation_mode_changes_nothing():
    mode = (
        seen(lambda model: model.eval().decoder(torch.randn(16, D)), norm=nn.BatchNorm1d).get(SamplingMode).places[-1]
    )
    assert (mode.layers, mode.changed) == ((), 0.0)


def test_a_unit_that_is_too_wide_does_not_make_up_for_narrow_ones():
    generator = torch.Generator().manual_seed(4)
    z = torch.randn(4000, 4, generator=generator, dtype=torch.float64) * torch.tensor([0.3, 0.3, 0.3, 1.93])
    mean, sd, found = moments(z, torch.zeros(4), torch.ones(4))
    assert (mean, sd) == pytest.approx((0, 1), abs=0.03)
    assert found == pytest.approx((3 * nats(0, 0.3) + nats(0, 1.93)) / 4, rel=0.02)
    assert moments(z[:16], torch.zeros(4), torch.ones(4))[2] < found / 2  # too few rows to tell units apart


@pytest.mark.parametrize(("draw", "ill"), [(torch.rand, True), (torch.randn, False)])
def test_samples_that_are_decoded_one_at_a_time_are_judged_by_the_draw(draw, ill):
    def generate(model):
        model.eval()
        for _ in range(6):
            model.decoder(draw(1, D))

    (place,) = seen(generate).get(Sampling).places
    assert place.rows == 1
    assert place.wrong is ill
