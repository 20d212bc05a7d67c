"""What is done to samples until they are shown: right ways are right, whatever their spelling, wrong ones are measured."""

import io
import math
import sys
import types

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from whyvae.probe import Bench, CannotMeasure
from whyvae.probes.lossy import Stage, lost
from whyvae.probes.recipes import recipe
from whyvae.probes.showing import Showing
from whyvae.testing import digits
from whyvae.watch.subject import Subject
from whyvae.watch.watcher import Watcher

Image = pytest.importorskip("PIL.Image")


class VAE(nn.Module):
    """A convolutional VAE of 8x8 pictures; `last` is its output activation."""

    def __init__(self, colours, last):
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(colours, 8, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(128, 8))
        self.inner, self.outer, self.last = nn.Linear(4, 128), nn.ConvTranspose2d(8, colours, 4, 2, 1), last

    def decode(self, z):
        return self.last(self.outer(torch.relu(self.inner(z)).view(-1, 8, 4, 4)))

    def forward(self, x):
        mu, logvar = self.encoder(x).chunk(2, 1)
        return self.decode(mu + torch.randn_like(mu) * torch.exp(0.5 * logvar)), mu, logvar


def squared(y, x):
    return 20 * (y - x).square().sum()


def on_logits(y, x):
    return F.binary_cross_entropy_with_logits(y, x, reduction="sum")


def shown(show, colours=1, last=torch.sigmoid, loss=squared, scale=lambda x: x):
    """What was measured of `show(samples)`, after a short training on digits in [0, 1], rescaled by `scale`."""
    grey = digits()[:256].reshape(-1, 1, 8, 8)
    data = scale(grey if colours == 1 else torch.cat([grey, grey.flip(2), 1 - grey], 1))
    with torch.random.fork_rng(), Watcher() as watcher:
        torch.manual_seed(0)
        model = VAE(colours, last)
        optimizer = torch.optim.Adam(model.parameters(), 3e-3)
        for _ in range(30):
            x = data[torch.randperm(256)[:64]]
            y, mu, logvar = model(x)
            optimizer.zero_grad()
            (loss(y, x) - 0.5 * torch.sum(1 + logvar - mu**2 - logvar.exp())).backward()
            optimizer.step()
        with torch.no_grad():
            kept = show(model.decode(torch.randn(16, 4)))
    assert watcher.outside.onlooker.enabled, kept
    (picture,) = Bench(Subject.of(watcher)).get(Showing).pictures
    return picture


def lossless(picture):
    return (
        picture.cut == 0 and picture.levels > 200 and picture.wrapped == 0 and not picture.scrambled
        and not picture.left_out and not picture.contrast < 0.9
    )  # fmt: skip


def save(array):
    Image.fromarray(array)


def by_numpy(samples):
    save((samples[0, 0].numpy() * 255).astype(np.uint8))


def by_torch(samples):
    save(samples.view(4, 4, 8, 8).permute(0, 2, 1, 3).reshape(32, 32).mul(255).byte().numpy())


def sheet_by_numpy(samples):
    rows = samples.numpy().reshape(4, 4, 8, 8).transpose(0, 2, 1, 3).reshape(32, 32)
    save(np.clip(rows * 255, 0, 255).astype(np.uint8))


def first_four_rounded(samples):
    np.save(io.BytesIO(), np.round(samples.numpy()[:4, 0] * 255).astype(np.uint8))


def colours_by_torch(samples):
    save(samples[0].permute(1, 2, 0).mul(255).to(torch.uint8).numpy())


def colours_by_numpy(samples):
    save((samples.numpy()[0].transpose(1, 2, 0) * 255).astype(np.uint8))


def from_minus_one(samples):
    save(((samples[0, 0].numpy() + 1) * 127.5).astype(np.uint8))


def through_sigmoid(samples):
    save((torch.sigmoid(samples)[0, 0].numpy() * 255).astype(np.uint8))


def kept_by_numpy(samples):
    return (samples.numpy().reshape(4, 4, 8, 8).transpose(0, 2, 1, 3).reshape(32, 32) * 255).astype(np.uint8)


