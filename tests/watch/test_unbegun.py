"""Scripts that stop before their first backward: data that are no numbers are named, and nothing else is."""

import pytest

import whyvae
from whyvae.api import NotExamined, run_session

SCRIPT = """
import torch
from torch import nn
from torch.distributions import Normal, kl_divergence

torch.manual_seed(0)
data = torch.rand(512, 12)
{spoil}
encoder, decoder = nn.Linear(12, 8), nn.Linear(4, 12)
optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()])
for step in range(20):
    x = data[torch.randint(512, (64,))]
    {fill}
    mu, logvar = encoder(x).chunk(2, 1)
    q = Normal(mu, torch.exp(logvar / 2), validate_args=True)
    y = decoder(q.rsample())
    {stop}
    loss = ((y - x) ** 2).sum(1).mean() + kl_divergence(q, Normal(0., 1.)).sum(1).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""
NONE = "data[:, 3] = float('nan')"


def session(tmp_path, *, spoil="", fill="", stop="", **asked):
    file = tmp_path / "train.py"
    file.write_text(SCRIPT.replace("{spoil}", spoil).replace("{fill}", fill).replace("{stop}", stop))
    return run_session(str(file), **asked)


@pytest.mark.parametrize("spoil", [NONE, "data[:, 5] /= 0"])
def test_data_that_stop_the_first_step_are_named_with_their_line(tmp_path, capsys, spoil):
    found = session(tmp_path, spoil=spoil)
    (finding,) = found.report.findings
    assert finding["code"] == "DAT01"
    assert finding["evidence"][0]["measured"] == 64  # one of each example of the batch
    assert finding["where"]["line"] == 14
    assert "no step is taken" in finding["summary"]
    assert found.report.to_dict()["subject"]["data"] == {"shape": [12]}
    assert "ValueError" in capsys.readouterr().err  # the script's own traceback is shown all the same


def test_data_too_large_for_the_first_step_are_named(tmp_path, capsys):
    """An exponential of a log-variance of hundreds is infinite before anything is learned."""
    found = session(tmp_path, spoil="data = 4000 * data")
    (finding,) = found.report.findings
    assert finding["code"] == "DAT02"
    assert finding["evidence"][0]["measured"] == pytest.approx(4000 / 3**0.5, rel=0.05)
    assert "ValueError" in capsys.readouterr().err


@pytest.mark.parametrize("how", [
    {"stop": "raise ValueError('not yet')"},
    {"spoil": NONE, "fill": "x = torch.nan_to_num(x)", "stop": "raise ValueError('not yet')"},
    {"spoil": NONE, "fill": "raise SystemExit"},
], ids=["another error", "filled in", "nothing was encoded"])  # fmt: skip
def test_what_is_not_the_data_s_fault_is_not_called_so(tmp_path, how):
    found = session(tmp_path, **how)
    assert found.report is None
    assert "no training was seen" in found.outcome.reason


def test_other_codes_can_be_asked_for(tmp_path):
    assert session(tmp_path, spoil=NONE, select=["OBJ"]).report is None


def test_a_run_that_begins_is_examined_as_a_whole(tmp_path):
    found = session(tmp_path, spoil="data[:3, 3] = float('nan')", fill="x = data[10:74]")
    assert found.outcome.unbegun is None
    assert found.outcome.subject.count == 20


@pytest.mark.parametrize(("spoil", "raised"), [(NONE, ValueError), ("", ZeroDivisionError)])
def test_in_ones_own_code_too(spoil, raised):
    """In a notebook, training stands in one cell and `watcher.examine()` in the next."""
    text = SCRIPT.replace("{spoil}", spoil).replace("{fill}", "").replace("{stop}", "" if spoil else "1 / 0")
    watcher = whyvae.watch()
    with pytest.raises(raised), watcher:
        exec(compile(text, __file__, "exec"), {})  # noqa: S102 - as a cell does
    if spoil:
        assert [f["code"] for f in watcher.examine().findings] == ["DAT01"]
        return
    with pytest.raises(NotExamined, match="it stopped with ZeroDivisionError: division by zero"):
        watcher.examine()
