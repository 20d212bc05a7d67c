"""An injection does to a training what the edit of the source does, to the last digits that rounding leaves."""

import pytest
import torch

from whyvae.examine import examine
from whyvae.probe import Bench
from whyvae.probes.objective import Objective
from whyvae.treat.case import Case
from whyvae.treat.injector import Injector
from whyvae.treat.points import posterior_points, sigma_of
from whyvae.treat.remedies.calibrated import Calibrated
from whyvae.treat.remedies.clip_gradients import ClipGradients
from whyvae.treat.remedies.kl_formula import KLFormula
from whyvae.treat.remedies.kl_weight import KLWeight
from whyvae.treat.remedies.learning_rate import LearningRate
from whyvae.treat.remedies.optimize_all import OptimizeAll
from whyvae.treat.remedies.sum_over_features import SumOverFeatures
from whyvae.treat.remedies.weight_decay import WeightDecay
from whyvae.treat.remedies.zero_grad import ZeroGrad
from whyvae.watch.script import run_script

SCRIPT = """
import torch
from torch import nn
import torch.nn.functional as F
torch.manual_seed(3)
X = torch.randn(150, 3) @ torch.randn(3, 12) + 0.1 * torch.randn(150, 12)
encoder, decoder = nn.Linear(12, 8), nn.Sequential(nn.Linear(4, 32), nn.Tanh(), nn.Linear(32, 12))
optimizer = torch.optim.SGD([*encoder.parameters(), *decoder.parameters()], lr={rate})
for step in range(60):
    x = X[step % 3 * 64 : step % 3 * 64 + 64]
    mu, logvar = encoder(x).chunk(2, dim=1)
    std = {std}
    z = mu + torch.randn_like(std) * std
    out = decoder(z)
    recon = {recon}
    kl = {kl}
    loss = {loss}
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""
PARTS = {
    "rate": "1e-4",
    "std": "(0.5 * logvar).exp()",
    "recon": "F.mse_loss(out, x, reduction='sum')",
    "kl": "-0.5 * (1 + logvar - mu ** 2 - logvar.exp()).sum()",
    "loss": "recon + kl",
}


def run(path, injector=None, **parts):
    path.write_text(SCRIPT.format(**{**PARTS, **parts}))
    outcome = run_script(str(path), [], inside=injector, ratio=1.3)  # the same steps recorded in each run
    assert outcome.error is None, outcome.error
    return outcome.subject


def parameters(subject):
    return [s.value.detach() for s in subject.tape.slots if s.trainable]


def case_of(subject, path):
    bench = Bench(subject)
    return Case(path, [], subject, bench, examine(subject, ("DAT01",), bench=bench))


def treated(path, remedy, code, case, **parts):
    proposals = list(remedy.proposals(case, code))
    assert proposals, "the remedy proposes nothing"
    injector = Injector()
    assert remedy.inject(proposals[0].settings, injector)
    subject = run(path, injector, **parts)
    assert injector.backwards == 60
    assert injector.missed == 0
    return subject, proposals[0]


def test_a_rescaled_kl_trains_as_the_edited_script_does(tmp_path):
    ill = {"loss": "recon + 100 * kl", "rate": "1e-5"}
    case = case_of(run(tmp_path / "a.py", **ill), tmp_path / "a.py")
    subject, proposal = treated(tmp_path / "a.py", KLWeight, "OBJ01", case, **ill)
    edited = run(tmp_path / "b.py", rate="1e-5", loss=f"recon + {100 * proposal.settings['factor']} * kl")
    for ours, theirs in zip(parameters(subject), parameters(edited), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("std", [PARTS["std"], "F.softplus(logvar)"])
def test_so_does_one_at_the_sample(tmp_path, std):
    """Log q - log p of the very z that is decoded: taken out with its noise, to the last digits."""
    kl = "(0.5 * z ** 2 - 0.5 * ((z - mu) / std) ** 2 - std.log()).sum()"
    ill = {"loss": "recon + 100 * kl", "rate": "1e-5", "kl": kl, "std": std}
    case = case_of(run(tmp_path / "a.py", **ill), tmp_path / "a.py")
    subject, proposal = treated(tmp_path / "a.py", KLWeight, "OBJ01", case, **ill)
    edited = run(tmp_path / "b.py", **{**ill, "loss": f"recon + {100 * proposal.settings['factor']} * kl"})
    for ours, theirs in zip(parameters(subject), parameters(edited), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_means_become_sums_in_the_last_smaller_batch_too(tmp_path):
    """The third batch has 22 rows: there a mean weighs each row three times as much."""
    ill = {"recon": "F.mse_loss(out, x)", "kl": "-0.5 * (1 + logvar - mu ** 2 - logvar.exp()).sum(1).mean()"}
    case = case_of(run(tmp_path / "a.py", **ill), tmp_path / "a.py")
    subject, _ = treated(tmp_path / "a.py", SumOverFeatures, "OBJ02", case, **ill)
    edited = run(tmp_path / "b.py", loss="(recon + kl) / (12 * len(x))")
    for ours, theirs in zip(parameters(subject), parameters(edited), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "kl",
    [
        "-0.5 * (1 + logvar - mu - logvar.exp()).sum()",
        "0.5 * (1 + logvar - mu ** 2 - logvar.exp()).sum()",
        "-0.5 * (1 + logvar - logvar.exp()).sum()",
        "-0.5 * (1 + logvar.detach() - mu.detach() ** 2 - logvar.detach().exp()).sum()",
    ],
    ids=["mu not squared", "sign", "mu missing", "detached"],
)
def test_a_wrong_kl_is_replaced_by_the_right_one(tmp_path, kl):
    case = case_of(run(tmp_path / "a.py", kl=kl), tmp_path / "a.py")
    subject, proposal = treated(tmp_path / "a.py", KLFormula, "OBJ05", case, kl=kl)
    edited = run(tmp_path / "b.py", loss=f"recon + {proposal.settings['weight']} * kl")
    for ours, theirs in zip(parameters(subject), parameters(edited), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_a_wrong_one_at_the_sample_is_replaced_by_the_right_one_there(tmp_path):
    wrong = "(0.5 * z ** 2 - 0.5 * ((z - mu) / std) ** 2).sum()"
    case = case_of(run(tmp_path / "a.py", kl=wrong), tmp_path / "a.py")
    subject, proposal = treated(tmp_path / "a.py", KLFormula, "OBJ05", case, kl=wrong)
    edited = run(
        tmp_path / "b.py", kl=f"({wrong} - std.log().sum())", loss=f"recon + {proposal.settings['weight']} * kl"
    )
    for ours, theirs in zip(parameters(subject), parameters(edited), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_a_calibrated_kl_weighs_as_much_as_the_residual(tmp_path):
    case = case_of(run(tmp_path / "a.py"), tmp_path / "a.py")
    settings = next(iter(Calibrated.proposals(case, "OBJ03"))).settings
    injector, seen = Injector(), []
    assert Calibrated.inject(settings, injector)
    injector.at_loss(lambda loss: seen.append((injector.met["output"] - injector.met["target"]).detach()) or loss)
    subject = run(tmp_path / "a.py", injector)
    running = 0.0
    for i, residual in enumerate(seen[: subject.main.index + 1]):
        mse = float(residual.square().mean())
        running = mse if i == 0 else running + 0.1 * (mse - running)
    assert Bench(subject).get(Objective).noise_variance == pytest.approx(running, rel=1e-3)


@pytest.mark.parametrize(
    ("std", "kl", "spread_as"),
    [
        ("(0.5 * logvar).exp()", PARTS["kl"], "sigma"),
        ("F.softplus(logvar)", "(0.5 * (mu ** 2 + std ** 2 - 1) - std.log()).sum()", "sigma"),
        ("logvar.exp().sqrt()", PARTS["kl"], "sigma"),
    ],
)
def test_mu_and_sigma_are_found_by_their_values(tmp_path, std, kl, spread_as):
    subject = run(tmp_path / "a.py", std=std, kl=kl)
    points = posterior_points(subject)
    assert points is not None
    assert points.spread_as == spread_as
    injector = Injector()
    injector.want("mu", points.mu)
    injector.want("spread", points.spread)
    met = []
    injector.at_loss(lambda loss: met.append(dict(injector.met)) or loss)
    run(tmp_path / "a.py", injector, std=std, kl=kl)
    assert len(met) == 60
    assert all(m["mu"].shape == m["spread"].shape == (len(m["mu"]), 4) for m in met)
    assert bool((sigma_of(met[-1]["spread"], spread_as) > 0).all())


def by_hand(tmp_path, settings, remedy, ill, edited):
    """Parameters after the injection into the ill script, and after the edited one."""
    path, injector = tmp_path / "a.py", Injector()
    assert remedy.inject(settings, injector)
    path.write_text(ill)
    treated = run_script(str(path), [], inside=injector)
    path.write_text(edited)
    return parameters(treated.subject), parameters(run_script(str(path), []).subject)


TRAIN = SCRIPT.format(**PARTS)
STEP = "    optimizer.step()\n"


@pytest.mark.parametrize(
    ("remedy", "settings", "ill", "edited"),
    [
        (LearningRate, {"factor": 0.1}, TRAIN, TRAIN.replace("lr=1e-4", "lr=1e-5")),
        (
            ClipGradients, {"norm": 1.0}, TRAIN,
            TRAIN.replace(STEP, "    nn.utils.clip_grad_norm_([*encoder.parameters(), *decoder.parameters()], 1.0)\n" + STEP),
        ),
        (ZeroGrad, {}, TRAIN.replace("    optimizer.zero_grad()\n", ""), TRAIN),
        (OptimizeAll, {}, TRAIN.replace("[*encoder.parameters(), *decoder.parameters()]", "encoder.parameters()"), TRAIN),
        (WeightDecay, {"decay": 0.5}, TRAIN, TRAIN.replace("lr=1e-4", "lr=1e-4, weight_decay=0.5")),
    ],
    ids=lambda v: v.__name__ if isinstance(v, type) else "",
)  # fmt: skip
def test_steps_are_made_as_in_the_edited_script(tmp_path, remedy, settings, ill, edited):
    assert ill != edited
    for ours, theirs in zip(*by_hand(tmp_path, settings, remedy, ill, edited), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_an_injector_without_a_task_changes_nothing(tmp_path):
    plain, watched = run(tmp_path / "a.py"), run(tmp_path / "b.py", Injector())
    for ours, theirs in zip(parameters(plain), parameters(watched), strict=True):
        assert torch.equal(ours, theirs)
