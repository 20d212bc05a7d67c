"""The terms of the objective: reductions, the formula of the KL, a calibrated reconstruction."""

from __future__ import annotations

import pytest
from patients import DISTRIBUTIONS, FUNCTIONS, TRAINER, broken, difference, edited

from whyvae.treat.remedy import NoEdit

BCE = 'F.binary_cross_entropy(input=recon, target=x, reduction="none").sum(dim=1).mean()'
KL = "(-0.5 * (1 + logvar - mu.pow(2) - logvar.exp())).sum(dim=1).mean()"
HALF = "0.5 * (m**2 + torch.exp(2 * s) - 2 * s - 1)"

REDUCTIONS = [
    (TRAINER, (BCE, "F.binary_cross_entropy(recon, x)"), 'rec = F.binary_cross_entropy(recon, x, reduction="sum") / len(x)'),
    (TRAINER, (BCE, 'F.binary_cross_entropy(recon, x, reduction="mean")'),
     'rec = F.binary_cross_entropy(recon, x, reduction="sum") / len(x)'),
    (TRAINER, (BCE, "nn.MSELoss()(recon, x)"), "rec = nn.MSELoss()(recon, x) * x[0].numel()"),
    (TRAINER, (BCE, "torch.mean((recon - x) ** 2)"), "rec = torch.sum((recon - x) ** 2) / len(x)"),
    (TRAINER, (KL, KL.replace("sum(dim=1).mean()", "mean()")),
     "kld = (-0.5 * (1 + logvar - mu.pow(2) - logvar.exp())).sum() / len(x)"),
    (TRAINER, (KL, KL.replace("sum(dim=1)", "mean(dim=1)")), f"kld = {KL}"),
    (TRAINER, (KL, KL.replace("sum(dim=1).mean()", "sum()")), f"kld = {KL.replace('.sum(dim=1).mean()', '.sum()')} / len(x)"),
    (FUNCTIONS, ("((y - x) ** 2).sum(1)", "((y - x) ** 2).mean(1)"), "fit = ((y - x) ** 2).sum(1) / (2 * 0.1**2)"),
    (FUNCTIONS, ("divergence(m, s).sum(1)", "divergence(m, s).mean(1)"),
     "loss = (fit + KL_WEIGHT * divergence(m, s).sum(1)).mean()"),
]  # fmt: skip


@pytest.mark.parametrize(("patient", "mistake", "expected"), REDUCTIONS)
def test_reductions_become_sums_over_features_averaged_over_the_batch(tmp_path, patient, mistake, expected):
    text = broken(patient, *mistake)
    new = edited(tmp_path, text, "sum_over_features")
    assert difference(text, new)[1] == [expected]
    with pytest.raises(NoEdit):
        edited(tmp_path, new, "sum_over_features")


@pytest.mark.parametrize("patient", [TRAINER, FUNCTIONS, DISTRIBUTIONS])
@pytest.mark.parametrize("remedy", ["sum_over_features", "kl_formula"])
def test_what_is_right_is_left(tmp_path, patient, remedy):
    with pytest.raises(NoEdit):
        edited(tmp_path, patient, remedy)


FORMULAS = [
    (TRAINER, ("mu.pow(2) - logvar.exp()", "mu - logvar.exp()"),
     "kld = (-0.5 * (1 + logvar - mu**2 - logvar.exp())).sum(dim=1).mean()"),
    (TRAINER, ("(-0.5 * (1 + logvar", "(0.5 * (1 + logvar"), "kld = (0.5 * (mu**2 + logvar.exp() - logvar - 1)).sum(dim=1).mean()"),
    (TRAINER, ("1 + logvar - mu.pow(2) - logvar.exp()", "1 + logvar - mu.pow(2) - logvar.exp().pow(2)"),
     "kld = (-0.5 * (1 + logvar - mu**2 - logvar.exp())).sum(dim=1).mean()"),
    (TRAINER, ("(-0.5 * (1 + logvar - mu.pow(2) - logvar.exp())).sum(dim=1).mean()",
               "0.5 * (mu.mean(0).pow(2) + logvar.exp().mean(0) - 1 - logvar.mean(0)).sum()"),
     "kld = 0.5 * ((mu**2 + logvar.exp() - logvar - 1).mean(0)).sum()"),
    (TRAINER, ("(-0.5 * (1 + logvar - mu.pow(2) - logvar.exp())).sum(dim=1).mean()",
               "(mu.mean(0).pow(2) + logvar.mean(0).exp() - 1 - logvar.mean(0)).sum() / 2"),
     "kld = ((mu**2 + logvar.exp() - logvar - 1).mean(0)).sum() / 2"),
    (FUNCTIONS, (HALF, "0.5 * (m**2 + torch.exp(s) - s - 1)"), "return 0.5 * (m**2 + (2 * s).exp() - 2 * s - 1)"),
    (FUNCTIONS, (HALF, "0.5 * (torch.exp(2 * s) - 2 * s - 1) + 0 * m"), "return 0.5 * (m**2 + (2 * s).exp() - 2 * s - 1)"),
]  # fmt: skip


