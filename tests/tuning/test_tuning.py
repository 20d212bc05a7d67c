"""Tuning: an objective that no setting can move by itself, folds that do not leak, a search that is gone on with."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from whyvae.cli import main
from whyvae.cluster import Cluster, Lost
from whyvae.data import Codec, Dataset, load
from whyvae.data.raw import DataError, Raw
from whyvae.data.summary import Streamed
from whyvae.models.build import ModelConfig, Unfit, build, resolved
from whyvae.train import recalibrate
from whyvae.training.run import TrainConfig, Trained, TrainingFailed
from whyvae.tune import Ground, Plan, _pruning, cross_validate, tune
from whyvae.tuning import objective
from whyvae.tuning.folds import Folding, set_apart, split
from whyvae.tuning.objective import Comparison, Scores, compared, cross_validated, half_width, nats, part, quality
from whyvae.tuning.search import applied, defaults, optuna_module

NOISE = 0.25  # variance
VARIANCES = np.array([9.0, 4.0, 1.0])  # of the three directions, without the noise


def rows(n=400, features=8, seed=0):
    random = np.random.default_rng(seed)
    directions = np.linalg.qr(np.random.default_rng(1).normal(size=(features, 3)))[0]
    signal = random.normal(size=(n, 3)) * np.sqrt(VARIANCES)
    return (signal @ directions.T + math.sqrt(NOISE) * random.normal(size=(n, features)) + 5).astype(np.float32)


def dataset(values=None, labels=None):
    return Dataset.unchecked(Raw(rows() if values is None else values, labels, kind="vector"), "rows")


def linear(data, weight=1.0):
    """The linear VAE that is the optimum of the loss with this KL weight and the true noise (pPCA with s = weight * NOISE)."""
    model_config = resolved(ModelConfig(family="linear", latents=3, likelihood="gaussian"), data)
    codec = Codec.of(data, to_range=False)
    x = codec.encode(data.take(slice(None))).double()
    s = weight * NOISE / codec.scale[0] ** 2
    values, vectors = torch.linalg.eigh((x - x.mean(0)).T @ (x - x.mean(0)) / len(x))
    values, vectors = values[-3:].clamp_min(s), vectors[:, -3:]
    ways = vectors * (values - s).sqrt()  # [D, 3]
    model = build(model_config, codec, x.float())
    with torch.no_grad():
        model.decoder.out.weight.copy_(ways)
        model.decoder.out.bias.copy_(x.mean(0))
        model.encoder.mu.weight.copy_(ways.T / values[:, None])
        model.encoder.mu.bias.copy_(-(ways.T / values[:, None]) @ x.mean(0))
        model.encoder.logvar.copy_((s / values).log())
    recalibrate(model, x.float())
    return Trained(model.eval(), codec, model_config, TrainConfig(kl_weight=weight), 0.0, 0, 0.0)


def exact(data, unseen):
    """-log p(x) of the rows `unseen` under the Gaussian that the linear VAE fitted to `data` is, in nats an example."""
    x = data.take(slice(None)).double()
    mean, centred = x.mean(0), x - x.mean(0)
    values, vectors = torch.linalg.eigh(centred.T @ centred / len(x))
    kept = torch.full_like(values, values[:-3].mean())
    kept[-3:] = values[-3:]
    return float(
        -torch.distributions.MultivariateNormal(mean, (vectors * kept) @ vectors.T).log_prob(unseen.double()).mean()
    )


def test_the_elbo_is_the_likelihood_of_the_data_in_its_own_unit():
    data, unseen = dataset(), torch.from_numpy(rows(seed=3))
    assert float(nats(linear(data), unseen).mean()) == pytest.approx(exact(data, unseen), abs=0.06)


def test_another_unit_of_the_data_costs_its_logarithm_and_nothing_else():
    unseen = torch.from_numpy(rows(seed=3))
    one, other = linear(dataset()), linear(dataset(rows() * 100), weight=100.0**2)
    gap = float((nats(other, unseen * 100) - nats(one, unseen)).mean())
    assert gap == pytest.approx(unseen.shape[1] * math.log(100), abs=1e-2)


def test_the_weight_itself_does_not_enter():
    unseen, trained = torch.from_numpy(rows(seed=3)), linear(dataset())
    light = replace(trained, config=replace(trained.config, kl_weight=1e-3))
    assert torch.equal(nats(trained, unseen), nats(light, unseen))


def test_of_all_weights_the_objective_prefers_one_although_the_loss_prefers_none():
    data, unseen = dataset(rows(2000)), torch.from_numpy(rows(2000, seed=3))
    found = {weight: float(nats(linear(data, weight), unseen).mean()) for weight in (0.05, 0.3, 1.0, 3.0, 15.0)}
    assert min(found, key=found.get) == 1.0
    assert found[0.05] > found[0.3]
    assert found[15.0] > found[3.0]


# ---------------------------------------------------------------------- folds
LABELS = np.repeat([0, 1, 2], [60, 30, 30])


@pytest.mark.parametrize("repeats", [1, 2])
def test_each_row_judges_once_a_repeat_and_never_trains_then(repeats):
    pairs = split(53, Folding(folds=5, repeats=repeats))
    assert len(pairs) == 5 * repeats
    for fit, judge in pairs:
        assert sorted([*fit, *judge]) == list(range(53))
    judged = np.concatenate([judge for _, judge in pairs])
    assert (np.bincount(judged) == repeats).all()
    if repeats == 2:
        assert set(pairs[0][1]) != set(pairs[5][1])


def test_stratified_folds_have_their_share_of_each_label():
    for _, judge in split(120, Folding(folds=5, stratified=True), LABELS):
        assert np.bincount(LABELS[judge]).tolist() == [12, 6, 6]


@pytest.mark.parametrize("stratified", [False, True])
def test_groups_are_not_torn(stratified):
    groups = np.arange(120) // 4
    folding = Folding(folds=3, stratified=stratified)
    pairs = [*split(120, folding, LABELS, groups), set_apart(120, folding, LABELS, groups)]
    assert all(not set(groups[fit]) & set(groups[judge]) for fit, judge in pairs)


@pytest.mark.parametrize(
    ("folding", "labels", "groups", "says"),
    [
        (Folding(folds=1), None, None, "2 or more"),
        (Folding(folds=200), None, None, "no more than rows"),
        (Folding(repeats=0), None, None, "1 or more"),
        (Folding(stratified=True), None, None, "wants labels"),
        (Folding(stratified=True), np.r_[0, np.ones(119)], None, "at 1 rows only"),
        (Folding(), None, np.zeros(120), "1 groups"),
        (Folding(), None, np.zeros(3), "3 values for 120 rows"),
    ],
)
def test_folds_that_cannot_be_made_are_told_in_one_line(folding, labels, groups, says):
    with pytest.raises(Unfit, match=says):
        split(120, folding, labels, groups)


QUICK = TrainConfig(steps=20, batch=32, log_every=10, checks=4)
SMALL = ModelConfig(family="mlp", latents=2, widths=(8,), likelihood="gaussian")


def test_rows_that_judge_leave_no_trace_in_what_is_trained(monkeypatch):
    """Wild judging rows, and rows set apart, change no weight and no scale."""
    made = []
    monkeypatch.setattr(objective, "judged", lambda trained, *_: made.append(trained) or 0.0)
    pairs = split(120, Folding(folds=2))
    values = rows(120)
    wild = values.copy()
    wild[pairs[0][1]] *= 1e3
    for v in (values, wild):
        cross_validated(dataset(v), pairs[:1], 2, resolved(SMALL, dataset(values)), QUICK, "elbo")
    one, other = made
    assert one.codec == other.codec
    pairs_of = zip(one.model.state_dict().values(), other.model.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs_of)


def test_tuning_never_sees_the_rows_set_apart():
    values = rows(200)
    values[:, 0] = np.arange(200)  # each row is known by its first value
    ground = Ground.of(dataset(values), SMALL, QUICK, Plan())
    seen = set(np.asarray(ground.open.rows)[:, 0].astype(int))
    assert not seen & {int(i) for i in ground.rows[1]}
    assert len(seen) == 160


def test_a_part_knows_its_own_range_only():
    values = rows(50)
    values[0, 0] = 1e6
    assert part(dataset(values), np.arange(1, 50)).summary.high.max() < 100


# ---------------------------------------------------------------------- intervals
def test_rows_on_the_disk_are_cross_validated_there(tmp_path):
    """No fold holds them, and each judges the rows it is told to."""
    np.save(tmp_path / "x.npy", rows(240))
    streamed, held = (load(str(tmp_path / "x.npy"), kind="vector", stream=stream) for stream in (True, False))
    plan = Plan(Folding(2))
    one, other = (cross_validate(Ground.of(data, SMALL, QUICK, plan, apart=False), plan) for data in (streamed, held))
    assert one.mean == pytest.approx(other.mean, rel=0.1)  # the order of batches differs
    assert isinstance(part(streamed, [3, 1]).rows, Streamed)
    assert np.array_equal(part(streamed, [3, 1]).rows[:], held.rows[[3, 1]])


def test_the_interval_over_folds_is_that_of_nadeau_and_bengio():
    scores = Scores((1.0, 2.0, 3.0, 4.0, 5.0), folds=5)
    assert scores.mean == 3
    assert scores.half == pytest.approx(2.776 * math.sqrt(2.5) * math.sqrt(1 / 5 + 1 / 4), rel=1e-3)


def test_rows_and_seeds_are_both_counted():
    random, nothing = np.random.default_rng(0), np.zeros((1, 10000))
    assert half_width(random.normal(size=(1, 10000)), nothing) == pytest.approx(1.96 / 100, rel=0.05)
    one, still = np.array([[1.0], [3.0]]), np.array([[2.0], [2.0]])
    assert half_width(one, still) == pytest.approx(12.706, rel=1e-3)  # t with 1, standard error 1
    assert half_width(one, one) == pytest.approx(4.303 * math.sqrt(2), rel=1e-3)  # two equal spreads: t with 2
    assert half_width(still, still) == 0
    assert math.isnan(half_width(one[:1], one[:1]))


@pytest.mark.parametrize(
    ("gain", "half", "says"),
    [(2.0, 1.0, "beats"), (0.5, 1.0, "does not beat"), (-2.0, 1.0, "worse"), (2.0, math.nan, "cannot tell")],
)
def test_the_report_says_plainly_whether_it_is_better(gain, half, says):
    found = Comparison(10.0, 10.0 - gain, gain, half, 50, 2)
    assert says in found.verdict
    json.dumps(found.to_dict(), allow_nan=False)


@pytest.mark.parametrize("objective", ["elbo", "samples"])
def test_a_model_is_not_better_than_itself(objective):
    data = dataset(rows(200))
    settings = resolved(SMALL, data), QUICK
    found = compared(data, np.arange(100), np.arange(100, 200), settings, settings, objective, seeds=2)
    assert found.gain == 0
    assert found.half > 0
    assert "does not beat" in found.verdict
    assert (found.rows, found.seeds) == (100, 2)


def test_samples_can_be_the_objective():
    plan = replace(PLAN, objective="samples")
    scores = cross_validate(Ground.of(dataset(rows(160)), SMALL, replace(QUICK, steps=200), plan, apart=False), plan)
    assert all(0 <= value <= 1 for value in scores.values)


# ---------------------------------------------------------------------- the search
PLAN = Plan(Folding(folds=2), trials=2, seeds=1, pruner="none")


def ground(plan=PLAN):
    return Ground.of(dataset(rows(120)), SMALL, QUICK, plan)


def test_settings_change_what_they_name_and_nothing_else():
    model, config = applied({"lr": 0.5, "width": 2.0, "latents": 7}, SMALL, QUICK)
    assert (model, config) == (replace(SMALL, widths=(16,), latents=7), replace(QUICK, lr=0.5))
    assert applied(defaults(SMALL, QUICK, ("lr", "width", "latents", "kl_weight", "batch")), SMALL, QUICK) == (
        SMALL,
        QUICK,
    )
    assert "width" not in defaults(replace(SMALL, widths=()), QUICK, ("width", "lr"))


def test_a_search_is_gone_on_with_and_starts_from_the_default(tmp_path):
    def interrupted(line):
        if line.startswith("trial 2 of 4"):
            raise KeyboardInterrupt

    plan = replace(PLAN, trials=4)
    with pytest.raises(KeyboardInterrupt):
        tune(ground(), plan, tmp_path, interrupted)
    assert not (tmp_path / "tune.json").exists()
    record = tune(ground(), plan, tmp_path)
    assert [trial["number"] for trial in record["trials"]] == [0, 1, 2, 3]
    assert [trial["params"] == record["default"] for trial in record["trials"]] == [True, False, False, False]
    assert record["default_scores"]["folds"] == pytest.approx(cross_validate(ground(), plan).values, rel=1e-5)
    assert record["best_scores"]["mean"] == min(trial["value"] for trial in record["trials"])
    assert record == json.loads((tmp_path / "tune.json").read_text())
    assert (tmp_path / "importance.png").exists() == bool(record["importance"])


class Elsewhere:
    """A cluster of two places that does a call when its end is waited for, and loses the third."""

    places, most = 2, 0

    def __init__(self):
        self.calls = []

    def shared(self, value):
        return value

    def call(self, function, *values):
        self.calls.append((function, values))
        return len(self.calls)

    def first(self, waiting):
        self.most = max(self.most, len(waiting))
        call = min(waiting)
        function, values = self.calls[call - 1]
        return call, Lost("gone") if call == 3 else function(*values)


def test_trials_run_on_a_cluster_as_many_at_once_as_it_has_places(tmp_path):
    cluster, there = Elsewhere(), ground()
    record = tune(there, replace(PLAN, trials=5), tmp_path, cluster=cluster)
    assert cluster.most == 2
    assert [t["state"] for t in record["trials"]].count("complete") == 4
    assert [t["state"] for t in record["trials"]].count("fail") == 1
    assert record["default_scores"] == cross_validate(there, PLAN).to_dict()


def test_a_trial_that_fails_costs_no_other(tmp_path, monkeypatch):
    import whyvae.tune as tuned

    real, count = tuned.cross_validated, iter(range(9))

    def second_fails(*args, **kwargs):
        if next(count) == 1:
            raise TrainingFailed("no number")
        return real(*args, **kwargs)

    monkeypatch.setattr(tuned, "cross_validated", second_fails)
    record = tune(ground(), replace(PLAN, names=("lr",)), tmp_path)
    assert [trial["state"] for trial in record["trials"]] == ["complete", "fail"]
    assert record["verdict"] == "the default is the best that was tried"


class Trial:
    def __init__(self):
        self.reports = []

    def report(self, value, step):
        self.reports.append((value, step))

    def should_prune(self):
        return self.reports[-1][0] > 5


def test_a_poor_trial_is_stopped_within_its_first_fold_by_the_comparable_number():
    op, trial = optuna_module(), Trial()
    told = _pruning(op, trial, PLAN)
    told(0, {"nll": 99.0, "kl_weight": 1.0})
    told(0, {"held_out": 3.0})
    told(1, {"held_out": 99.0})
    assert trial.reports == [(3.0, 1)]
    with pytest.raises(op.TrialPruned):
        told(0, {"held_out": 9.0})
    by_samples = Trial()
    told = _pruning(op, by_samples, replace(PLAN, objective="samples"))
    told(0, {"held_out": 9.0})
    told(0, {"score": 0.2, "mean": 0.2})
    assert by_samples.reports == [(0.2, 1)]


def test_too_few_rows_for_the_quality_of_samples_are_told():
    with pytest.raises(DataError, match="too few to score samples"):
        quality(linear(dataset()), torch.from_numpy(rows(20)))


# ---------------------------------------------------------------------- the command
TINY = ["--folds", "2", "--steps", "20", "--widths", "8", "--latents", "2", "--quiet"]


@pytest.fixture
def source(tmp_path):
    np.save(tmp_path / "rows.npy", rows(160, features=64))
    return str(tmp_path / "rows.npy")


def test_the_command_searches_and_is_resumed(source, tmp_path, capsys):
    out = str(tmp_path / "out")
    assert main(["tune", source, "--out", out, "--trials", "2", "--search", "lr,kl-weight", "--seeds", "1", *TINY]) == 0
    assert "default" in capsys.readouterr().out
    (folder,) = (tmp_path / "out").iterdir()
    assert main(["tune", "--resume", str(folder), "--trials", "3", "--json", str(tmp_path / "r.json")]) == 0
    record = json.loads((tmp_path / "r.json").read_text())
    assert len(record["trials"]) == 3
    assert set(record["default"]) == {"lr", "kl_weight"}
    shown = capsys.readouterr().out
    assert "share of what changed" in shown


def test_cross_validation_alone_searches_nothing(source, tmp_path, capsys):
    assert main(["tune", source, "--cv-only", "--json", str(tmp_path / "r.json"), *TINY]) == 0
    scores = json.loads((tmp_path / "r.json").read_text())["default_scores"]
    assert len(scores["folds"]) == 2
    assert scores["ci95"][0] < scores["mean"] < scores["ci95"][1]
    assert "95 % interval" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--stratified"], "wants labels"),
        (["--folds", "999"], "no more than rows"),
        (["--objective", "samples", "--folds", "9"], "too few"),
    ],
)
def test_what_cannot_be_done_is_one_line(source, more, says, capsys):
    assert main(["tune", source, "--cv-only", *TINY, *more]) == 2
    said = capsys.readouterr().err
    assert says in said
    assert said.count("\n") == 1


def test_a_folder_that_is_no_search_is_told(tmp_path, capsys):
    assert main(["tune", "--resume", str(tmp_path)]) == 2
    assert "no run folder of `whyvae tune`" in capsys.readouterr().err


@pytest.mark.parametrize("argv", [["tune"], ["tune", "x.npy", "--resume", "y"], ["tune", "x.npy", "--search", "luck"]])
def test_bad_usage_is_refused(argv):
    with pytest.raises(SystemExit) as ended:
        main(argv)
    assert ended.value.code == 2


@pytest.mark.slow
@pytest.mark.parametrize("weight", [30.0, 1.0])
def test_a_search_finds_what_the_default_spoils(tmp_path, weight):
    """A default with a KL weight of 30 is beaten surely; the verdict is only about rows that nothing was tuned on."""
    plan = Plan(Folding(folds=3), names=("kl_weight",), trials=12, seeds=3)
    config = TrainConfig(steps=400, kl_weight=weight)
    ground = Ground.of(dataset(rows(600)), replace(SMALL, widths=(32,), latents=3), config, plan)
    record = tune(ground, plan, tmp_path)
    if weight > 1:
        assert record["comparison"]["verdict"] == "the tuned model beats the default"
        assert record["best"]["kl_weight"] < 5
    elif record["comparison"] is not None:
        assert abs(record["comparison"]["gain"]) < 0.3


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_search_on_a_ray_cluster(tmp_path):
    ray = pytest.importorskip("ray")
    try:
        record = tune(ground(), replace(PLAN, trials=4), tmp_path, cluster=Cluster(None))
    finally:
        ray.shutdown()
    assert [t["state"] for t in record["trials"]] == ["complete"] * 4
    assert record["default_scores"]["mean"] == pytest.approx(cross_validate(ground(), PLAN).mean, rel=1e-3)
