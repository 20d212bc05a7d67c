"""Generation scores against closed forms, and against the same sums done the slow way."""

from __future__ import annotations

import itertools
import math
from statistics import NormalDist

import numpy as np
import pytest
import torch
from scipy.stats import wasserstein_distance

from whyvae.distances import (
    NEIGHBOURS,
    kernel_distance,
    nearest,
    neighbourhoods,
    one_sided,
    sliced,
    squared_distances,
)  # fmt: skip
from whyvae.features import features_for, flat, noise_floor, pixels, random_convolutions, sequences
from whyvae.score import SAYS, Reference, score
from whyvae.testing import digits


def normal(n, d, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def shuffled_digits():
    return digits()[torch.randperm(1797, generator=torch.Generator().manual_seed(0))]  # they come writer by writer


def prdc(a, b):
    return neighbourhoods(
        nearest(squared_distances(a, a)), nearest(squared_distances(b, b)), squared_distances(a, b)
    )  # fmt: skip


SCORES = ("precision", "recall", "density", "coverage", "sliced", "kernel")


# ------------------------------------------------------------------ closed forms
@pytest.mark.parametrize(("n", "m", "d"), [(40, 40, 1), (40, 40, 3), (60, 30, 2)])
def test_density_and_coverage_of_equal_distributions(n, m, d):
    """Naeem et al. 2020, whatever the distribution: exchangeable rows. Four standard errors of 300 repetitions."""
    found = np.array([prdc(normal(n, d, s), normal(m, d, 10_000 + s)) for s in range(300)])
    error = 4 * found.std(0) / math.sqrt(300)
    k = NEIGHBOURS
    coverage = 1 - math.prod((n - j) / (n + m - j) for j in range(1, k + 1))
    assert found[:, 2].mean() == pytest.approx(1, abs=error[2])
    assert found[:, 3].mean() == pytest.approx(coverage, abs=error[3])


def test_disjoint_supports():
    a = normal(60, 3)
    assert prdc(a, a + 100) == (0, 0, 0, 0)
    assert prdc(a, a)[:2] == (1, 1)


def test_precision_and_recall_tell_the_half_that_is_missing_and_the_half_that_is_noise():
    """Two far clusters: generated rows fill one of them; or one of them and a place where nothing is."""
    a, b = normal(200, 2), normal(200, 2, 1) + 100
    precision, recall, _, coverage = prdc(torch.cat([a, b]), normal(400, 2, 2))
    assert precision > 0.97
    assert recall == pytest.approx(0.5, abs=0.02)
    assert coverage == pytest.approx(0.5, abs=0.02)
    precision, recall, density, _ = prdc(a, torch.cat([normal(100, 2, 2), normal(100, 2, 3) + 100]))
    assert precision == pytest.approx(0.5, abs=0.02)
    assert recall > 0.9
    assert density == pytest.approx(0.5, abs=0.08)


def test_sliced_distance_of_a_shift():
    a, shift = normal(300, 5), torch.linspace(-1, 2, 5, dtype=torch.float64)
    orthogonal = torch.linalg.qr(normal(5, 5, 3)).Q
    assert sliced(a, a + shift, orthogonal) == pytest.approx(float(shift.square().sum()) / 5, rel=1e-9)


def test_kernel_distance_of_two_gaussians():
    """E (x.y / d + 1)^3 over independent N(0, 1) and N(m, 1) in d = 1: moments of x y up to the third."""

    def expected(m1, m2):
        moments = [lambda m: 1.0, lambda m: m, lambda m: m**2 + 1, lambda m: m**3 + 3 * m]
        return sum(math.comb(3, j) * moments[j](m1) * moments[j](m2) for j in range(4))

    exact = expected(0, 0) + expected(0.7, 0.7) - 2 * expected(0, 0.7)
    found = np.array([kernel_distance(normal(100, 1, s), normal(100, 1, 5_000 + s) + 0.7) for s in range(400)])
    assert found.mean() == pytest.approx(exact, abs=4 * found.std() / 20)
    null = np.array([kernel_distance(normal(100, 1, s), normal(100, 1, 5_000 + s)) for s in range(400)])
    assert null.mean() == pytest.approx(0, abs=4 * null.std() / 20)


# ------------------------------------------------------------------ second derivations
def test_neighbourhoods_the_slow_way():
    a, b = normal(23, 2), 0.8 * normal(17, 2, 1)
    k = NEIGHBOURS

    def radius(rows, i):
        return sorted(math.dist(rows[i], rows[j]) for j in range(len(rows)) if j != i)[k - 1]

    ra, rb = [radius(a, i) for i in range(len(a))], [radius(b, i) for i in range(len(b))]
    near = [[math.dist(x, y) for y in b] for x in a]
    inside = [[near[i][j] <= ra[i] for j in range(len(b))] for i in range(len(a))]
    precision = sum(any(inside[i][j] for i in range(len(a))) for j in range(len(b))) / len(b)
    recall = sum(any(near[i][j] <= rb[j] for j in range(len(b))) for i in range(len(a))) / len(a)
    density = sum(map(sum, inside)) / (k * len(b))
    coverage = sum(min(near[i]) <= ra[i] for i in range(len(a))) / len(a)
    assert prdc(a, b) == pytest.approx((precision, recall, density, coverage), abs=1e-12)


def test_sliced_distance_is_scipys_along_one_direction():
    """W1 of scipy between squares' roots: for a scale c, W2^2 = (c - 1)^2 E x^2 and W1 = |c - 1| E |x|."""
    a = normal(200, 1)
    one = torch.ones(1, 1, dtype=torch.float64)
    moved = a + 0.3
    assert math.sqrt(sliced(a, moved, one)) == pytest.approx(wasserstein_distance(a[:, 0], moved[:, 0]), rel=1e-9)


def test_kernel_distance_the_slow_way():
    a, b = normal(7, 3), normal(5, 3, 1) + 0.5

    def mean(pairs):
        values = [(float(x @ y) / 3 + 1) ** 3 for x, y in pairs]
        return sum(values) / len(values)

    slow = mean(itertools.permutations(a, 2)) + mean(itertools.permutations(b, 2)) - 2 * mean(itertools.product(a, b))
    assert kernel_distance(a, b) == pytest.approx(slow, rel=1e-12)


def test_one_sidedness_of_a_row_between_two_columns():
    columns = torch.tensor([[0.0], [10.0], [30.0]], dtype=torch.float64)
    rows = torch.tensor([[2.0], [5.0], [0.0]], dtype=torch.float64)
    assert one_sided(squared_distances(rows, columns)).tolist() == pytest.approx([0.25, 1, 0])
    assert one_sided(squared_distances(columns, columns), itself=True).tolist() == pytest.approx([1 / 3, 0.5, 2 / 3])


# ------------------------------------------------------------------ the whole score
def test_real_rows_score_as_real_rows():
    found = score(normal(1024, 6), normal(512, 6, 1))
    assert found.n == 512
    assert found.kind() == "as real"
    for name in SCORES:
        measure = getattr(found, name)
        assert abs(measure.worse) < 4, name
    assert found.density.null == pytest.approx(1, abs=0.05)
    coverage = 1 - math.prod((512 - j) / (1024 - j) for j in range(1, NEIGHBOURS + 1))
    assert found.coverage.null == pytest.approx(coverage, abs=0.01)
    assert found.quality > 0.93


def test_shift_of_a_table_is_measured_in_spreads():
    """Columns in any units: the shift is 2 of their spreads in one of four columns."""
    units = torch.tensor([1.0, 1e3, 1e-3, 7.0], dtype=torch.float64)
    real, fake = normal(1024, 4) * units + 5, (normal(512, 4, 1) + torch.tensor([2.0, 0, 0, 0])) * units + 5
    found = score(real, fake)
    assert found.sliced.value == pytest.approx(4 / 4, rel=0.15)  # 256 directions, and sampling
    assert found.sliced.floor == pytest.approx(1, rel=1e-2)
    assert found.sliced.share == pytest.approx(0, abs=0.15)


@pytest.mark.parametrize("change", ["units", "order", "rotation", "dtype"])
def test_invariances(change):
    real, fake = normal(300, 6), 0.8 * normal(150, 6, 1)
    before = score(real, fake)
    turn = torch.linalg.qr(normal(6, 6, 3)).Q
    to = {
        "units": lambda r: 40 * r - 7, "order": lambda r: r[:, [3, 1, 0, 5, 4, 2]], "rotation": lambda r: r @ turn,
        "dtype": lambda r: r.float(),
    }[change]  # fmt: skip
    after = score(to(real), to(fake))
    tolerance = {"units": 1e-6, "order": 0.1, "rotation": 0.3, "dtype": 1e-3}[change]  # other directions; other units
    for name in ("precision", "recall", "density", "coverage"):
        exact = 0.05 if change == "rotation" else 1e-9 + 2e-2 * (change == "dtype")
        assert getattr(after, name).value == pytest.approx(getattr(before, name).value, abs=exact), name
    assert after.sliced.value == pytest.approx(before.sliced.value, rel=tolerance)


def test_same_seed_same_score_and_no_random_stream_touched():
    real, fake = digits()[:300], digits()[300:500]
    torch.manual_seed(5)
    first = score(real.view(-1, 1, 8, 8), fake.view(-1, 1, 8, 8))
    drawn = torch.rand(1)
    torch.manual_seed(5)
    assert torch.rand(1) == drawn
    assert score(real.view(-1, 1, 8, 8), fake.view(-1, 1, 8, 8)) == first


@pytest.fixture(scope="module")
def halves():
    rows = shuffled_digits()
    return Reference(rows[:1000]), rows


def corrupted(rows, how):
    generator = torch.Generator().manual_seed(1)
    if how == "noise":
        return rows + 0.2 * torch.randn(rows.shape, generator=generator)
    if how == "garbage":
        return torch.rand(rows.shape, generator=generator)
    if how == "shrunk":
        return 0.6 * rows + 0.4 * rows.mean(0)
    if how == "blur":
        images = torch.nn.functional.pad(rows.view(-1, 1, 8, 8), (1, 1, 1, 1), mode="replicate")
        return 0.5 * rows + 0.5 * torch.nn.functional.avg_pool2d(images, 3, 1).view(-1, 64)
    return rows


@pytest.mark.parametrize(
    ("how", "kind"),
    [("none", {"as real"}), ("noise", {"noise"}), ("garbage", {"noise", "noise and modes missing"}),
     ("shrunk", {"shrunk"}), ("blur", {"shrunk"})],
)  # fmt: skip
def test_kind_of_planted_corruptions(halves, how, kind):
    reference, rows = halves
    found = reference.score(corrupted(rows[1000:], how))
    assert found.kind() in kind
    assert found.kind() in SAYS


def test_kind_of_missing_modes():
    """Only the nearer half of the data, along its first principal direction."""
    rows = digits()
    along = (rows - rows.mean(0)) @ torch.linalg.svd(rows - rows.mean(0), full_matrices=False).Vh[0]
    order = along.argsort()
    assert score(rows, rows[order[:900:2]] + 1e-3).kind() in {"copies", "modes missing"}
    real = torch.cat([rows[order[::2]]])
    assert score(real, rows[order[1:900:2]]).kind() == "modes missing"


def test_quality_falls_with_severity(halves):
    reference, rows = halves
    noises = [0.0, 0.05, 0.1, 0.2, 0.4]
    made = normal(*rows[1000:].shape, 3)
    quality = [reference.score(rows[1000:] + noise * made).quality for noise in noises]
    assert quality == sorted(quality, reverse=True)
    assert quality[0] > 0.9
    assert quality[-1] < 0.1


def test_plausible_rows_make_up_precision(halves):
    reference, rows = halves
    half_noise = torch.cat([rows[1000:1250], torch.rand(250, 64, generator=torch.Generator().manual_seed(0))])
    plausible = reference.plausible(half_noise)
    assert float(plausible.mean()) == pytest.approx(reference.score(half_noise).precision.value, abs=1e-9)
    assert float(plausible[:250].mean()) > 0.9
    assert float(plausible[250:].max()) == 0


def test_copies_are_seen_and_unseen_rows_are_not(halves):
    reference, rows = halves
    copies = reference.score(rows[:400] + 0.01 * normal(400, 64, 2))
    assert copies.copies > 0.9
    assert copies.kind() == "copies"
    assert reference.score(rows[1000:]).copies < 0.01 + 4 * math.sqrt(0.01 / 398)


def test_copies_in_the_null_are_one_in_a_hundred():
    found = [score(normal(300, 8, s), normal(150, 8, 900 + s)).copies for s in range(10)]
    assert np.mean(found) == pytest.approx(0.01, abs=NormalDist().inv_cdf(0.9999) * math.sqrt(0.01 / 1500) + 0.005)


def test_fewer_generated_rows_are_compared_with_as_few_real_ones():
    found = score(normal(1024, 4), normal(100, 4, 1))
    assert found.n == 100
    coverage = 1 - math.prod((100 - j) / (200 - j) for j in range(1, NEIGHBOURS + 1))
    assert found.coverage.null == pytest.approx(coverage, abs=0.03)


@pytest.mark.parametrize("n", [20, 150, 400])
def test_the_sliced_distance_alone_is_the_one_of_the_whole_score(n):
    """From fewer rows than half the real ones, from as many, and from more."""
    reference, fake = Reference(normal(600, 7)), 0.8 * normal(n, 7, seed=1)
    whole, alone = Reference(normal(600, 7)).score(fake).sliced, reference.sliced(fake)
    assert vars_of(alone) == pytest.approx(vars_of(whole), rel=1e-12)
    assert vars_of(reference.score(fake).sliced) == vars_of(whole)


def vars_of(measure):
    return [measure.value, measure.null, measure.null_sd, measure.floor]


def test_own_features():
    real, fake = normal(200, 3), normal(100, 3, 1) + torch.tensor([0, 0, 9.0])
    assert score(real, fake).kind() != "as real"
    assert score(real, fake, features=lambda r: r[:, :2]).kind() == "as real"
    with pytest.raises(ValueError, match="features"):
        score(real, fake, features=lambda r: r.sum())


# ------------------------------------------------------------------ features by shape
@pytest.mark.parametrize(
    ("shape", "space"),
    [((1, 28, 28), pixels), ((32, 32, 3), pixels), ((28, 28), pixels), ((50, 3), sequences), ((2, 100), sequences),
     ((12,), flat), ((4, 5), flat)],
)  # fmt: skip
def test_features_follow_the_shape(shape, space):
    rows = normal(20, math.prod(shape)).view(20, *shape)
    chosen, texture = features_for(rows)
    assert getattr(chosen, "func", chosen) is space
    for made in (chosen(rows), texture(rows)):
        assert made.shape[0] == 20
        assert made.dim() == 2
        assert bool(torch.isfinite(made).all())


@pytest.mark.parametrize("side", [1, 5, 28, 33, 96])
def test_images_of_any_size(side):
    rows = normal(8, 3 * side * side).view(8, 3, side, side)
    assert random_convolutions(rows).shape[0] == 8
    assert pixels(rows).shape[1] <= max(1024, 3)


def test_channels_last_are_the_same_image():
    rows = normal(8, 3 * 16 * 16).view(8, 3, 16, 16)
    assert torch.equal(random_convolutions(rows), random_convolutions(rows.permute(0, 2, 3, 1)))


def test_time_major_and_channel_major_sequences_are_the_same():
    rows = normal(8, 3 * 40).view(8, 40, 3)
    floor = noise_floor(rows)
    assert torch.equal(sequences(rows, floor), sequences(rows.transpose(1, 2), floor))


def test_a_row_has_the_features_it_has_among_any_others():
    """Quieter rows beside it once shifted the noise floor, and all frequencies without power with it."""
    rows = normal(40, 3 * 40).view(40, 40, 3)
    space, _ = features_for(rows)
    assert torch.equal(space(rows)[:8], space(torch.cat([rows[:8], 0.1 * rows[8:]]))[:8])


def test_half_of_the_samples_quieter_leaves_the_other_half_as_real():
    time = torch.linspace(0, 6, 40, dtype=torch.float64)
    phase = 6.28 * torch.rand(800, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    noise = 0.03 * torch.randn(800, 40, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    rows = (torch.sin(time + phase) + noise)[..., None]
    made = torch.cat([rows[400:600], 0.2 * rows[600:]])
    assert score(rows[:400], made).precision.share == pytest.approx(0.5, abs=0.1)  # of 400, four standard errors


def test_rarely_lit_pixels_and_constant_ones_do_not_outvote_the_others():
    rows = shuffled_digits()
    real, fake = rows[:800], rows[800:1200]
    real[:, 0] = fake[:, 0] = 0
    real[3, 1] = 1
    fake[5, 0] = 0.2
    assert score(real, fake).kind() == "as real"


def test_spectrum_of_a_sequence_tells_rough_from_smooth():
    """The same values at each time, in another order for each row: only differences and spectrum change."""
    time = torch.linspace(0, 6, 40, dtype=torch.float64)
    phase = 6.28 * torch.rand(600, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    smooth = torch.sin(time + phase)[..., None]
    generator = torch.Generator().manual_seed(1)
    rough = torch.stack([row[torch.randperm(40, generator=generator)] for row in smooth[400:]])
    assert score(smooth[:400], rough).precision.value < 0.1
    assert score(smooth[:400], smooth[400:]).kind() == "as real"


# ------------------------------------------------------------------ refusals
def bad(n=100, d=3):
    rows = normal(n, d)
    rows[1, 1] = math.nan
    return rows


@pytest.mark.parametrize(
    ("real", "fake", "says"),
    [
        (normal(31, 3), normal(16, 3), "real: needs 32 rows, got 31"),
        (normal(32, 3), normal(15, 3), "fake: needs 16 rows, got 15"),
        (normal(40, 3), normal(40, 4), r"fake: wanted rows of shape \[3\], got \[4\]"),
        (normal(40, 3)[:, 0], normal(40, 3), r"real: wanted \[n, ...\]"),
        (bad(), normal(40, 3), "real: 1 of 100 rows are not finite"),
        (normal(40, 3), bad(), "fake: 1 of 100 rows are not finite"),
    ],
)
def test_refusals_say_why(real, fake, says):
    with pytest.raises(ValueError, match=says):
        score(real, fake)


def test_constant_real_rows_end_in_numbers():
    found = score(torch.ones(40, 5), torch.ones(20, 5))
    assert found.precision.value == 1
    assert all(math.isfinite(getattr(found, name).value) for name in SCORES)