@pytest.mark.parametrize(("patient", "mistake", "expected"), FORMULAS)
def test_the_kl_of_the_sampled_posterior_in_the_users_names(tmp_path, patient, mistake, expected):
    text = broken(patient, *mistake)
    new = edited(tmp_path, text, "kl_formula")
    assert difference(text, new)[1] == [expected]
    with pytest.raises(NoEdit):
        edited(tmp_path, new, "kl_formula")


def test_a_squared_error_is_wrapped_into_its_logarithm(tmp_path):
    new = edited(tmp_path, FUNCTIONS, "calibrated")
    assert difference(FUNCTIONS, new)[1] == [
        "loss = (16 / 2 * torch.log(fit.mean()) + KL_WEIGHT * divergence(m, s).sum(1)).mean()"
    ]


def test_an_explicit_weight_goes_with_the_calibration(tmp_path):
    text = broken(FUNCTIONS, "KL_WEIGHT = 1.0", "KL_WEIGHT = 1e-3")
    assert "KL_WEIGHT = 1" in difference(text, edited(tmp_path, text, "calibrated"))[1]


def test_what_is_no_squared_error_gets_a_snippet(tmp_path):
    with pytest.raises(NoEdit, match="squared error") as no:
        edited(tmp_path, TRAINER, "calibrated")
    compile(no.value.snippet, "snippet", "exec")
    assert no.value.where.endswith(":62") or "script.py:" in no.value.where


OWN = """\
class Divergence(torch.autograd.Function):
    @staticmethod
    def forward(ctx, m, s):
        ctx.save_for_backward(m, s)
        return (0.5 * (torch.exp(2 * s) - 1) - s).sum(SUM)

    @staticmethod
    def backward(ctx, g):
        m, s = ctx.saved_tensors
        return torch.zeros_like(m), g GROWN * (torch.exp(2 * s) - 1)


for step in"""


@pytest.mark.parametrize(("summed", "grown", "used", "expected"), [
    ("-1", "[:, None]", "Divergence.apply(m, s)",
     "loss = (fit + KL_WEIGHT * (0.5 * (m**2 + (2 * s).exp() - 2 * s - 1).sum(-1))).mean()"),
    ("", "", "Divergence.apply(m, s) / len(x)",
     "loss = (fit + KL_WEIGHT * (0.5 * (m**2 + (2 * s).exp() - 2 * s - 1).sum()) / len(x)).mean()"),
])  # fmt: skip
def test_a_function_with_a_gradient_of_its_own(tmp_path, summed, grown, used, expected):
    text = broken(FUNCTIONS, "for step in", OWN.replace("SUM", summed).replace(" GROWN", grown))
    text = broken(text, "KL_WEIGHT * divergence(m, s).sum(1)", f"KL_WEIGHT * {used}")
    assert difference(text, edited(tmp_path, text, "kl_formula"))[1] == [expected]


@pytest.mark.parametrize("formula", [KL, KL.replace("0.5", "1.5")])
def test_a_formula_without_weight_is_left(tmp_path, formula):
    text = broken(broken(TRAINER, "beta: float = 1.0", "beta: float = 0.0"), KL, formula)
    with pytest.raises(NoEdit, match="weight 0"):
        edited(tmp_path, text, "kl_formula")


