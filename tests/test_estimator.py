import pickle

import numpy as np
import pytest
from sklearn.datasets import load_digits, load_iris
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

import whyvae
from whyvae.estimator import VAE


def small(**options):
    return VAE(**{"n_components": 2, "widths": (32,), "steps": 300, "random_state": 0, **options})


def test_it_is_an_estimator():
    """scikit-learn's own battery."""
    checks = check_estimator(VAE(n_components=2, widths=(8,), steps=20, batch=16), on_skip=None)
    assert {c["status"] for c in checks} <= {"passed", "skipped"}
    assert [c["check_name"] for c in checks if c["status"] == "skipped"] == ["check_array_api_input"]
    assert len(checks) > 40


def test_it_is_a_public_name():
    assert whyvae.VAE is VAE


def test_latents_and_back():
    rows = load_iris().data
    vae = small(widths=(512, 256)).fit(rows)
    z = vae.transform(rows)
    back = vae.inverse_transform(z)
    assert z.shape == (150, 2)
    left = ((rows - back) ** 2).sum(0) / ((rows - rows.mean(0)) ** 2).sum(0)
    assert left.mean() < 0.2  # two units of four columns, which two directions explain to 96 %
    assert list(vae.get_feature_names_out()) == ["vae0", "vae1"]


def test_samples_are_like_the_rows_and_a_number_repeats_them():
    rows = load_iris().data
    vae = small(steps=1500).fit(rows)
    drawn = vae.sample(2000)
    assert drawn.shape == (2000, 4)
    assert np.abs(drawn.mean(0) - rows.mean(0)).max() < 0.3 * rows.std(0).max()
    assert drawn.std(0) == pytest.approx(rows.std(0), rel=0.35)
    assert np.array_equal(drawn, vae.sample(2000))


def test_the_score_prefers_rows_of_the_kind_it_saw_and_is_in_their_unit():
    rows = load_iris().data
    vae = small().fit(rows)
    assert vae.score(rows) > vae.score(rows[:, ::-1]) + 1
    thousand = small().fit(1000 * rows)
    assert thousand.score(1000 * rows) == pytest.approx(vae.score(rows) - 4 * np.log(1000), abs=0.02)


def test_pipelines_cross_validation_and_pickles():
    rows = load_digits().data[:300]
    chain = make_pipeline(StandardScaler(), small(steps=60))
    assert np.isfinite(cross_val_score(chain, rows, cv=3)).all()
    vae = small(steps=60).fit(rows)
    again = pickle.loads(pickle.dumps(vae))  # noqa: S301 - our own
    assert np.array_equal(again.transform(rows), vae.transform(rows))
