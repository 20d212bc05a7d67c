"""Every edit on every healthy script: a file that is Python, or a sentence; never another error."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
from patients import case_of

from whyvae.treat.remedy import NoEdit

SCRIPTS = sorted((Path(__file__).parents[1] / "scripts" / "healthy").glob("*.py"))
SETTINGS = {
    "activations_between": [{"part": "encoder"}, {"part": "decoder"}],
    "align_target": [{"what": "input"}], "attached": [{"what": "kl"}, {"what": "z"}], "batch_average": [{}],
    "calibrated": [{}], "copied_buffers": [{}], "clip_gradients": [{"norm": 10.0}], "eval_mode": [{}], "finite_data": [{"way": "made"}, {"way": "left out"}], "batch_statistics": [{"way": "momentum"}, {"way": "own"}],
    "rows_apart": [{"way": "axis"}, {"way": "without"}], "z_alone": [{}], "free_heads": [{}], "guarded_log": [{}],
    "kl_formula": [{}], "kl_weight": [{"factor": 0.1}], "learning_rate": [{"factor": 0.1}], "living_units": [{}],
    "longer": [{"times": 3}], "more_latents": [{"latents": 64}], "noise": [{}], "optimize_all": [{}],
    "output_activation": [{"at": "last"}, {"at": "loss"}, {"at": "classes"}], "prior_draws": [{}], "learned_draws": [{}],
    "reconstruction_formula": [{"mistake": "sign"}, {"mistake": "exchanged"}, {"mistake": "added first"}], "sample_in_training": [{}],
    "scale_data": [{"how": "range", "low": 0.0, "high": 255.0}, {"how": "standardise"}], "schedule": [{"factor": 0.1}],
    "undo_scaling": [{"way": "inverse"}, {"way": "samples"}],
    "show_output": [{"what": "bytes"}, {"what": "activation"}, {"what": "colours"}, {"what": "range", "low": -1.0, "high": 1.0, "floor": 0.0, "ceiling": 1.0}], "sum_over_features": [{}],
    "paired": [{}], "all_examples": [{"rows": 0}, {"rows": 64}], "free_scale": [{"bound": "min"}, {"bound": "max"}], "not_standardised": [{"low": -0.4, "high": 2.8}], "epoch_schedule": [{"way": "epoch"}, {"way": "without"}], "weight_decay": [{"decay": 0.01}], "wider": [{"part": "encoder", "width": 512}, {"part": "decoder", "width": 512}],
    "stated_scale": [{"factor": 0.3}], "zero_grad": [{}],
}  # fmt: skip
# What is right is left: these find nothing to do on a healthy script.
CERTAIN = ("align_target", "attached", "batch_average", "kl_formula", "noise", "optimize_all", "reconstruction_formula")


def test_every_edit_is_tried():
    here = Path(importlib.import_module("whyvae.treat.edits").__file__).parent
    assert {p.stem for p in here.glob("*.py")} - {"__init__"} == set(SETTINGS)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: p.stem)
def test_an_edit_is_python_or_a_sentence(tmp_path, script):
    case = case_of(tmp_path, script.read_text(encoding="utf-8"))
    shown = case.subject.decoded[-1].place if case.subject.decoded else None
    at = {"file": shown.file, "line": shown.line} if shown else {"file": case.subject.script, "line": 1}
    for name, ways in SETTINGS.items():
        edit = importlib.import_module(f"whyvae.treat.edits.{name}").edit
        for settings in ways:
            try:
                edited = edit(case, settings | at)
            except NoEdit:
                continue
            assert name not in CERTAIN, f"{name} changes what is right: {edited}"
            for text in edited.values():
                compile(text, str(script), "exec")
