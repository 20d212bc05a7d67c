"""Where the encodings lie, beside where the prior draws from."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np

from whyvae.plot.figure import INK, MARKERS, PALE, SHADES, drawn, new, titled, words

Array = Any
INSIDE = (0.5, 0.95)  # of the prior, by two circles
MOST_LABELS = 20
BEHIND = {"color": "white", "alpha": 0.8, "pad": 1}  # names


def principal(z: Array) -> Array:
    """The two directions in which z [n, units] varies most, [units, 2], orthonormal: N(0, I) stays N(0, I) along them."""
    centred = z - z.mean(0)
    _, vectors = np.linalg.eigh(centred.T @ centred)
    axes = vectors[:, ::-1][:, :2]
    return axes if axes.shape[1] == 2 else np.concatenate([axes, np.zeros_like(axes)], 1)


def projected(z: Array, prior: Array, method: str, seed: int = 0) -> tuple[Array, Array]:
    """`z` and `prior` [n, units] laid out together by t-SNE or UMAP, [n, 2] each.

    Raises:
        ImportError: UMAP is not installed.
    """
    both = np.concatenate([z, prior])
    if method == "UMAP":
        umap: Any = import_module("umap")
        points = umap.UMAP(random_state=seed, n_jobs=1).fit_transform(both)
    else:
        from sklearn.manifold import TSNE

        few = min(30.0, (len(both) - 1) / 3)
        points = TSNE(perplexity=few, max_iter=500, init="pca", random_state=seed).fit_transform(both)
    return points[: len(z)], points[len(z) :]


@drawn
def latent_map(
    points: Array, prior: Array | None = None, *, labels: Array | None = None, losses: Array | None = None,
    loss: str = "loss", name: str = "principal directions", circles: bool = False,
) -> Any:  # fmt: skip
    """Encodings [n, 2] by label [n] and by loss [n], with draws of the prior [m, 2].

    `circles`: the prior is N(0, I) along these axes, and the circles hold half and 95 % of it.
    """
    points = np.asarray(points, np.float64)
    good = np.isfinite(points).all(1)
    points, labels, losses = points[good], _where(labels, good), _where(losses, good)
    if labels is not None and len(np.unique(labels)) > MOST_LABELS:
        labels = None
    wanted = [w for w, given in (("label", labels), ("loss", losses)) if given is not None] or ["plain"]
    figure = new(5.4 * len(wanted) + 0.6, 5.2)
    for axes, what in zip(figure.subplots(1, len(wanted), squeeze=False)[0], wanted, strict=True):
        _prior(axes, prior, circles=circles)
        if what == "label":
            titled(axes, f"Encodings by label ({name})")
            _by_label(axes, points, labels)
        elif what == "loss":
            titled(axes, f"Encodings by {loss} ({name})")
            _by_loss(figure, axes, points, losses, loss)
        else:
            titled(axes, f"Encodings ({name})")
            axes.plot(*points.T, "o", color=INK, markersize=3, alpha=0.6)
        axes.set_aspect("equal", adjustable="datalim")
        if not circles:
            axes.set_xticks([])
            axes.set_yticks([])
    return figure


def _prior(axes: Any, prior: Array | None, *, circles: bool) -> None:
    if prior is not None:
        axes.plot(*np.asarray(prior).T, "+", color=PALE, markersize=5, zorder=0)
        axes.set_xlabel("+  draws of the prior")
    for share in INSIDE if circles else ():
        radius = float(np.sqrt(-2 * np.log(1 - share)))  # of a two-dimensional N(0, I)
        turn = np.linspace(0, 2 * np.pi, 181)
        axes.plot(radius * np.cos(turn), radius * np.sin(turn), "--", color=INK, linewidth=1, zorder=4)
        axes.annotate(f"{share:.0%} of the prior", (0, radius), (0, 2), textcoords="offset points", ha="center", color=INK,
                      fontsize=8, bbox={"color": "white", "alpha": 0.7, "pad": 0.5}, zorder=5)  # fmt: skip


def _by_label(axes: Any, points: Array, labels: Array | None) -> None:
    """One character a label is its own marker; others get a shape, and their name where they lie."""
    from matplotlib import colormaps

    assert labels is not None  # noqa: S101 - asked for
    names = np.unique(labels)
    short = all(len(str(name)) == 1 and str(name).isalnum() for name in names)
    for i, name in enumerate(names):
        mine = points[labels == name]
        shade = colormaps[SHADES](0.85 * i / max(1, len(names) - 1))
        marker = f"${name}$" if short else MARKERS[i % len(MARKERS)]
        axes.plot(
            *mine.T, marker=marker, color=shade, markersize=6 if short else 4, linestyle="none", markeredgewidth=0.3
        )
        if not short:
            mine_at = np.median(mine, 0)
            axes.text(*mine_at, words(name), weight="bold", ha="center", bbox=BEHIND, zorder=6)
            axes.plot([], [], marker=marker, color=shade, linestyle="none", label=words(name))
    if not short:  # where encodings do not part, their names lie on one another
        axes.legend(loc="upper left", fontsize=8, framealpha=0.7, ncols=1 + len(names) // 11)


def _by_loss(figure: Any, axes: Any, points: Array, losses: Array | None, loss: str) -> None:
    """Larger and darker points cost more."""
    assert losses is not None  # noqa: S101 - asked for
    low, high = np.nanquantile(losses, (0.02, 0.98)) if np.isfinite(losses).any() else (0.0, 1.0)
    share = np.clip((np.nan_to_num(losses, nan=high) - low) / max(high - low, 1e-12), 0, 1)
    shown = axes.scatter(
        *points.T, c=losses, s=6 + 40 * share**2, cmap=f"{SHADES}_r", vmin=low, vmax=max(high, low + 1e-12)
    )
    figure.colorbar(shown, ax=axes, label=f"{loss} (large and dark: more)", shrink=0.8)


def _where(values: Array | None, good: Array) -> Array | None:
    return None if values is None else np.asarray(values)[good]
