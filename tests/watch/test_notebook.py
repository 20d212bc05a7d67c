"""Notebooks run cell by cell, as scripts, and what is found is told by cell and line."""

import json

import pytest

from whyvae.api import run
from whyvae.watch.notebook import NotANotebook, cells

MODEL = """\
%matplotlib inline
!pip install nothing
import torch
import torch.nn as nn
torch.manual_seed(0)
data = torch.rand(128, 6)
encoder, decoder = nn.Linear(6, 4), nn.Linear(2, 6)
optimizer = torch.optim.Adam(decoder.parameters())
"""
TRAINING = """\
%%time
for x in data.split(16):
    mu, logvar = encoder(x).chunk(2, 1)
    out = decoder(mu + torch.randn_like(mu) * (logvar / 2).exp())
    loss = ((out - x) ** 2).sum() - 0.5 * (1 + logvar - mu**2 - logvar.exp()).sum()
    loss.backward()
    optimizer.step()
    encoder.zero_grad(); optimizer.zero_grad()
display(loss)
"""


def written(path, *codes):
    """A notebook whose code cells these are, after one of text."""
    texts = [{"cell_type": "markdown", "source": ["# A VAE"]}]
    made = [{"cell_type": "code", "source": code.splitlines(keepends=True)} for code in codes]
    path.write_text(json.dumps({"cells": texts + made, "nbformat": 4}))
    return str(path)


def test_what_is_found_stands_in_a_cell(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "vae.ipynb", MODEL, "%%bash\nls", TRAINING)
    report = run("vae.ipynb")
    (first, *_) = report.to_dict()["findings"]
    assert first["code"] == "WIR01"
    assert first["where"] == {"file": "vae.ipynb[cell 3]", "line": 7}
    assert "optimizer.step()" in str(report)


def test_a_remainder_that_begins_a_line_stays(tmp_path):
    (code,) = cells(written(tmp_path / "vae.ipynb", "x = (7\n% 4)"))
    held = {}
    exec(code, held)  # noqa: S102 - as the run does
    assert held["x"] == 3


@pytest.mark.parametrize(
    ("content", "says"),
    [("{}", "is no notebook"), ("PK", "is no notebook"), (None, r"vae.ipynb\[cell 1\]:2 is not Python")],
)
def test_what_is_none_costs_one_line(tmp_path, content, says):
    path = tmp_path / "vae.ipynb"
    if content is None:
        written(path, "x = 1\ny = = 2")
    else:
        path.write_text(content)
    with pytest.raises(NotANotebook, match=says) as refused:
        cells(str(path))
    assert "\n" not in str(refused.value)
