"""Measurements of a healthy model, as literals; a test replaces what its rule looks at.

Two exact neighbours of a limit stand in each test, so that another limit, or another operator, is noticed.
"""

from math import inf

from whyvae.audit.reductions import Reductions
from whyvae.audit.regulariser import Regulariser
from whyvae.probes.balance import Balance
from whyvae.probes.data import Data
from whyvae.probes.finite import Finiteness
from whyvae.probes.heads import Heads
from whyvae.probes.latents import LatentUsage
from whyvae.probes.noise import Noise
from whyvae.probes.objective import Objective
from whyvae.probes.output import OutputActivation, OutputRange
from whyvae.probes.sampling import Draws
from whyvae.probes.target import TargetMatch
from whyvae.probes.wiring import Wiring
from whyvae.verdict import Finding, Where

DATA_AT, KL_AT, LIKELIHOOD_AT, Z_AT, OUTPUT_AT, STEP_AT, BACKWARD_AT = (Where("train.py", line) for line in range(1, 8))

DATA = Data(
    rows=1024, shape=(1, 28, 28), low=0.0, high=1.0, mean=0.13, sd=0.31, not_finite=0, refused=0, spread_ratio=2.0,
    constant_features=0, target_low=0.0, target_high=1.0, target_binary=False, input_rms=0.33, at=DATA_AT,
)  # fmt: skip
REGULARISER = Regulariser("exact", 1 / 64, (1 / 64, 1 / 64, 1 / 64, 0.0), 1e-9)
OBJECTIVE = Objective(
    posterior="diagonal Gaussian", regulariser=REGULARISER, family="gaussian", likelihood_name="Gaussian (squared error)",
    scale=0.4, sign=1, likelihood_residual=1e-9, noise_variance=0.04, noise_variance_first=0.04,
    noise_variance_half_batch=0.04, features=784, latents=8, batch=64, reductions=Reductions(1.0, 1.0), learned_scale=False,
    not_auditable="", loss_function="mse_loss", regulariser_at=KL_AT, likelihood_at=LIKELIHOOD_AT, pull=1.0,
    prior_is_learned=False,
)  # fmt: skip
BALANCE = Balance(
    s=0.04,
    fitting=0.04,
    threshold=5.3,
    kept=0.9,
    useful_now=6,
    useful_fitting=6,
    prior_excess=0.01,
    rate=12.0,
    nats_lost=0.0,
)
USAGE = LatentUsage(
    kl_per_unit=(2.0, 1.0, 0.5, 0.5), rate=4.0, active=4, units=4, smallest_sigma=0.1, largest_sigma=1.0, negative_sigma=0.0,
    gap=0.3, gap_diagonal=0.3, mu_range=(-3.0, 3.0), log_sigma_range=(-2.3, 0.0), rows=1024,
)  # fmt: skip
NOISE = Noise(
    drawn_by="randn_like",
    uniform=False,
    mean=0.0,
    sd=1.0,
    count=4096,
    kolmogorov=0.01,
    critical=0.042,
    shared="",
    at=Z_AT,
)
HEADS = Heads(
    mu_low=-inf, mu_high=inf, log_sigma_low=-inf, log_sigma_high=inf, mu_at_wall=0.0, mu_op="", mu_at=None,
    log_sigma_at_wall=0.0, log_sigma_op="", log_sigma_at=None,
)  # fmt: skip
ACTIVATION = OutputActivation(activations=(), low=-inf, high=inf, own_low=-inf, own_high=inf, at=OUTPUT_AT)
RANGE = OutputRange(
    activation="sigmoid", low=0.0, high=1.0, unreachable=0.0, outside=0.0, variance=50.0, data_low=0.0, data_high=1.0,
    at=OUTPUT_AT,
)  # fmt: skip
TARGET = TargetMatch(
    comparable=True, exact=True, same_origin=True, own_row=1.0, own_feature=1.0, slope=1.0, offset=0.0, affine=True,
    reordered=False, broadcast="", batch=64, at=LIKELIHOOD_AT,
)  # fmt: skip
WIRING = Wiring(
    unstepped=(), unstepped_share=0.0, without_gradient=(), without_gradient_share=0.0, parameters=10_000, stale=0.0,
    stale_steps=5, optimizers=("Adam",), reconstruction_reaches_encoder=True, output_depends_on_latent=3.0, latent_at=Z_AT,
    backward_at=BACKWARD_AT, step_at=STEP_AT,
)  # fmt: skip
NUMBERS = Finiteness(
    step=None, parameters_finite=True, op="", at=None, steps=900, lr=1e-3, largest_loss=300.0, first_loss=300.0
)
RIGHT = Draws(
    at=Where("train.py", 40), drawn_by="randn", rows=16, distinct=16, units=8, distinct_units=8, numbers=8192, mean=0.0,
    sd=1.0, nats=0.0, nats_encodings=0.02, chance=0.0, judged=True, conditional=False, step=900,
)  # fmt: skip


def found(verdict, *words, at=None, severity="error"):
    """`verdict`, a finding at this line, whose summary holds `words` (numbers, for a newcomer), proved and with a remedy."""
    assert isinstance(verdict, Finding), verdict
    assert [word for word in words if word not in verdict.summary] == [], verdict.summary
    assert (verdict.where, verdict.severity) == (at, severity)
    assert verdict.evidence
    assert all(e.incriminating for e in verdict.evidence)
    assert verdict.remedies
    assert all(remedy.name and remedy.how for remedy in verdict.remedies)
    return verdict
