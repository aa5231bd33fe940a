"""How long the pipeline takes, as whole processes: python bench/pipeline.py [--source ARCHIVE] [--runs 3]

Measured in a fresh clone of HEAD: `dvc repro` of the default study with every stage forced and an empty cache,
`dvc repro` with nothing to do, and, where --source is given, fetch, verify and prepare of studies/nickparvar.
Medians, with the least and the most; peak memory is that of the largest single process.
Writes bench/results/pipeline.json.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from stages.files import write_json  # noqa: E402
from stages.shell.provenance import cpu  # noqa: E402


def timed(command: list[str], folder: Path, environment: dict[str, str]) -> dict[str, float]:
    """Run a command; return its wall seconds and the peak memory of its largest process in GiB."""
    begun = time.perf_counter()
    process = subprocess.Popen(["/usr/bin/env", *command], cwd=folder, env=environment, stdout=subprocess.DEVNULL)
    peak = 0
    while process.poll() is None:
        peak = max(peak, *(resident(pid) for pid in family(process.pid)), 0)
        time.sleep(0.1)
    if process.returncode:
        sys.exit(f"{' '.join(command)} failed with {process.returncode}")
    return {"seconds": time.perf_counter() - begun, "peak_gib": peak / 2**30}


def family(pid: int) -> list[int]:
    """Return a process and all that descend from it."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            for child in task.read_text().split():
                found += family(int(child))
        except OSError:
            continue
    return found


def resident(pid: int) -> int:
    """Return the peak resident memory of a process in bytes, 0 where it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0)


def summary(runs: list[dict[str, float]]) -> dict[str, float]:
    """Return median, least and most seconds, and the highest peak."""
    seconds = [run["seconds"] for run in runs]
    return {
        "median_s": round(statistics.median(seconds), 2),
        "min_s": round(min(seconds), 2),
        "max_s": round(max(seconds), 2),
        "peak_gib": round(max(run["peak_gib"] for run in runs), 2),
        "runs": len(runs),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", help="the real archive: an absolute path or URL")
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    found = []
    with tempfile.TemporaryDirectory() as temporary:
        clone = Path(temporary) / "clone"
        subprocess.run(["git", "clone", "--quiet", "--shared", ROOT, clone], check=True)
        forced = []
        for _ in range(args.runs):
            shutil.rmtree(clone / ".dvc/cache", ignore_errors=True)
            forced.append(timed(["dvc", "repro", "--quiet", "--force"], clone, environment))
        found.append({"name": "default study, dvc repro --force"} | summary(forced))
        idle = [timed(["dvc", "repro", "--quiet"], clone, environment) for _ in range(args.runs)]
        found.append({"name": "default study, dvc repro with nothing to do"} | summary(idle))
        if args.source:
            study = clone / "studies/nickparvar"
            here = environment | {"BRAINMRI_SOURCE": args.source, "PYTHONPATH": "../.."}
            for stage, how in (("fetch", " from an archive here"), ("verify", ""), ("prepare", "")):
                runs = [timed([sys.executable, "-m", f"stages.{stage}"], study, here) for _ in range(args.runs)]
                found.append({"name": f"nickparvar, {stage}{how}"} | summary(runs))
    result = {"cpu": cpu(), "cores": len(os.sched_getaffinity(0)), "figures": found}
    write_json(ROOT / "bench/results/pipeline.json", result)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
