"""Runs `whyvae fix` on every broken script of a corpus, and says how many end cured, and at what cost.

    python -m bench.cures [--folder FOLDER | --bank FOLDER [--part exam|development] [--draw SEED]] [--only REGEX] [--first N] [--jobs 1] [--out cures.json]

FOLDER holds scripts and a manifest.json as for bench/corpus.py; --bank takes the script patients of the bank, whose data are
made in that folder. Printed in the end: verified cures and patches that leave a healthy script, of all broken scripts and of
those whose cause is one that a change of the script can repair; healthy scripts that something was "cured" on; cost as a
multiple of one training run; and what a change of the seeds alone does to the score (control against placebo).
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bench.corpus import SCRIPTS, environment

LIMIT = 1500  # seconds for one script
NOT_OURS = {"DAT03", "TRN04"}  # more data is no edit of a script
JSON = dict[str, Any]


def fix(entry: JSON) -> JSON:
    """One script in a process and a folder of its own."""
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        script = Path(scratch) / "home" / Path(entry["path"]).name
        script.parent.mkdir()
        shutil.copy(entry["path"], script)
        record = Path(scratch) / "record.json"
        command = [
            sys.executable,
            "-W",
            "ignore",
            "-m",
            "whyvae",
            "fix",
            "--quiet",
            "--jobs",
            "1",
            "--json",
            str(record),
        ]
        command += ["--out", f"{scratch}/runs", str(script)]
        try:
            done = subprocess.run(
                command,
                cwd=script.parent,
                capture_output=True,
                text=True,
                timeout=LIMIT,
                env=environment(),
                check=False,
            )
        except subprocess.TimeoutExpired:
            return {**entry, "failed": f"no end within {LIMIT} s"}
        if not record.exists():
            return {**entry, "failed": done.stderr.strip()[-300:] or f"status {done.returncode}"}
        data = json.loads(record.read_text())
        seeds = [json.loads(p.read_text()) for p in Path(scratch).glob("runs/*/placebo/result.json")]
    cost, cure = data["cost"], data["cure"]
    spent = cost["examining_s"] + cost["watching_s"] + cost["treating_s"]
    return {
        **entry, "failed": "", "verdict": data["verdict"], "found": [f["code"] for f in data["findings"]], "cure": cure,
        "times": spent / max(cost["training_s"], 1e-9), "training_s": cost["training_s"],
        "placebo": [s["outcome"]["prior"] for s in seeds if "outcome" in s],
        "seconds": round(time.perf_counter() - begin, 1),
    }  # fmt: skip


def cured(result: JSON) -> bool:
    """A verified cure, or a patch that leaves a script our own examination finds healthy."""
    cure = result.get("cure") or {}
    return bool(cure.get("rounds")) and (
        cure["verified"] or (bool(cure["patch"]) and cure["verdict_after"] == "healthy")
    )


def line(result: JSON) -> str:
    if result["failed"]:
        return f"FAILED {result['name']:44s} {result['failed'][:160]}"
    cure = result["cure"]
    how = " + ".join(r["name"] for r in cure["rounds"]) or cure["stopped"] or "nothing helped"
    mark = "cured " if cured(result) else "well  " if result["verdict"] == "healthy" else "NOT   "
    proof = "verified" if cure["verified"] else ""
    found = " ".join(result["found"][:3])
    return f"{mark} {result['name']:44s} {found:22s} {how:40s} {proof:9s} after: {cure['verdict_after']} {' '.join(cure['left'])} {result['seconds']}s"


def table(results: list[JSON]) -> str:
    sick = [r for r in results if r["expect"] != "healthy"]
    curable = [r for r in sick if r["expect"] not in NOT_OURS]
    well = [r for r in results if r["expect"] == "healthy"]
    times = sorted(r["times"] for r in sick if not r["failed"])
    seeds = [
        abs(statistics.mean(r["placebo"][0]) - t["trial"]["control"])
        for r in results if not r["failed"] and r["placebo"] and r["placebo"][0]
        for t in r["cure"]["tried"][:1] if t["trial"].get("control") is not None and t["trial"]["metric"].startswith("like")
    ]  # fmt: skip
    rows = [
        f"cured: {sum(map(cured, curable))} of {len(curable)} with a cause that an edit can repair, {len(sick)} broken in all",
        f"verified against control and placebo: {sum(bool(r.get('cure', {}).get('verified')) for r in curable)}",
        f"patched script found healthy: {sum((r.get('cure') or {}).get('verdict_after') == 'healthy' for r in curable)}",
        f"healthy scripts on which something was cured: {sum(cured(r) for r in well)} of {len(well)}",
    ]
    if times:
        rows.append(
            f"diagnosis and cure, in training runs: median {statistics.median(times):.1f}, from {times[0]:.1f} to {times[-1]:.1f}"
        )
    if seeds:
        rows.append(
            f"control against placebo (other seeds), {len(seeds)} scripts: median difference {statistics.median(seeds):.3f}, "
            f"largest {max(seeds):.3f}"
        )
    return "\n".join(rows)


def from_manifest(folder: Path) -> list[JSON]:
    manifest = json.loads((folder / "manifest.json").read_text())
    known = [e for e in manifest if re.fullmatch(r"[A-Z]{3}\d\d|healthy", e["expect"])]
    return [{"path": str(folder / e["path"]), "name": Path(e["path"]).stem, "expect": e["expect"]} for e in known]


def from_bank(folder: Path, part: str = "", draw: int = 0) -> list[JSON]:
    from bench.bank.patient import data_file, script_of
    from bench.bank.plan import ROUNDS, plan

    (folder / "data").mkdir(parents=True, exist_ok=True)
    (folder / "scripts").mkdir(exist_ok=True)
    found = []
    chosen = [s for s in plan(ROUNDS, draw) if s.form == "script" and (not part or s.exam == (part == "exam"))]
    for spec in chosen:
        path = folder / "scripts" / f"patient_{spec.id.replace('-', '_')}.py"
        path.write_text(script_of(spec, data_file(spec, folder / "data")).text)
        found.append(
            {
                "path": str(path),
                "name": f"{spec.id} {'+'.join(f for f, _ in spec.faults)} {spec.base.family}",
                "expect": (spec.codes or ["healthy"])[0],
            }
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=SCRIPTS)
    parser.add_argument("--bank", type=Path)
    parser.add_argument("--draw", type=int, default=0, help="another draw of the bank's plan")
    parser.add_argument("--part", choices=("exam", "development"), default="")
    parser.add_argument("--only", default="")
    parser.add_argument("--first", type=int)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    entries = (
        from_bank(options.bank.resolve(), options.part, options.draw)
        if options.bank
        else from_manifest(options.folder.resolve())
    )
    chosen = [e for e in entries if re.search(options.only, f"{e['path']} {e['expect']}")][: options.first]
    results = []
    with ThreadPoolExecutor(options.jobs) as pool:
        for result in pool.map(fix, chosen):
            results.append(result)
            print(line(result), flush=True)
            if options.out:
                options.out.write_text(json.dumps(results, indent=1))
    print(table(results))


if __name__ == "__main__":
    main()