def kept_flat(samples):
    return (samples.flatten(1).repeat(4, 1) * 255).byte().numpy()  # [64, 64], a picture a row


def doubled(x):
    return 2 * x - 1


def standardised(x):
    return (x - x.mean()) / x.std()


@pytest.mark.parametrize(("show", "how"), [
    (by_numpy, {}), (by_torch, {}), (kept_by_numpy, {}), (kept_flat, {}), (sheet_by_numpy, {}), (first_four_rounded, {}), (colours_by_torch, {"colours": 3}),
    (colours_by_numpy, {"colours": 3}), (from_minus_one, {"last": torch.tanh, "scale": doubled}),
    (through_sigmoid, {"last": nn.Identity(), "loss": on_logits}),
], ids=lambda v: getattr(v, "__name__", ""))  # fmt: skip
def test_right_ways_lose_nothing(show, how):
    picture = shown(show, **how)
    if how.get("loss") is on_logits:  # judged by the decoder's own numbers, which are few
        picture = picture.__class__(**{**vars(picture), "levels": 256})
    assert lossless(picture)


@pytest.mark.parametrize("squashed", [
    lambda s: (torch.sigmoid(s).numpy()[:, 0] * 255).astype(np.uint8), lambda s: (torch.sigmoid(s) * 255).byte().numpy(),
])  # fmt: skip
def test_bytes_that_are_kept_are_pictures(squashed):
    """A second sigmoid: [0, 1] becomes [0.5, 0.73]."""
    assert shown(squashed).contrast == pytest.approx(0.231, abs=0.01)


def test_bytes_that_are_kept_count_beside_what_is_no_sample():
    def show(samples):
        np.save(io.BytesIO(), np.arange(64.0))
        return (torch.sigmoid(samples) * 255).byte().numpy()

    assert shown(show).contrast == pytest.approx(0.231, abs=0.01)


@pytest.mark.parametrize(("scale", "cut"), [(lambda x: x, 0.0), (doubled, 0.4)])
def test_many_samples_are_known_by_the_first(scale, cut):
    def show(samples):  # 4800 of them, more than is copied
        many = samples.repeat(300, 1, 1, 1)
        np.savez(io.BytesIO(), many.mul(255).round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy())

    assert shown(show, last=torch.tanh if cut else torch.sigmoid, scale=scale).cut >= cut


