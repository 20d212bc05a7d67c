"""Which treatment a trial takes and what it calls verified, on results that are written here, not trained."""

import json
import random
from dataclasses import replace

import pytest

from whyvae.treat.arm import Spec
from whyvae.treat.effect import Outcome, effect, paired
from whyvae.treat.length import Budget
from whyvae.treat.patch import Changed, Patch
from whyvae.treat.remedy import Treatment, by_promise
from whyvae.treat.told import cure_line, cured_record
from whyvae.treat.trial import Treating

CHUNKS = 6


def outcome(likeness, spread=0.005, seed=0):
    noise = random.Random(seed)
    return Outcome(tuple(likeness + noise.gauss(0, spread) for _ in range(CHUNKS)), (0.9,) * CHUNKS, -50.0).to_dict()


def result(likeness, codes=(), proposals=(), seconds=10.0, seed=0):
    findings = [{"code": c, "severity": "error", "remedies": []} for c in codes]
    record = {"verdict": "sick" if codes else "healthy", "findings": findings, "cost": {"training_s": seconds}}
    return {
        "failed": "", "error": "", "seconds": seconds, "steps": 1000, "outcome": outcome(likeness, seed=seed),
        "record": record, "proposals": list(proposals),
    }  # fmt: skip


def plan(remedy, code, *, sources=None, injectable=True):
    return {
        "treatment": Treatment(remedy, "a change", (code,), "retrain", {}).to_dict(), "sources": sources,
        "injectable": injectable, "why_no_edit": "", "snippet": "x", "where": "",
    }  # fmt: skip


class Answers:
    """An engine that answers each arm with what is written, and keeps what it was asked."""

    def __init__(self, answer):
        self.answer, self.asked = answer, []

    def __call__(self, tasks):
        for task in tasks:
            self.asked.append(task)
            yield task.name, self.answer(task)


def treating(tmp_path, answer, budget=None, seeds=1):
    engine = Answers(answer)
    made = Treating(Spec("train.py", ""), tmp_path, engine, budget or Budget(), seeds, lambda _: None)
    made.control()
    return made.treat(), engine


def by_remedy(control, placebo, treated):
    def answer(task):
        if task.name.startswith("control"):
            return control
        if task.name.startswith("placebo"):
            return placebo
        names = list(task.spec.sources.values()) or [t.remedy for t in task.spec.treatments]
        return treated[names[-1]]

    return answer


def test_the_cure_beats_control_and_placebo(tmp_path):
    control = result(0.2, ["OBJ01"], [plan("b", "OBJ01"), plan("a", "OBJ01")])
    treated = {"a": result(0.8, seed=1), "b": result(0.21, ["OBJ01"], seed=2)}
    trial, _ = treating(tmp_path, by_remedy(control, result(0.21, ["OBJ01"], seed=3), treated))
    assert [t.treatment.remedy for t in trial.taken] == ["a"]
    assert trial.taken[0].verified
    assert trial.healthy_after
    assert not trial.tried[0].verified


def test_what_makes_samples_better_is_built_on_though_the_fault_is_not_gone(tmp_path):
    control = result(0.2, ["TRN03"], [plan("a", "TRN03")])
    treated = {"a": result(0.6, ["TRN03"], [plan("b", "TRN03")], seed=1), "b": result(0.9, seed=2)}
    trial, _ = treating(tmp_path, by_remedy(control, result(0.21, ["TRN03"], seed=3), treated))
    assert [t.treatment.remedy for t in trial.taken] == ["a", "b"]
    assert [t.verified for t in trial.taken] == [False, True]
    assert trial.verified
    assert trial.healthy_after


def test_a_later_round_gives_away_nothing_of_an_earlier_one(tmp_path):
    control = result(0.2, ["OBJ01"], [plan("a", "OBJ01")])
    treated = {"a": result(0.9, ["TRN03"], [plan("b", "TRN03")], seed=1), "b": result(0.5, seed=2)}
    trial, _ = treating(tmp_path, by_remedy(control, result(0.21, ["OBJ01"], seed=3), treated))
    assert [t.treatment.remedy for t in trial.taken] == ["a"]
    assert trial.verified


