"""Pictures of literal records: the right artists, whatever the shape, and nothing left of the user's own style."""

import sys

import numpy as np
import pytest

from whyvae.plot import (
    NoMatplotlib,
    Portrait,
    course,
    hang,
    importance,
    latent_map,
    panels,
    principal,
    rates,
    reconstructions,
    save,
    spectrum,
    traversals,
)

RANDOM = np.random.default_rng(0)
SHAPES = {
    "bytes": (1, 8, 8), "colours": (3, 9, 7), "alpha": (4, 8, 8), "two channels": (2, 8, 8), "channels last": (9, 9, 3),
    "no channel": (12, 10), "flattened image": (64,), "table": (5,), "points": (2,), "one column": (1,), "signal": (50,),
    "sequence": (3, 40), "sequence, time first": (40, 2),
}  # fmt: skip


def drawn(figure):
    """Draws it, too: errors of matplotlib come late."""
    figure.canvas.draw()
    return figure


def words(figure):
    from matplotlib.text import Text

    return " ".join(text.get_text() for text in figure.findobj(Text))


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_rows_of_any_shape_are_drawn(shape):
    rows = RANDOM.random((11, *shape))
    drawn(panels((("real", rows), ("made", rows[:3]))))
    drawn(reconstructions(rows, rows + 0.1))
    drawn(traversals(np.stack([rows[:7], rows[1:8]]), [0.1, 2.0], np.linspace(-2, 2, 7)))


@pytest.mark.parametrize("shape", [(1, 8, 8), (5,), (3, 40)], ids=str)
def test_values_that_are_no_numbers_are_counted_and_not_fatal(shape):
    rows = RANDOM.random((9, *shape))
    made = rows.copy()
    made[2] = np.nan
    figure = drawn(panels((("real", rows), ("made", made))))
    assert f"{made[2].size} values are no numbers" in words(figure)
    drawn(reconstructions(rows, made))


def test_all_rows_of_a_sheet_share_the_range_of_the_real_ones():
    real = np.zeros((4, 1, 8, 8))
    real[:, :, 0, 0] = 10
    figure = panels((("real", real), ("made", np.full((4, 1, 8, 8), 5.0))))
    shown = [image.get_array() for axes in figure.axes for image in axes.images]
    assert np.allclose(shown[1][:8, :8], 0.5)
    assert shown[0][0, 0] == 1


def test_rates_stand_in_their_order_with_the_numbers_of_their_units():
    figure = drawn(rates([0.1, 3.0, np.nan, 0.0]))
    (axes,) = figure.axes
    assert [bar.get_height() for bar in axes.patches] == [3.0, 0.1, 0.0, 0.0]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["1", "0", "3", "2"]
    assert "2 of 4 carry some, 3.1 nats" in axes.get_title(loc="left")


def test_traversals_stand_in_the_order_of_the_rates():
    rows = np.zeros((3, 5, 1, 8, 8))
    rows[1] = 1  # unit 7
    figure = drawn(traversals(rows, [0.5, 2.0, 1.0], np.arange(5), units=[4, 7, 9]))
    (axes,) = figure.axes
    assert [t.get_text().split(":")[0] for t in axes.get_yticklabels()] == ["unit 7", "unit 9", "unit 4"]
    assert axes.images[0].get_array()[:8, :8].min() == 1


def test_the_spectrum_says_how_many_directions_stand_above_s():
    figure = drawn(spectrum([9.0, 4.0, 1.0, 0.25, 0.0], 2.0))
    assert "2 of 4 directions" in words(figure)
    assert "s = 2" in words(figure)
    assert "0 of 2 directions" in words(drawn(spectrum([1.0, 0.5], 392.0)))
    assert "s =" not in words(drawn(spectrum([1.0, 0.5], float("nan"))))


def test_the_course_has_a_panel_for_each_curve():
    steps = list(range(100))
    figure = drawn(course({"kl": (steps, [5.0] * 100), "s": ((0, 99), (1.0, 0.5)), "loss": (steps, [np.nan] * 100)}))
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["kl", "s", "loss (100 values are no numbers)"]
    late = drawn(course({"loss": (steps, [1e9] + [2.0] * 50 + [1.0] * 49)})).axes[0]
    assert late.get_ylim()[1] < 3  # the first step does not hide the rest


