"""The weight of the KL term is changed where it is written down, else where the term is added."""

from __future__ import annotations

import pytest
from patients import DISTRIBUTIONS, FUNCTIONS, TRAINER, broken, difference, edited

from whyvae.treat.remedy import NoEdit

CASES = [
    (TRAINER, ("beta: float = 1.0", "beta: float = 80.0"), "beta: float = 1.0"),
    (TRAINER, ("Trainer(Config(),", "Trainer(Config(beta=80),"), "trainer = Trainer(Config(beta=1), (torch.rand(128, 20) > 0.5).float())"),
    (TRAINER, ("rec + self.cfg.beta * kld", "rec + 80 * kld"), "loss = rec + 1 * kld"),
    (TRAINER, ("rec + self.cfg.beta * kld", "rec + kld * 80"), "loss = rec + kld * 1"),
    (TRAINER, ("rec + self.cfg.beta * kld", "0.0125 * rec + kld"), "loss = 0.0125 * rec + 0.0125 * kld"),
    (FUNCTIONS, ("KL_WEIGHT = 1.0", "KL_WEIGHT = 80.0"), "KL_WEIGHT = 1.0"),
    (FUNCTIONS, ("KL_WEIGHT * divergence(m, s).sum(1)", "divergence(m, s).sum(1) * min(80, 80 * (1 + step))"),
     "loss = (fit + divergence(m, s).sum(1) * (0.0125 * min(80, 80 * (1 + step)))).mean()"),
    (FUNCTIONS, ("fit + KL_WEIGHT *", "fit / 80 +"), "loss = (fit / 80 + 0.0125 * divergence(m, s).sum(1)).mean()"),
    (DISTRIBUTIONS, ("data, weight=1.0)\n    print", "data, weight=80.0)\n    print"),
     "train(Encoder(), decoder := nn.Sequential(nn.Linear(5, 40), nn.Tanh(), nn.Linear(40, 30)), data, weight=1.0)"),
    (DISTRIBUTIONS, ("log_px - weight * kl_divergence", "log_px - kl_divergence"),
     "return -(log_px - 0.0125 * kl_divergence(posterior, prior)).mean()"),
]  # fmt: skip


@pytest.mark.parametrize(("patient", "mistake", "expected"), CASES)
def test_the_weight_is_folded_or_written_where_the_term_is_added(tmp_path, patient, mistake, expected):
    text = broken(patient, *mistake)
    new = edited(tmp_path, text, "kl_weight", factor=1 / 80)
    gone, came = difference(text, new)
    assert came == [expected]
    assert len(gone) == 1


@pytest.mark.parametrize("read", ["self.hparams.weight", 'self.hparams["weight"]'])
@pytest.mark.parametrize(("default", "given"), [("80.0", ""), ("1.0", ", weight=80.0")])
def test_a_hyperparameter_of_a_lightning_module_is_changed_where_it_is_given(tmp_path, read, default, given):
    """`save_hyperparameters()` keeps what `__init__` is given in `self.hparams`."""
    text = broken(TRAINER, "cfg: Config, data):", f"cfg: Config, data, weight={default}):")
    text = broken(text, "from dataclasses import dataclass", f"from dataclasses import dataclass\n\n{KEPT}")
    text = broken(
        text, "        self.cfg, self.data", "        self.hparams = Kept(weight=weight)\n        self.cfg, self.data"
    )
    text = broken(text, "self.cfg.beta * kld", f"{read} * kld")
    text = broken(text, "> 0.5).float())", f"> 0.5).float(){given})")
    gone, came = difference(text, edited(tmp_path, text, "kl_weight", factor=1 / 80))
    assert (len(gone), [line.replace("weight=1.0", "weight=80.0") for line in came]) == (1, gone)


KEPT = """\
class Kept(dict):
    __getattr__ = dict.__getitem__
"""


def test_a_name_that_is_used_for_more_than_the_weight_keeps_its_value(tmp_path):
    text = broken(FUNCTIONS, "KL_WEIGHT = 1.0", "KL_WEIGHT = 80.0")
    text = broken(text, "lr=2e-3", "lr=2e-5 * KL_WEIGHT")
    _, came = difference(text, edited(tmp_path, text, "kl_weight", factor=1 / 80))
    assert came == ["loss = (fit + 0.0125 * KL_WEIGHT * divergence(m, s).sum(1)).mean()"]


def test_a_weight_that_is_right_is_left(tmp_path):
    with pytest.raises(NoEdit, match="already"):
        edited(tmp_path, FUNCTIONS, "kl_weight", factor=1.0)


def test_of_two_names_the_one_with_the_number_is_the_weight(tmp_path):
    text = broken(FUNCTIONS, "    fit = ((y", "    fit, kl = terms(x, y, m, s)\n    unused = ((y")
    text = broken(text, "fit + KL_WEIGHT * divergence(m, s).sum(1)", "fit + KL_WEIGHT * kl")
    text = broken(text, "for step in", TWO_TERMS + "for step in")
    text = broken(text, "KL_WEIGHT = 1.0", "KL_WEIGHT = 80.0")
    gone, came = difference(text, edited(tmp_path, text, "kl_weight", factor=1 / 80))
    assert (gone, came) == (["KL_WEIGHT = 80.0"], ["KL_WEIGHT = 1.0"])


TWO_TERMS = """\
def terms(x, y, m, s):
    error = ((y - x) ** 2).sum(1) / (2 * 0.1**2)
    return error, divergence(m, s).sum(1)


"""


RAMPS = [
    ("def ramp(i):\n    return 80.0 * min(1.0, i + 1)\n\n\n", "ramp(step)", "return 1.0 * min(1.0, i + 1)"),
    ("TARGET = 80.0\nramp = lambda i: min(1.0, i + 1) * TARGET\n", "ramp(step)", "TARGET = 1.0"),
]  # fmt: skip


@pytest.mark.parametrize(("made", "used", "expected"), RAMPS)
def test_what_a_schedule_comes_to_is_changed_in_it(tmp_path, made, used, expected):
    text = broken(broken(FUNCTIONS, "for step in", f"{made}for step in"), "KL_WEIGHT * div", f"{used} * div")
    assert difference(text, edited(tmp_path, text, "kl_weight", factor=1 / 80))[1] == [expected]


@pytest.mark.parametrize(("factor", "weight"), [(1 / 70, "1.0"), (1 / 100, "1.0"), (1 / 50, "1.6"), (1 / 200, "0.4")])
def test_a_weight_that_is_almost_that_of_the_elbo_is_that(tmp_path, factor, weight):
    text = broken(FUNCTIONS, "KL_WEIGHT = 1.0", "KL_WEIGHT = 80.0")
    assert difference(text, edited(tmp_path, text, "kl_weight", factor=factor))[1] == [f"KL_WEIGHT = {weight}"]


def test_what_python_computes_is_the_weight_of_an_attribute(tmp_path):
    text = broken(FUNCTIONS, "for step in", "class Parts:\n    pass\n\n\nfor step in")
    text = broken(text, "    loss = (fit + KL_WEIGHT * divergence(m, s).sum(1)).mean()",
                  "    p = Parts()\n    p.kl = divergence(m, s).sum(1).mean()\n    loss = fit.mean() + min(1.0, step / 5000) * p.kl")  # fmt: skip
    assert difference(text, edited(tmp_path, text, "schedule", factor=0.02))[1] == [
        "loss = fit.mean() + min(1.0, step / 100) * p.kl"
    ]