def test_better_is_not_cured(tmp_path):
    control = result(0.2, ["TRN03"], [plan("a", "TRN03")])
    trial, _ = treating(
        tmp_path, by_remedy(control, result(0.21, ["TRN03"], seed=3), {"a": result(0.6, ["TRN03"], seed=1)})
    )
    assert [t.treatment.remedy for t in trial.taken] == ["a"]
    assert not trial.verified
    assert cure_line(cured_record(trial, None, "", applied=False)).startswith("BETTER, NOT CURED")


def test_a_longer_training_may_take_longer(tmp_path):
    longer = plan("a", "TRN03")
    longer["treatment"]["settings"] = {"times": 10}
    control = result(0.2, ["TRN03"], [longer])
    _, engine = treating(tmp_path, by_remedy(control, result(0.2, seed=3), {"a": result(0.8, seed=1)}))
    limits = {t.name: t.limit for t in engine.asked}
    assert limits["round1-0"] > limits["placebo"]


def test_nothing_more_is_tried_where_the_first_is_enough(tmp_path):
    control = result(0.2, ["OBJ01"], [plan(name, "OBJ01") for name in "abc"])
    treated = {"a": result(0.8, seed=1), "b": result(0.9, seed=2), "c": result(0.7, seed=4)}
    trial, engine = treating(tmp_path, by_remedy(control, result(0.2, ["OBJ01"], seed=3), treated))
    assert [t.name for t in engine.asked] == ["control", "round1-0", "placebo"]
    assert [t.treatment.remedy for t in trial.taken] == ["a"]


def test_all_are_tried_where_the_first_leaves_something(tmp_path):
    control = result(0.2, ["OBJ01"], [plan(name, "OBJ01") for name in "abc"])
    treated = {"a": result(0.8, ["CAP01"], seed=1), "b": result(0.9, seed=2), "c": result(0.7, seed=4)}
    trial, engine = treating(tmp_path, by_remedy(control, result(0.2, ["OBJ01"], seed=3), treated))
    assert [t.name for t in engine.asked] == ["control", "round1-0", "placebo", "round1-1", "round1-2"]
    assert [t.treatment.remedy for t in trial.taken] == ["b"]