def test_the_prior_stays_itself_along_the_principal_directions():
    z = RANDOM.normal(size=(200, 6)) * np.array([3, 1, 2, 1, 1, 1]) + 4
    axes = principal(z)
    assert np.allclose(axes.T @ axes, np.eye(2))
    assert np.allclose(np.abs(axes[[0, 2], [0, 1]]), 1, atol=0.1)


def test_the_circles_hold_half_and_nineteen_of_twenty_of_the_prior():
    figure = drawn(latent_map(RANDOM.normal(size=(50, 2)), circles=True))
    radii = sorted(
        {
            round(float(np.hypot(*line.get_xydata()[0])), 3)
            for line in figure.axes[0].lines
            if line.get_linestyle() == "--"
        }
    )
    draws = np.hypot(*RANDOM.normal(size=(2, 20000)))
    assert np.allclose([(draws < r).mean() for r in radii], [0.5, 0.95], atol=0.01)


@pytest.mark.parametrize("labels", [range(10), ["cat", "dog"], ["a$b", "_"]], ids=["digits", "words", "mathematics"])
def test_labels_can_be_told_without_colour(labels):
    points = RANDOM.normal(size=(40, 2))
    given = np.array([list(labels)[i % len(labels)] for i in range(40)])
    figure = drawn(latent_map(points, points, labels=given, losses=np.full(40, np.nan), circles=False))
    markers = {line.get_marker() for line in figure.axes[0].lines if line.get_marker() not in {"+", "None"}}
    assert len(markers) == len(labels)


def test_labels_that_are_numbers_of_a_scale_are_left_out():
    figure = latent_map(RANDOM.normal(size=(50, 2)), labels=np.arange(50))
    assert "by label" not in words(figure)


def test_importance_shows_the_largest_first():
    trials = {"lr": ([1e-4, 1e-2], [3.0, 2.0]), "family": (["a", "b"], [3.0, 2.0])}
    figure = drawn(importance({"family": 0.2, "lr": 0.8}, trials, "score", {"default": 0, "best": 1}))
    assert {"default", "best"} <= set(words(figure).split())
    assert "80%" in words(figure)
    assert words(figure).index("lr") < words(figure).index("family")


@pytest.mark.parametrize("units", [1, 2, 5])
def test_what_is_known_is_drawn_and_nothing_else(tmp_path, units):
    z = RANDOM.normal(size=(60, units))
    portrait = Portrait(
        z=z, prior=z, losses=RANDOM.random(60), rates=np.ones(units), eigenvalues=np.array([2.0, 1.0]), s=1.5
    )
    made = hang(portrait, tmp_path)
    assert sorted(path.name for path in made) == ["latent-map.png", "rates.png", "spectrum.png"]
    assert all(path.stat().st_size > 5000 for path in made)


def test_a_picture_that_cannot_be_drawn_costs_no_other(tmp_path, monkeypatch):
    monkeypatch.delenv("WHYVAE_DEBUG", raising=False)
    portrait = Portrait(rates=np.ones(3), real=np.zeros((0, 3)), samples=np.zeros((2, 5)))
    assert [path.name for path in hang(portrait, tmp_path)] == ["rates.png"]


def test_the_style_of_the_users_script_stays_and_is_not_used(tmp_path):
    import matplotlib as mpl

    with mpl.rc_context({"font.size": 31, "axes.spines.top": True}):
        figure = rates([1.0])
        assert mpl.rcParams["font.size"] == 31
        assert figure.axes[0].title.get_fontsize() < 15
        save(figure, tmp_path / "a.png")
        assert mpl.rcParams["axes.spines.top"]


def test_without_matplotlib_one_line_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(NoMatplotlib, match=r"pip install 'whyvae\[plot\]'"):
        rates([1.0])
    assert hang(Portrait(rates=np.ones(3)), tmp_path) == []


def test_of_a_wide_table_some_columns_are_drawn_and_it_is_said():
    wide = np.random.default_rng(0).normal(size=(20, 200))
    names = [f"number {i}" for i in range(200)]
    figure = panels((("real", wide), ("made", wide)), "table", names)
    axes = figure.axes[0]
    labels = [t.get_text() for t in axes.get_yticklabels()]
    assert (len(labels), labels[0], labels[-1]) == (30, "number 0", "number 199")
    assert "30 of 200 columns" in axes.get_xlabel()
