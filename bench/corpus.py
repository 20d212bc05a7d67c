"""Runs `whyvae run` on every script of tests/scripts and compares the first cause with the manifest.

    python bench/corpus.py [--folder FOLDER] [--only REGEX] [--jobs 2] [--out corpus.json]

FOLDER holds scripts and a manifest.json: a list of {"path", "expect": a code, "healthy", "inconclusive" or "no-vae",
"accept": further codes that would be right}.

Prints one line a script and a table at the end: first cause right, right cause among the first two, false alarms.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import whyvae

# Where the package lies: scripts run in folders of their own, from which a relative PYTHONPATH leads to another one.
OURS = str(Path(whyvae.__file__).resolve().parents[1])
SCRIPTS = Path(__file__).resolve().parents[1] / "tests" / "scripts"
LIMIT = 400  # seconds for one script, our examination included


def environment() -> dict[str, str]:
    """Of a script's process: this very package, one thread, no window."""
    ours = {"PYTHONPATH": OURS, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
    return {**os.environ, **ours}


def run(entry: dict[str, Any], folder: Path = SCRIPTS) -> dict[str, Any]:
    """One script in a process and a folder of its own; the record and what it took."""
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        record = Path(scratch) / "record.json"
        command = [sys.executable, "-W", "ignore", "-m", "whyvae", "run", "--json", str(record), "--out", scratch,
                   str(folder / entry["path"])]  # fmt: skip
        try:
            done = subprocess.run(
                command, cwd=scratch, capture_output=True, text=True, timeout=LIMIT, env=environment(), check=False
            )
        except subprocess.TimeoutExpired:
            return {**entry, "verdict": "timeout", "found": [], "exit": None, "seconds": LIMIT, "where": None,
                    "summary": "", "reason": "", "cost": {}}  # fmt: skip
        data = json.loads(record.read_text()) if record.exists() else {}
    return {
        **entry, "verdict": data.get("verdict", "none"), "exit": done.returncode,
        "found": [f["code"] for f in data.get("findings", [])], "where": (data.get("findings") or [{}])[0].get("where"),
        "summary": (data.get("findings") or [{}])[0].get("summary", ""), "reason": data.get("reason", "") or done.stderr.strip()[-200:],
        "cost": data.get("cost", {}), "seconds": round(time.perf_counter() - begin, 1),
    }  # fmt: skip


def right(result: dict[str, Any]) -> bool:
    expected = result["expect"]
    if expected == "healthy":
        return bool(result["verdict"] == "healthy")
    if not re.fullmatch(r"[A-Z]{3}\d\d", expected):
        return bool(result["verdict"] in {"none", "inconclusive"})
    return bool(result["found"][:1]) and result["found"][0] in {expected, *result.get("accept", [])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="regular expression on the path")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path, help="where to write all results as JSON")
    parser.add_argument("--folder", type=Path, default=SCRIPTS)
    options = parser.parse_args()
    folder = options.folder.resolve()
    manifest = json.loads((folder / "manifest.json").read_text())
    chosen = [e for e in manifest if re.search(options.only, e["path"])]
    with ThreadPoolExecutor(options.jobs) as pool:
        results = []
        for result in pool.map(partial(run, folder=folder), chosen):
            results.append(result)
            mark = "ok   " if right(result) else "WRONG"
            print(f"{mark} {result['path']:52s} {result['verdict']:13s} {' '.join(result['found'])} {result['seconds']}s "
                  + ("" if right(result) else f"{result['where']} {result['summary'][:150]} {result['reason'][:150]}"), flush=True)  # fmt: skip
    if options.out:
        options.out.write_text(json.dumps(results, indent=1))
    sick = [r for r in results if re.fullmatch(r"[A-Z]{3}\d\d", r["expect"])]
    well = [r for r in results if r["expect"] == "healthy"]
    print(f"first cause right {sum(map(right, sick))}/{len(sick)}; among the first two "
          f"{sum(bool({r['expect'], *r.get('accept', [])} & set(r['found'][:2])) for r in sick)}/{len(sick)}; "
          f"false alarms on healthy {sum(r['verdict'] == 'sick' for r in well)}/{len(well)}, "
          f"not declared healthy {sum(r['verdict'] != 'healthy' for r in well)}/{len(well)}")  # fmt: skip


if __name__ == "__main__":
    main()
