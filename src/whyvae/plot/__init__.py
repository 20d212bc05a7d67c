"""Pictures of a VAE: each a function of plain arrays that returns a matplotlib Figure. No model is known here."""

from whyvae.plot.curves import course, importance, rates, spectrum
from whyvae.plot.figure import NoMatplotlib, save
from whyvae.plot.latent import latent_map, principal, projected
from whyvae.plot.portrait import Portrait, hang
from whyvae.plot.rows import panels, reconstructions, traversals

__all__ = [
    "NoMatplotlib", "Portrait", "course", "hang", "importance", "latent_map", "panels", "principal", "projected", "rates",
    "reconstructions", "save", "spectrum", "traversals",
]  # fmt: skip