def test_what_is_imported_where_samples_are_shown_is_spied_on(tmp_path, monkeypatch):
    (tmp_path / "imageio.py").write_text("def imwrite(name, picture):\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "imageio", raising=False)
    finders = list(sys.meta_path)

    def show(samples):
        import imageio  # type: ignore[import-not-found]

        assert type(imageio.__loader__).__module__.startswith(("importlib", "_frozen"))
        assert imageio.__spec__.loader is imageio.__loader__
        imageio.imwrite("sheet.png", samples[0, 0].mul(255).clamp(0, 255).byte().numpy())

    assert shown(show, last=torch.tanh, scale=doubled).cut > 0.4
    assert sys.meta_path == finders
    monkeypatch.delitem(sys.modules, "imageio")


@pytest.mark.parametrize("show", [
    lambda s: save(s[0, 0].numpy().astype(np.uint8)), lambda s: save(s[0, 0].byte().numpy()), lambda s: save(s[0, 0].numpy()),
])  # fmt: skip
def test_numbers_below_one_make_black_pictures(show):
    assert shown(show).levels == 2


def test_what_is_lost_of_uniform_numbers():
    """Of x uniform in [-1, 1], clamp(0, 1) moves E[x^2; x < 0] = 1/6, and the variance is 1/3."""
    values = torch.linspace(-1, 1, 20_001, dtype=torch.float64)
    assert lost(Stage("clamp", values, 0.0, 1.0, False, None)) == pytest.approx(0.5, rel=1e-3)
    assert lost(Stage("clamp", values, -1.0, 1.0, False, None)) == 0


def test_data_below_zero_is_cut_off():
    picture = shown(lambda s: save(s[0, 0].clamp(0, 1).mul(255).byte().numpy()), last=torch.tanh, scale=doubled)
    assert picture.by == "`clamp(0, 1)`"
    assert picture.cut > 0.5
    assert picture.given == (-1, 1)


def test_faint_noise_below_black_is_nothing():
    def noisy(x):
        return x + 0.03 * torch.randn(x.shape, generator=torch.Generator().manual_seed(1))

    picture = shown(lambda s: save(s[0, 0].clamp(0, 1).mul(255).byte().numpy()), last=nn.Identity(), scale=noisy)
    assert 0 < picture.cut < 0.01


def test_standardised_data_that_numpy_clips():
    picture = shown(
        lambda s: save((np.clip(s[0, 0].numpy(), 0, 1) * 255).astype(np.uint8)), last=nn.Identity(), scale=standardised
    )
    assert picture.cut > 0.3


def test_logits_lack_a_sigmoid():
    picture = shown(by_numpy, last=nn.Identity(), loss=on_logits)
    assert picture.left_out == "sigmoid"
    assert picture.cut > 0.2


def test_what_clamps_the_parameter_of_a_density_cuts_off_no_data():
    """Counts of 0 to 16 under a binomial, whose logits are kept within 7."""

    def binomial(y, x):
        return -torch.distributions.Binomial(16, logits=y).log_prob(x).sum()

    def save_shares(samples):
        save((255 * torch.sigmoid(samples))[0, 0].byte().numpy())

    picture = shown(save_shares, last=lambda y: y.clamp(-7, 7), loss=binomial, scale=lambda x: (16 * x).round())
    assert picture.cut == 0


def test_an_activation_that_only_training_has_is_named():
    def show(samples):
        save((samples[0, 0].numpy() * 255).astype(np.uint8))

    def loss(y, x):
        return squared(torch.sigmoid(y), x)

    assert shown(show, last=nn.Identity(), loss=loss).left_out == "sigmoid"


def test_a_second_sigmoid_flattens():
    """sigma(0) to sigma(1): 0.231 of the range."""
    assert shown(through_sigmoid).contrast == pytest.approx(1 / (1 + math.exp(-1)) - 0.5, abs=1e-3)


def test_numbers_outside_whole_ones_begin_again():
    picture = shown(lambda s: save((s[0, 0] - 0.5).mul(255).byte().numpy()))
    assert picture.wrapped > 0.3


@pytest.mark.parametrize(("show", "colours"), [
    (lambda s: save((s.numpy()[0].reshape(8, 8, 3) * 255).astype(np.uint8)), 3),
    (lambda s: save(s[0].reshape(8, 8, 3).mul(255).byte().numpy()), 3),
    (lambda s: save(s.reshape(32, 32).mul(255).byte().numpy()), 1), (lambda s: save((s.numpy().reshape(32, 32) * 255).astype(np.uint8)), 1),
])  # fmt: skip
def test_reshaping_instead_of_exchanging_axes_is_proven(show, colours):
    assert "reshaped" in shown(show, colours).scrambled


def beside(pictures):
    return np.concatenate(pictures, 1)


@pytest.mark.parametrize("show", [
    lambda s: save((beside([p.reshape(8, 8, 3) for p in s.numpy()[:6]]) * 255).astype(np.uint8)),
    lambda s: save((np.concatenate([beside(list(r)) for r in s.numpy().reshape(4, 4, 8, 8, 3)]) * 255).astype(np.uint8)),
    lambda s: save(torch.cat([p.reshape(8, 8, 3) for p in s[:6]], 1).mul(255).byte().numpy()),
])  # fmt: skip
def test_so_is_it_where_pictures_stand_beside_each_other(show):
    assert "[3, 8, 8] was reshaped to [8, 8, 3]" in shown(show, 3).scrambled


@pytest.mark.parametrize("show", [
    lambda s: save((beside(list(s.numpy()[:6].transpose(0, 2, 3, 1))) * 255).astype(np.uint8)),
    lambda s: save((np.concatenate([beside(list(r)) for r in s.numpy().transpose(0, 2, 3, 1).reshape(4, 4, 8, 8, 3)]) * 255).astype(np.uint8)),
    lambda s: save(torch.cat([p.permute(1, 2, 0) for p in s[:6]], 1).mul(255).byte().numpy()),
])  # fmt: skip
def test_colours_that_were_exchanged_are_in_their_places(show):
    assert shown(show, 3).scrambled == ""


def test_pictures_below_each_other_are_in_their_places():
    assert shown(lambda s: save(s.reshape(128, 8).mul(255).byte().numpy())).scrambled == ""


def stub(name, function, monkeypatch):
    module = types.ModuleType(name)
    setattr(module, function.__name__, function)
    monkeypatch.setitem(sys.modules, name, module)
    return module


@pytest.mark.parametrize(("options", "cut"), [({}, True), ({"normalize": True}, None)])
def test_save_image_keeps_zero_to_one(options, cut, monkeypatch):
    def save_image(tensor, path, **options):
        pass

    vision = stub("torchvision.utils", save_image, monkeypatch)

    def show(samples):
        vision.save_image(samples, "new.png", **options)

    if cut is None:
        with pytest.raises(CannotMeasure, match="does not apply"):
            shown(show, last=torch.tanh, scale=doubled)
    else:
        assert shown(show, last=torch.tanh, scale=doubled).cut > 0.4


def test_colours_are_clipped_by_imshow_and_one_colour_is_not():
    pyplot = pytest.importorskip("matplotlib.pyplot")
    pyplot.switch_backend("Agg")
    with pytest.raises(CannotMeasure, match="does not apply"):
        shown(lambda s: pyplot.imshow(s[0, 0].numpy()), last=torch.tanh, scale=doubled)
    picture = shown(lambda s: pyplot.imshow(s[0].permute(1, 2, 0).numpy()), colours=3, last=torch.tanh, scale=doubled)
    assert picture.cut > 0.4


@pytest.mark.parametrize("made", [
    lambda a: a.flip(0) * 2 - 1, lambda a: (a * 255).to(torch.uint8), lambda a: (a * 255).round().to(torch.uint8),
    lambda a: ((a * 300 - 20).clamp(0, 255)), lambda a: a[3], lambda a: a[:5].transpose(1, 2),
])  # fmt: skip
def test_what_numpy_did_is_found_again(made):
    array = torch.rand(9, 6, 5, generator=torch.Generator().manual_seed(0))
    found = recipe(array, made(array))
    assert found is not None
    rows = array if found.rows is None else array[found.rows[0] : found.rows[1]]
    again = found.of(rows).flatten().sort().values
    assert torch.allclose(again, made(array).double().flatten().sort().values, atol=1.001 if found.whole else 1e-3)


def test_what_was_made_in_another_way_is_not():
    array = torch.rand(9, 6, 5, generator=torch.Generator().manual_seed(0))
    assert recipe(array, torch.rand(9, 6, 5)) is None
    assert recipe(array, array.square()) is None
    assert recipe(array, (array.square() * 255).to(torch.uint8)) is None


def test_a_helper_that_shows_samples_and_then_data_is_looked_at_for_both():
    def grid(batch):
        Image.fromarray((batch * 255).numpy().astype(np.uint8)[0, 0])

    def show(samples):
        grid(samples)
        grid(digits()[:16].reshape(-1, 1, 8, 8))

    assert shown(show, last=torch.tanh, scale=lambda x: 2 * x - 1).wrapped > 0.01


class Bytes(nn.Module):
    """A decoder that brings its numbers to grey levels itself."""

    def forward(self, y):
        return 127.5 + 127.5 * y


@pytest.mark.parametrize(("low", "high", "right"), [(0, 255, True), (0, 1, False)])
def test_a_decoder_that_puts_out_grey_levels(low, high, right):
    def show(samples):
        save(samples[0, 0].round().clamp(low, high).to(torch.uint8).numpy())

    picture = shown(show, last=Bytes(), scale=lambda x: 255 * x)
    assert picture.given[0] == pytest.approx(0.0, abs=1)
    assert (picture.cut < 1e-6) is right
    assert right or picture.cut > 0.5
