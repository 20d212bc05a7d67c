"""The score test of further latents against the closed form of the linear VAE."""

import math

import pytest
import torch

from whyvae.probes.missed import _along


def test_held_out_variances_along_the_first_directions_are_the_eigenvalues():
    generator = torch.Generator().manual_seed(5)
    spread = torch.tensor([3.0, 2.0, 1.0, *[0.1] * 9], dtype=torch.float64)
    turn = torch.linalg.qr(torch.randn(12, 12, generator=generator, dtype=torch.float64)).Q
    rows = torch.randn(40_000, 12, generator=generator, dtype=torch.float64) * spread @ turn.T
    fit, judge = torch.arange(30_000), torch.arange(30_000, 40_000)
    assert _along(rows, fit, judge, 3) == pytest.approx([9.0, 4.0, 1.0], rel=0.04)


def test_noise_gains_nothing_on_examples_held_back():
    generator = torch.Generator().manual_seed(6)
    rows = torch.randn(400, 200, generator=generator, dtype=torch.float64)
    along = _along(rows, torch.arange(300), torch.arange(300, 400), 8)
    fitted = _along(rows, torch.arange(300), torch.arange(300), 8)
    assert max(along) < 1.5 < min(fitted)  # what is fitted to noise looks like (1 + sqrt(D / n))^2
    assert math.isclose(sum(along) / 8, 1.0, rel_tol=0.15)
