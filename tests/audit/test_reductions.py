"""How much each term is averaged, against counting by hand."""

import pytest

from whyvae.audit.reductions import reductions
from whyvae.testing import Patient, kl


def squares(output, x):
    return (output - x).pow(2)


D, K = 12, 4  # numbers of an example and of its code, as Patient makes them by default


@pytest.mark.parametrize(("loss", "ratio"), [
    (lambda o, x, m, v: squares(o, x).sum(1).mean() + kl(m, v) / len(x), 1),
    (lambda o, x, m, v: squares(o, x).mean() + kl(m, v) / len(x), D),
    (lambda o, x, m, v: squares(o, x).mean() * D + kl(m, v) / len(x), 1),
    (lambda o, x, m, v: D * squares(o, x).mean() / 0.045 + kl(m, v) / len(x), 1),
    (lambda o, x, m, v: squares(o, x).mean(1).sum() * D / len(x) + kl(m, v) / len(x), 1),
    (lambda o, x, m, v: squares(o, x).sum(1).mean() * D + kl(m, v) / len(x), 1),  # a weight: nothing was averaged over D
    (lambda o, x, m, v: squares(o, x).mean() * 7 + kl(m, v) / len(x), D),
])  # fmt: skip
def test_what_is_averaged_and_summed_again_counts_once(loss, ratio):
    subject = Patient(loss=loss, steps=30).train()
    assert subject.tape.slots[subject.lineage.output].shape[1] == D
    assert subject.lineage.latents == K
    assert reductions(subject.deps, subject.lineage).ratio == pytest.approx(ratio)
