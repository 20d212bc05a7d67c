import numpy as np
import pytest
import torch

from whyvae.data import Codec, Column, Dataset, load
from whyvae.data.raw import Raw
from whyvae.models.build import RANGED, ModelConfig, build, ends, resolved

RANDOM = np.random.default_rng(0)


def dataset(rows, kind=None, columns=()):
    return Dataset.of(Raw(rows, kind=kind, columns=columns), "rows")


def built(data, **options):
    config = resolved(ModelConfig(**options), data)
    codec = Codec.of(data, to_range=config.likelihood in RANGED)
    x = codec.encode(data.take(slice(0, 6)))
    return build(config, codec, x), x, config


@pytest.mark.parametrize("size", [(1, 28, 28), (3, 17, 40), (4, 5, 64), (2, 1, 9)], ids=str)
@pytest.mark.parametrize(
    "options", [{}, {"blocks": 1}, {"likelihood": "categorical"}, {"likelihood": "logistic-mixture"}], ids=str
)
def test_images_of_any_size_and_channels(size, options):
    data = dataset(RANDOM.integers(0, 256, (40, *size)) % 128, "image")
    if options.get("likelihood") == "categorical":
        data = dataset(RANDOM.integers(0, 4, (40, *size)), "image")
    model, x, _ = built(data, family="conv", latents=3, **options)
    nll, kl, output = model(x)
    assert nll.shape == kl.shape == (6,)
    assert output.shape == (6, size[0] * model.likelihood.per_value, *size[1:])
    assert model.likelihood.mean(output).shape == model.likelihood.draw(output).shape == x.shape


@pytest.mark.parametrize("family", ["sequence", "recurrent"])
@pytest.mark.parametrize("length", [9, 50, 101])
def test_sequences_of_any_length(family, length):
    model, x, _ = built(dataset(RANDOM.normal(size=(40, length, 2)), "sequence"), family=family, latents=3)
    nll, _, output = model(x)
    assert output.shape == x.shape == (6, 2, length)
    nll.sum().backward()
    assert all(p.grad is not None for p in model.decoder.parameters())


@pytest.mark.parametrize("prior", ["standard", "mixture", "vamp"])
def test_priors_train_along(prior):
    model, x, _ = built(
        dataset(RANDOM.normal(size=(40, 70)), "vector"), prior=prior, components=4, widths=(8,), latents=2
    )
    nll, kl, _ = model(x)
    (nll + kl).mean().backward()
    assert model.prior.draw(5).shape == (5, 2)
    assert {name for name, p in model.named_parameters() if p.grad is None} <= {"likelihood.variance"}


def test_what_is_chosen():
    assert built(load("sklearn:digits"))[2].family == "mlp"
    assert built(dataset(RANDOM.random((40, 3, 28, 28))))[2].family == "conv"
    assert built(dataset(RANDOM.normal(size=(40, 50, 3))))[2].family == "sequence"
    columns = (Column("a"), Column("b", "binary", ("no", "yes")))
    table = dataset(np.stack([RANDOM.normal(size=40), RANDOM.integers(0, 2, 40)], 1), "table", columns)
    assert built(table)[2].likelihood == "mixed"


def test_values_at_the_ends_of_their_range_are_told_from_values_between():
    assert ends(dataset(RANDOM.integers(0, 2, (40, 8, 8)) * 255.0, "image")) == pytest.approx(1, abs=0.01)
    assert ends(dataset(RANDOM.random((400, 8, 8)), "image")) == pytest.approx(1 / 3, abs=0.01)  # uniform: 1/12 of 1/4


@pytest.mark.parametrize(
    ("options", "said"),
    [({"family": "sequence"}, "is for sequences"), ({"likelihood": "mixed"}, "any but mixed"),
     ({"likelihood": "categorical"}, "whole numbers")],
)  # fmt: skip
def test_a_choice_that_does_not_fit_is_refused(options, said):
    with pytest.raises(ValueError, match=said):
        built(dataset(RANDOM.random((40, 8, 8)), "image"), **options)


def test_one_seed_one_model():
    data = load("sklearn:digits")
    models = []
    for _ in range(2):
        torch.manual_seed(1)
        models.append(built(data)[0].state_dict())
    assert all(torch.equal(models[0][name], models[1][name]) for name in models[0])
