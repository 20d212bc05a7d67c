"""GEN03 on literal modes, on both sides of the limit."""

from dataclasses import replace

import pytest

from whyvae.probes.sampling_mode import Mode, SamplingMode
from whyvae.rules.generation.generated_in_train_mode import GeneratedInTrainMode
from whyvae.verdict import Finding, Healthy, Where

RIGHT = Mode(Where("train.py", 40), (), None, 16, 0.0, 900)
WRONG = replace(RIGHT, at=Where("train.py", 70), layers=("dropout",), changed=0.4)


def verdict(*places):
    return GeneratedInTrainMode.check(SamplingMode(places))


@pytest.mark.parametrize(("layer", "changed", "severity"), [
    ("dropout", 0.009, None), ("dropout", 0.011, "warning"), ("dropout", 0.21, "error"),
    ("batch_norm", 0.049, None), ("batch_norm", 0.051, "warning"), ("batch_norm", 0.19, "warning"),
])  # fmt: skip
def test_what_it_does_to_the_samples_decides(layer, changed, severity):
    found = verdict(replace(WRONG, layers=(layer,), changed=changed))
    assert getattr(found, "severity", None) == severity


def test_the_layer_is_named_at_the_line_of_the_call():
    found = verdict(replace(WRONG, layers=("batch_norm", "dropout2d")))
    assert isinstance(found, Finding)
    assert "batch norm and dropout" in found.summary
    assert found.where == Where("train.py", 70)


def test_the_last_place_counts():
    assert isinstance(verdict(WRONG, RIGHT), Healthy)
    assert isinstance(verdict(RIGHT, WRONG), Finding)