def test_a_division_behind_a_product_needs_no_parentheses(tmp_path):
    text = broken(TRAINER, KL, "-0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())")
    assert difference(text, edited(tmp_path, text, "batch_average"))[1] == [
        "kld = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp()) / len(x)"
    ]


@pytest.mark.parametrize(("wrong", "right"), [
    ("mu.sum(1).pow(2)", "mu.pow(2).sum(1)"), ("mu.sum(dim=1) ** 2", "(mu ** 2).sum(dim=1)"),
    ("mu.sum(-1).square()", "mu.pow(2).sum(-1)"),
])  # fmt: skip
def test_a_square_of_a_sum_becomes_a_sum_of_squares(tmp_path, wrong, right):
    text = broken(
        TRAINER, "(-0.5 * (1 + logvar - mu.pow(2) - logvar.exp())).sum(dim=1).mean()",
        f"0.5 * (logvar.exp().sum(1) + {wrong} - logvar.sum(1) - 4).mean()",
    )  # fmt: skip
    assert difference(text, edited(tmp_path, text, "kl_formula"))[1] == [
        f"kld = 0.5 * (logvar.exp().sum(1) + {right} - logvar.sum(1) - 4).mean()"
    ]


@pytest.mark.parametrize(("wrong", "right"), [
    ("0.5 * (logvar.exp().sum(1) + mu.abs().sum(1) - logvar.sum(1) - 4).mean()",
     "0.5 * ((mu**2 + logvar.exp() - logvar - 1).sum(-1)).mean()"),
    ("0.5 * (logvar.exp().sum() + mu.abs().sum() - logvar.sum()) / len(x)",
     "0.5 * ((mu**2 + logvar.exp() - logvar - 1).sum()) / len(x)"),
    ("-0.5 * (4 + logvar.sum(-1) - mu.abs().sum(-1) - logvar.exp().sum(-1)).mean()",
     "-0.5 * ((1 + logvar - mu**2 - logvar.exp()).sum(-1)).mean()"),
    ("(0.5 * logvar.exp().mean(1) + 0.5 * mu.abs().mean(1) - 0.5 * logvar.mean(1)).mean()",
     "(0.5 * (mu**2 + logvar.exp() - logvar - 1).mean(-1)).mean()"),
])  # fmt: skip
def test_parts_of_a_kl_that_were_summed_apart(tmp_path, wrong, right):
    text = broken(TRAINER, "(-0.5 * (1 + logvar - mu.pow(2) - logvar.exp())).sum(dim=1).mean()", wrong)
    assert difference(text, edited(tmp_path, text, "kl_formula"))[1] == [f"kld = {right}"]


@pytest.mark.parametrize(("wrong", "right"), [
    ("(0.5 * z.pow(2) - 0.5 * eps.pow(2)).sum(1).mean()", "(0.5 * (mu**2 + logvar.exp() - logvar - 1)).sum(1).mean()"),
    ("((-0.5 * eps**2 - 0.92).sum(1) - (-0.5 * z**2 - 0.92).sum(1)).mean()",
     "(0.5 * (mu**2 + logvar.exp() - logvar - 1).sum(-1)).mean()"),
    ("(z**2 - eps**2).sum() / 2 / len(x)", "(mu**2 + logvar.exp() - logvar - 1).sum() / 2 / len(x)"),
])  # fmt: skip
def test_a_log_q_without_its_log_sigma(tmp_path, wrong, right):
    """A KL at the sample, of the noise and not of z."""
    text = broken(TRAINER, "recon, mu, logvar = self.model(x)", "recon, mu, logvar, z = self.model(x)")
    text = broken(text, "return self.decoder(z), mu, logvar", "return self.decoder(z), mu, logvar, z")
    text = broken(
        text, "(-0.5 * (1 + logvar - mu.pow(2) - logvar.exp())).sum(dim=1).mean()",
        wrong.replace("eps", "((z - mu) / torch.exp(0.5 * logvar))"),
    )  # fmt: skip
    assert difference(text, edited(tmp_path, text, "kl_formula"))[1] == [f"kld = {right}"]
