"""Data families of the bank: small, made from a seed (or shipped with scikit-learn), rows shuffled, values float32.

Images are [n, 1, h, w] in [0, 1]; tables are [n, features], each feature with mean 0 and variance 1; sequences are
[n, steps, 1] and curves [n, 1, points], both about in [-1.5, 1.5].
"""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np

Array = np.ndarray
ROWS = 4500


def load(family: str, seed: int) -> Array:
    """The rows of `family`; `seed` draws other rows (or the same ones in another order, where they are given)."""
    rng = np.random.default_rng([seed, sorted(MAKERS).index(family)])
    rows = MAKERS[family](rng)
    shuffled: Array = rows[rng.permutation(len(rows))].astype(np.float32)
    return shuffled


def available() -> list[str]:
    return [family for family in MAKERS if family != "mnist" or mnist_file() is not None]


def mnist_file() -> Path | None:
    """MNIST is used where it lies in a folder `shared/data/mnist` beside the repository or above it."""
    name = "shared/data/mnist/t10k-images-idx3-ubyte.gz"
    return next((p / name for p in Path(__file__).resolve().parents if (p / name).exists()), None)


def _mnist(rng: np.random.Generator) -> Array:
    path = mnist_file()
    if path is None:
        raise FileNotFoundError("no shared/data/mnist above this repository")
    with gzip.open(path) as file:
        pixels = np.frombuffer(file.read(), np.uint8, offset=16)
    return pixels.reshape(-1, 1, 28, 28)[rng.permutation(10000)[: 2 * ROWS]] / 255.0


def _digits(rng: np.random.Generator) -> Array:
    from sklearn.datasets import load_digits

    images: Array = load_digits().images[:, None] / 16
    return images


def _grid(size: int) -> tuple[Array, Array]:
    y, x = np.mgrid[:size, :size]
    return x[None] - (size - 1) / 2, y[None] - (size - 1) / 2


def _soft(distance: Array) -> Array:
    """1 inside (negative distance), 0 outside, blurred over one pixel."""
    return np.clip(0.5 - distance, 0, 1)


def _sprites(rng: np.random.Generator) -> Array:
    """12 x 12: a disc, a square or a bar somewhere, of some size; after dSprites."""
    x, y = _grid(12)
    cx, cy = rng.uniform(-2.5, 2.5, (2, ROWS, 1, 1))
    r = rng.uniform(1.6, 3.0, (ROWS, 1, 1))
    dx, dy = np.abs(x - cx), np.abs(y - cy)
    shapes = np.stack([np.hypot(dx, dy) - r, np.maximum(dx, dy) - r, np.maximum(dx - 1.6 * r, dy - 0.6 * r)])
    return _soft(shapes[rng.integers(0, 3, ROWS), np.arange(ROWS)])[:, None]


SEGMENTS = ((0, -1, 1, 0), (0.5, -0.5, 0, 1), (0.5, 0.5, 0, 1), (0, 1, 1, 0), (-0.5, 0.5, 0, 1), (-0.5, -0.5, 0, 1),
            (0, 0, 1, 0))  # fmt: skip
LETTERS = ("011011", "111011", "100111", "0111101", "1001111", "1000111", "0110111", "0001110", "1100111", "0111111")


def _glyphs(rng: np.random.Generator) -> Array:
    """12 x 12: ten letters of seven strokes, slanted, shifted, thick and thin."""
    x, y = _grid(12)
    slant, cx, cy = rng.uniform(-0.25, 0.25, (ROWS, 1, 1)), *rng.uniform(-1, 1, (2, ROWS, 1, 1))
    thick, size = rng.uniform(0.5, 1.1, (ROWS, 1, 1)), rng.uniform(3.2, 4.2, (ROWS, 1, 1))
    y0 = y - cy
    x0 = x - cx + slant * y0
    letter = rng.integers(0, len(LETTERS), ROWS)
    image = np.zeros((ROWS, 12, 12))
    for bit, (mx, my, across, along) in enumerate(SEGMENTS):
        on = np.array([len(code) > bit and code[bit] == "1" for code in LETTERS])[letter]
        dx = np.abs(x0 - mx * size) - across * 0.5 * size
        dy = np.abs(y0 - my * size) - along * 0.5 * size
        image = np.maximum(image, on[:, None, None] * _soft(np.maximum(dx, dy) - thick))
    return image[:, None]


