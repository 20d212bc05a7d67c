"""One style for all pictures, whatever the user's script has set, and matplotlib only where a picture is wanted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

INK, GREY, PALE = "black", "0.5", "0.82"
LINES = ("-", "--", ":", "-.")  # told apart without colour
MARKERS = "osD^v<>Pp*hX"
SHADES = "viridis"  # from dark to light in steps the eye sees as equal, in grey as well
STYLE = {
    "font.size": 10, "axes.titlesize": 11, "axes.titlelocation": "left", "axes.spines.top": False,
    "axes.spines.right": False, "lines.linewidth": 1.4, "image.interpolation": "nearest", "text.usetex": False,
}  # fmt: skip


class NoMatplotlib(ImportError):
    """The message is one line for the user."""


def drawn(function: Callable[P, T]) -> Callable[P, T]:
    """`function`, with our style while it draws."""

    @wraps(function)
    def styled(*args: P.args, **kwargs: P.kwargs) -> T:
        with _style():
            return function(*args, **kwargs)

    return styled


def new(width: float, height: float, **layout: Any) -> Any:
    """A Figure, in inches, that no window and no state of pyplot knows of."""
    figure = _matplotlib("figure").Figure(figsize=(width, height), layout="constrained", **layout)
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.08)  # inches
    _matplotlib("backends.backend_agg").FigureCanvasAgg(figure)
    return figure


def save(figure: Any, path: Path) -> Path:
    with _style():
        figure.savefig(path, dpi=110)
    return path


def plain(axes: Any) -> None:
    """Numbers of logarithmic axes as people write them."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    for axis in (axes.xaxis, axes.yaxis):
        if axis.get_scale() == "log":
            low, high = axis.get_view_interval()
            if high < 100 * low:
                axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axis.set_minor_formatter(NullFormatter())


def words(name: object) -> str:
    """A name of the user's, not to be read as mathematics."""
    return str(name).replace("$", r"\$")


def titled(axes: Any, title: str) -> None:
    axes.set_title(title, wrap=True)


@contextmanager
def _style() -> Iterator[None]:
    matplotlib = _matplotlib("")
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield


def _matplotlib(part: str) -> Any:
    from importlib import import_module

    try:
        return import_module(f"matplotlib.{part}" if part else "matplotlib")
    except ImportError as error:
        raise NoMatplotlib("pictures need matplotlib: pip install 'whyvae[plot]'") from error