def test_further_seeds_come_in_pairs_and_the_placebo_is_the_first_of_the_controls(tmp_path):
    (tmp_path / "round1-0").mkdir()
    (tmp_path / "round1-0/spec.json").write_text(json.dumps(Spec("train.py", str(tmp_path / "round1-0")).to_dict()))
    control = result(0.2, ["OBJ01"], [plan("a", "OBJ01")])

    def answer(task):
        if task.name.startswith("round1-0"):
            return result(0.8 + 0.01 * task.spec.offset / 10_007, seed=1)
        return control if task.name == "control" else result(0.2, ["OBJ01"], seed=3)

    trial, engine = treating(tmp_path, answer, seeds=3)
    later = {t.name: t.spec.offset // 10_007 for t in engine.asked[3:]}
    assert later == {"round1-0-seed1": 1, "round1-0-seed2": 2, "control-seed2": 2}
    assert trial.taken[0].seeds == 3
    assert trial.taken[0].effect.value == pytest.approx(0.61, abs=0.01)


def test_how_samples_are_drawn_is_compared_with_no_other_training(tmp_path):
    control = result(0.8, ["GEN02"], [plan("draws", "GEN02", sources={"/t.py": "draws"}, injectable=False)])
    _, engine = treating(tmp_path, by_remedy(control, None, {"draws": result(0.8, seed=1)}))
    assert [t.name for t in engine.asked] == ["control", "round1-0"]


@pytest.mark.parametrize(
    ("code", "first"),
    [("OBJ01", "kl_weight"), ("OBJ02", "sum_over_features"), ("OBJ04", "attached"), ("OUT01", "scale_data"), ("TRN01", "guarded_log")],
)  # fmt: skip
def test_what_was_made_for_a_fault_comes_before_what_answers_many(code, first):
    assert next(r.name for r in by_promise() if code in r.treats) == first


def test_no_verification_without_better_samples(tmp_path):
    control = result(0.2, ["OBJ01"], [plan("a", "OBJ01")])
    trial, _ = treating(tmp_path, by_remedy(control, result(0.2, ["OBJ01"], seed=3), {"a": result(0.2, seed=1)}))
    assert trial.taken[0].cured
    assert not trial.taken[0].verified


def test_no_verification_within_what_other_seeds_do(tmp_path):
    """The placebo lies as far from the control as the treatment does."""
    control = result(0.2, ["OBJ01"], [plan("a", "OBJ01")])
    trial, _ = treating(tmp_path, by_remedy(control, result(0.5, ["OBJ01"], seed=3), {"a": result(0.55, seed=1)}))
    assert not trial.taken[0].verified


def test_a_placebo_that_is_near_by_chance_proves_nothing(tmp_path):
    """0.02 from seed to seed, times 2.57: a gain of 0.05 may be chance, one of 0.07 is none."""
    control = result(0.2, ["OBJ01"], [plan("a", "OBJ01"), plan("b", "OBJ01")])
    treated = {"a": result(0.245, seed=1), "b": result(0.275, seed=2)}
    trial, _ = treating(tmp_path, by_remedy(control, result(0.2, ["OBJ01"], seed=3), treated))
    assert [t.verified for t in trial.tried] == [False, True]


def test_what_makes_samples_worse_is_not_taken(tmp_path):
    control = result(0.6, ["OBJ03"], [plan("a", "OBJ03")])
    trial, _ = treating(tmp_path, by_remedy(control, result(0.6, ["OBJ03"], seed=3), {"a": result(0.1, seed=1)}))
    assert trial.taken == []
    assert not trial.healthy_after
    assert cure_line(cured_record(trial, None, "", applied=False)).endswith("made samples worse")


def test_a_certificate_is_right_whatever_samples_score(tmp_path):
    """Noise scaled by the variance makes the KL light, and some data like that; something left is no cure, though."""
    control = result(0.6, ["POS03"], [plan("a", "POS03"), plan("b", "POS03")])
    treated = {"a": result(0.5, seed=1), "b": result(0.55, ["OBJ01"], seed=2)}
    trial, _ = treating(tmp_path, by_remedy(control, result(0.6, ["POS03"], seed=3), treated))
    assert [t.treatment.remedy for t in trial.taken] == ["a"]
    assert not trial.verified
    line = cure_line(cured_record(trial, None, "", applied=False))
    assert line.startswith("CURED, NOT VERIFIED")
    assert line.endswith("samples score less than before")


def test_rounds_go_on_with_what_is_left(tmp_path):
    first, second = plan("a", "WIR02"), plan("b", "OBJ01", sources={"/train.py": "b"}, injectable=False)
    control = result(0.1, ["WIR02"], [first])
    treated = {"a": result(0.4, ["OBJ01"], [second], seed=1), "b": result(0.9, seed=2)}
    trial, engine = treating(tmp_path, by_remedy(control, result(0.1, ["WIR02"], seed=3), treated))
    assert [t.treatment.remedy for t in trial.taken] == ["a", "b"]
    last = engine.asked[-1].spec
    assert [t.remedy for t in last.treatments] == ["a"]  # the cure of the first round stays
    assert last.sources == {"/train.py": "b"}
    assert trial.sources == {"/train.py": "b"}


def test_a_patch_is_made_of_what_the_file_held_at_the_diagnosis(tmp_path):
    script = tmp_path / "train.py"
    script.write_text("loss = 100 * kl\n")
    control = result(0.1, ["OBJ01"], [plan("a", "OBJ01", sources={str(script): "a"}, injectable=False)])

    def answer(task):
        if task.name == "round1-0":
            script.write_text("loss = 7 * kl\n")  # the user goes on working meanwhile
            return result(0.9, seed=1)
        return {"control": control, "placebo": result(0.1, ["OBJ01"], seed=3)}[task.name]

    trial, _ = treating(tmp_path, answer)
    assert trial.originals == {str(script): "loss = 100 * kl\n"}
    with pytest.raises(Changed):
        Patch(trial.originals, trial.sources).apply()
    assert script.read_text() == "loss = 7 * kl\n"


@pytest.mark.parametrize(("code", "ignored"), [("OBJ01", ("OBJ06",)), ("OBJ06", None)])
def test_an_injection_is_not_acquitted_of_what_it_is_to_cure(tmp_path, code, ignored):
    control = result(0.1, [code], [plan("a", code)])
    _, engine = treating(tmp_path, by_remedy(control, control, {"a": result(0.9, seed=1)}))
    assert next(t.spec.ignore for t in engine.asked if t.name == "round1-0") == ignored


@pytest.mark.parametrize(("code", "ignored"), [("OBJ01", ("TRN03", "OBJ07")), ("TRN03", ("OBJ07",))])
def test_a_shortened_arm_is_not_told_that_it_was_too_short(tmp_path, code, ignored):
    control = result(0.1, [code], [plan("a", code, sources={"/t.py": "a"}, injectable=False)])
    _, engine = treating(tmp_path, by_remedy(control, control, {"a": result(0.9)}), Budget(share=1.5, floor=0.0))
    assert {t.name: t.spec.ignore for t in engine.asked}["round1-0"] == ignored


def test_there_are_three_rounds_and_not_more(tmp_path):
    endless = result(0.5, ["OBJ01", "CAP01"], [plan("a", "OBJ01")])
    control = replace_codes(endless, ["OBJ01"])
    trial, _ = treating(
        tmp_path, by_remedy(control, control, {"a": {**endless, "record": {**endless["record"], "findings": [
            {"code": "CAP01", "severity": "error", "remedies": []}]}}}), Budget(seconds=1e6),
    )  # fmt: skip
    assert len(trial.taken) == 3
    assert "3 rounds" in trial.stopped


def replace_codes(made, codes):
    findings = [{"code": c, "severity": "error", "remedies": []} for c in codes]
    return {**made, "record": {**made["record"], "findings": findings}}


def test_arms_are_shortened_to_fit_the_budget(tmp_path):
    control = result(0.2, ["OBJ01"], [plan("a", "OBJ01")], seconds=1000.0)
    answer = by_remedy(control, result(0.2, ["OBJ01"], seed=3), {"a": result(0.8, seed=1)})
    _, engine = treating(tmp_path, answer, Budget(share=1.5, floor=0.0))
    steps = {task.name: task.spec.steps for task in engine.asked}
    assert steps == {"control": None, "round1-0": 375, "control-375": 375, "placebo-375": 375}


def two_causes(seconds):
    """A script whose second cause is seen when the first is repaired, and how its arms end."""
    control = result(0.1, ["WIR02"], [plan("a", "WIR02")], seconds=seconds)
    treated = {"a": result(0.4, ["OBJ01"], [plan("b", "OBJ01")], seed=1), "b": result(0.9, seed=2)}
    return control, treated


def test_a_shorter_round_has_a_placebo_and_a_control_of_its_own(tmp_path):
    """The whole placebo ends at 0.11, the short one at 0.85: it shows what 150 steps from other seeds may do."""
    control, treated = two_causes(10.0)

    def answer(task):
        if task.spec.steps is None:
            return by_remedy(control, result(0.11, ["WIR02"], seed=3), treated)(task)
        short = {"control": result(0.1, ["WIR02"], seed=4), "placebo": result(0.85, ["WIR02"], seed=5)}
        return short.get(task.name.split("-")[0], treated["b"])

    trial, engine = treating(tmp_path, answer, Budget(share=2.6, floor=0.0))
    steps = [(task.name, task.spec.steps) for task in engine.asked]
    assert steps[:3] == [("control", None), ("round1-0", None), ("placebo", None)]
    assert steps[3:] == [("round2-0", 150), ("control-150", 150), ("placebo-150", 150)]
    assert [t.verified for t in trial.taken] == [True, False]


def test_a_length_with_control_and_placebo_is_used_again(tmp_path):
    """Three of four shares are spent in round one: the last pays for one arm as long, where nothing else is new."""
    control, treated = two_causes(10.0)

    def answer(task):
        found = by_remedy(control, control, treated)(task)
        return found if task.spec.steps is None else {**found, "seconds": task.spec.steps / 100}

    trial, engine = treating(tmp_path, answer, Budget(share=1.2, floor=0.0))
    assert [t.name for t in engine.asked] == ["control", "round1-0", "control-300", "placebo-300", "round2-0"]
    assert [t.share for t in trial.taken] == pytest.approx([0.3, 0.3])


def test_a_budget_that_gives_nothing_is_said(tmp_path):
    control = result(0.2, ["OBJ01"], [plan("a", "OBJ01")], seconds=1000.0)
    trial, engine = treating(tmp_path, by_remedy(control, control, {}), Budget(seconds=10.0))
    assert "budget" in trial.stopped
    assert len(engine.asked) == 1


def test_what_has_no_form_is_advice(tmp_path):
    control = result(0.2, ["TRN04"], [plan("more data", "TRN04", injectable=False)])
    trial, _ = treating(tmp_path, by_remedy(control, control, {}))
    assert [a["treatment"]["remedy"] for a in trial.advice] == ["more data"]


def test_a_failed_arm_is_told_and_not_taken(tmp_path):
    control = result(0.2, ["OBJ01"], [plan("a", "OBJ01"), plan("b", "OBJ01")])
    treated = {"a": {"failed": "no end within 5 s"}, "b": result(0.8, seed=2)}
    trial, _ = treating(tmp_path, by_remedy(control, result(0.2, ["OBJ01"], seed=3), treated))
    assert trial.tried[0].failed == "no end within 5 s"
    assert [t.treatment.remedy for t in trial.taken] == ["b"]


def test_an_interrupt_keeps_what_is_done(tmp_path):
    control = result(0.2, ["WIR02"], [plan("a", "WIR02")])
    treated = result(0.6, ["OBJ01"], [plan("b", "OBJ01")], seed=1)

    def answer(task):
        if task.name.startswith("round2"):
            raise KeyboardInterrupt
        return {"control": control, "placebo": result(0.2, ["WIR02"], seed=3)}.get(task.name, treated)

    trial, _ = treating(tmp_path, answer)
    assert [t.treatment.remedy for t in trial.taken] == ["a"]
    assert "interrupted" in trial.stopped


def test_a_sampling_fault_is_cured_when_it_is_found_no_more(tmp_path):
    control = result(0.8, ["GEN02"], [plan("draws", "GEN02", sources={"/t.py": "draws"}, injectable=False)])
    trial, _ = treating(tmp_path, by_remedy(control, result(0.8, ["GEN02"], seed=3), {"draws": result(0.8, seed=1)}))
    assert trial.taken[0].verified


def test_an_effect_is_a_difference_with_the_interval_of_its_samples():
    found = effect((0.8, 0.9, 1.0), (0.1, 0.2, 0.3))
    assert found.value == pytest.approx(0.7)
    error = (2 * 0.1**2 / 3) ** 0.5
    assert found.high - found.value == pytest.approx(2.571 * error)
    assert effect((0.8, 0.9, 1.0), (0.1, 0.2, 0.3), between=0.5).low < 0


def test_pairs_of_seeds_have_students_interval():
    found = paired([(0.8, 0.2), (0.9, 0.2), (0.7, 0.2)])
    assert found.value == pytest.approx(0.6)
    assert found.high - found.value == pytest.approx(4.303 * 0.1 / 3**0.5, rel=1e-3)  # t, 2 degrees of freedom


def test_a_spec_survives_the_way_to_another_process():
    spec = Spec(
        "a.py", "f", ("--x",), treatments=(Treatment("a", "b", ("OBJ01",), "retrain", {"w": 1.0}),), ignore=("OBJ06",)
    )
    assert Spec.of(spec.to_dict()) == spec
    assert replace(Spec.of(spec.to_dict()), offset=3) != spec
