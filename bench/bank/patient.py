"""Trains and examines one patient of the bank; everything it leaves is one dictionary."""

from __future__ import annotations

import contextlib
import io
import json
import os
import time
import traceback
from pathlib import Path
from typing import Any

import numpy as np
from bench.bank.baselines import Curve
from bench.bank.families import load
from bench.bank.plan import Spec
from bench.bank.styles import Script, render

DATA_SEEDS = 4  # other rows every so many seeds
MAIN = "__main__"


def data_file(spec: Spec, folder: Path) -> Path:
    seed = spec.seed % DATA_SEEDS + (10 if spec.exam else 0)
    path = folder / f"{spec.base.family}-{seed}.npy"
    if not path.exists():
        partial = path.with_suffix(f".{os.getpid()}")
        with partial.open("wb") as file:
            np.save(file, load(spec.base.family, seed))
        partial.rename(path)
    return path


def script_of(spec: Spec, data: Path) -> Script:
    return render(spec.program(), spec.style, str(data), spec.seed)


def examined(spec: Spec, data_folder: Path, scratch: Path) -> dict[str, Any]:
    data = data_file(spec, data_folder)
    script = script_of(spec, data)
    path = scratch / "train.py"
    path.write_text(script.text)
    begin = time.perf_counter()
    run = _by_command if spec.form == "script" else _in_process
    try:
        found = run(spec, script, path, data)
    except Exception:  # noqa: BLE001 - a patient that fails is a row of the result
        found = {"verdict": "failed", "error": traceback.format_exc()[-600:]}
    return {**spec.to_dict(), **found, "seconds": round(time.perf_counter() - begin, 2)}


def _by_command(spec: Spec, script: Script, path: Path, data: Path) -> dict[str, Any]:
    """`whyvae run`, the command itself; this process was forked for it, which spares a busy machine the import of torch."""
    from whyvae.cli import main

    record = path.with_name("record.json")
    status = main(["run", "--quiet", "--json", str(record), "--out", str(path.parent), str(path)])
    if not record.exists():
        return {"verdict": "none", "error": "no record", "exit": status}
    return {**judged(json.loads(record.read_text())), "exit": status}


def _in_process(spec: Spec, script: Script, path: Path, data: Path) -> dict[str, Any]:
    from whyvae.api import NotExamined
    from whyvae.watch.watcher import Watcher

    names: dict[str, Any] = {"__name__": MAIN, "__file__": str(path)}
    code, watcher, raised = compile(script.text, str(path), "exec"), Watcher(), ""
    with contextlib.redirect_stdout(io.StringIO()), Curve() as curve:
        try:
            with watcher:
                exec(code, names)  # noqa: S102 - that is the patient
        except Exception as error:  # noqa: BLE001 - as whyvae run: what was seen until then is examined
            raised = repr(error)[:200]
    try:
        found = judged(watcher.examine().to_dict())
    except NotExamined as nothing:
        found = {"verdict": "none", "error": str(nothing)}
    with contextlib.redirect_stdout(io.StringIO()):
        harm = {"quality": 0.0} if raised else _harm(script, names, data)  # it never got to generate
    return {**found, "raised": raised, **harm, "curve": curve.says(), "kl": harm.get("kl")}


def judged(record: dict[str, Any]) -> dict[str, Any]:
    """Of the record, what the bank keeps."""
    found = [
        {key: f[key] for key in ("code", "kind", "severity", "confidence", "nats", "explained_by")}
        | {"evidence": [[e["what"][:60], e["measured"], e["op"], e["limit"]] for e in f["evidence"]]}
        for f in record["findings"]
    ]
    return {
        "verdict": record["verdict"], "reason": record.get("reason", "")[:300], "found": found,
        "passed": {p["code"]: [[e["measured"], e["op"], e["limit"]] for e in p["evidence"]] for p in record["passed"]},
        "skipped": {s["code"]: s["reason"][:120] for s in record["skipped"]}, "cost": record["cost"],
    }  # fmt: skip


def _harm(script: Script, names: dict[str, Any], data: Path) -> dict[str, Any]:
    """How good new rows and rebuilt rows are, in the unit of the data file: no rule of ours is asked."""
    import torch

    from whyvae.score import score

    try:
        exec(compile(script.after, "after", "exec"), names)  # noqa: S102 - as above
        rows = torch.tensor(np.load(data))[-400:].flatten(1).double()
        new, back = (names[name].double().flatten(1) for name in ("bank_shown", "bank_rebuilt"))
        error = float(((back - rows) ** 2).mean() / ((rows - rows.mean(0)) ** 2).mean())
        result: dict[str, Any] = {"error_share": error, "kl": names["bank_kl"], "quality": 0.0, "shares": None}
        if bool(torch.isfinite(new).all()):
            s = score(rows, new)
            parts = ("precision", "recall", "density", "coverage", "sliced", "kernel")
            result |= {"quality": s.quality, "shares": {n: round(getattr(s, n).share, 4) for n in parts}}
    except Exception as error:  # noqa: BLE001 - a script whose model cannot draw has no score
        return {"harm_error": repr(error)[:200]}
    return result