def _patches(rng: np.random.Generator) -> Array:
    """8 x 8 cut from dead leaves (Lee, Mumford & Huang 2001): overlapping discs, sizes by a power law, then blurred."""
    side, leaves = 160, 3500
    yy, xx = np.mgrid[:side, :side]
    canvas = np.full((side, side), 0.5)
    radius = 3 * (1 - rng.random(leaves) * 0.985) ** -0.5
    for r in radius:
        cx, cy = rng.uniform(0, side, 2)
        x0, x1, y0, y1 = (int(max(0, v)) for v in (cx - r, cx + r + 2, cy - r, cy + r + 2))
        inside = (xx[y0:y1, x0:x1] - cx) ** 2 + (yy[y0:y1, x0:x1] - cy) ** 2 < r * r
        canvas[y0:y1, x0:x1][inside] = rng.uniform(0.1, 0.9)
    for axis in (0, 1):
        canvas = (np.roll(canvas, 1, axis) + 2 * canvas + np.roll(canvas, -1, axis)) / 4
    at = rng.integers(0, side - 8, (2, ROWS))
    return np.stack([canvas[i : i + 8, j : j + 8] for i, j in at.T])[:, None]


def _standard(rows: Array) -> Array:
    return (rows - rows.mean(0)) / rows.std(0)


def _tabular(rng: np.random.Generator) -> Array:
    """12 columns as a census has them: age, schooling, income (skewed), rent, ... driven by four hidden factors."""
    age, school, luck, town = rng.normal(size=(4, ROWS))
    income = np.exp(0.5 * school + 0.4 * np.tanh(age) + 0.4 * luck)
    columns = [age, school, income, np.log(income) + 0.3 * town, income * (town > 0), np.tanh(age - luck),
               school * town, np.abs(age), luck, town, np.cos(2 * age) + 0.3 * luck, school - 0.5 * age]  # fmt: skip
    return _standard(np.stack(columns, 1) + 0.15 * rng.normal(size=(ROWS, 12)))


def _mixture(rng: np.random.Generator) -> Array:
    """16 features: six Gaussian clusters in three dimensions, bent and mixed."""
    centre = 2.2 * rng.normal(size=(6, 3))
    z = centre[rng.integers(0, 6, ROWS)] + 0.5 * rng.normal(size=(ROWS, 3))
    x = np.tanh(z @ rng.normal(size=(3, 24)) / 1.7) @ rng.normal(size=(24, 16)) / 5
    return _standard(x + 0.08 * rng.normal(size=x.shape))


def _factors(rng: np.random.Generator) -> Array:
    """16 features: four Gaussian factors through tanh units."""
    x = np.tanh(rng.normal(size=(ROWS, 4)) @ rng.normal(size=(4, 32)) / 1.5) @ rng.normal(size=(32, 16)) / 5.7
    return _standard(x + 0.1 * rng.normal(size=x.shape))


def _waves(rng: np.random.Generator) -> Array:
    """16 steps of a wave of some frequency, phase and height."""
    t = np.arange(16)[None]
    f, p, a = (rng.uniform(low, high, (ROWS, 1)) for low, high in ((0.4, 0.9), (0, np.pi), (0.5, 1.2)))
    return (a * np.sin(f * t + p) + 0.1 * rng.normal(size=(ROWS, 16)))[..., None]


def _spectra(rng: np.random.Generator) -> Array:
    """32 points of a curve with two peaks on a slope."""
    t = np.linspace(-1, 1, 32)[None]
    a, b, c, w, u, v = (rng.uniform(low, high, (ROWS, 1)) for low, high in
                        ((-0.7, 0), (0.1, 0.8), (-0.5, 0.5), (0.08, 0.2), (0.5, 1.2), (0.5, 1.2)))  # fmt: skip
    y = u * np.exp(-(((t - a) / w) ** 2)) + v * np.exp(-(((t - b) / 0.15) ** 2)) + c * t - 0.3
    return (y + 0.06 * rng.normal(size=y.shape))[:, None]


MAKERS: dict[str, Callable[[np.random.Generator], Array]] = {
    "digits": _digits, "mnist": _mnist, "sprites": _sprites, "glyphs": _glyphs, "patches": _patches,
    "tabular": _tabular, "mixture": _mixture, "factors": _factors, "waves": _waves, "spectra": _spectra,
}  # fmt: skip
