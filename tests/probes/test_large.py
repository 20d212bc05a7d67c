"""What is kept in memory of large examples is bounded, and costs no accuracy where they are small."""

import pytest
import torch
from linear import Linear

from whyvae.probes import data
from whyvae.probes.data import Data, eigenvalues
from whyvae.probes.latents import LatentUsage
from whyvae.probes.noise import Noise
from whyvae.probes.reconstruction import Reconstruction
from whyvae.watch.direct import BATCH


@pytest.mark.parametrize("shape", [(200, 12), (12, 200), (30, 30)])
def test_eigenvalues_of_either_product_are_those_of_the_covariance(shape):
    rows = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    centred = rows - rows.mean(0)
    expected = torch.linalg.eigvalsh(torch.cov(rows.T)).flip(0)[: min(shape)]
    assert eigenvalues(centred).tolist() == pytest.approx(expected.tolist(), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(("most", "steps"), [(2**24, 12), (3 * BATCH * 10, 3), (1, 1)])
def test_all_probes_look_at_the_same_bounded_examples(monkeypatch, most, steps):
    monkeypatch.setattr(data, "MOST_NUMBERS", most)
    bench = Linear.optimum(0.5, 6).bench()
    rows = steps * BATCH
    assert (bench.get(Data).rows, bench.get(Reconstruction).rows, bench.get(LatentUsage).rows) == (rows, rows, rows)


def test_noise_is_drawn_again_without_the_encoder(monkeypatch):
    bench = Linear.optimum(0.5, 6).bench()
    subject, ran = bench._subject, []
    original = subject.replay._needed

    def needed(targets, given):
        positions = original(targets, given)
        ran.extend(subject.tape.ops[i].name for i in positions)
        return positions

    monkeypatch.setattr(subject.replay, "_needed", needed)
    noise = bench.get(Noise)
    assert set(ran) == {"randn_like"}
    assert noise.count == 16 * BATCH * 6
    assert noise.kolmogorov < noise.critical
