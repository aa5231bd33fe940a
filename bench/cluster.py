"""What a Dask cluster costs verify and prepare of the real set: python bench/cluster.py --source ARCHIVE [--runs 3]

Two workers on loopback against two processes of this machine, by turns; then once more with one worker killed in the
middle. Every run's outputs are held against the first's. Medians of seconds by the clock; ratios of medians.
Writes bench/results/cluster.json. Needs requirements-cluster.lock.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from machines import Cluster, machines  # noqa: E402

from stages.files import write_json  # noqa: E402
from stages.shell.provenance import cpu  # noqa: E402

WRITES = {
    "verify": ["data/manifest.csv", "data/pairs.csv", "data/descriptors.npy", "metrics/integrity.csv"],
    "prepare": ["data/prepared"],
}


def run(stage: str, study: Path, cluster: Cluster | None, kill_after: float | None = None) -> dict[str, Any]:
    """Run a stage; return its seconds and the digest of what it wrote."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "BRAINMRI_WORKERS": "2"}
    environment["BRAINMRI_CLUSTER"] = cluster.address if cluster else ""
    if kill_after is not None and cluster:
        threading.Timer(kill_after, lambda: os.kill(cluster.pids()[0], signal.SIGKILL)).start()
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-m", f"stages.{stage}"], cwd=study, env=environment, check=True)
    seconds = time.perf_counter() - begun
    files = [
        each for out in WRITES[stage] for each in sorted([study / out, *(study / out).rglob("*")]) if each.is_file()
    ]
    digest = hashlib.sha256(b"".join(hashlib.sha256(each.read_bytes()).digest() for each in files)).hexdigest()
    return {"seconds": seconds, "digest": digest}


def median(runs: list[dict[str, Any]], what: str) -> float:
    return round(statistics.median(float(each[what]) for each in runs), 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", required=True, help="the real archive: an absolute path")
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    figures = []
    with tempfile.TemporaryDirectory() as temporary, machines(Path(temporary) / "machines") as two:
        shutil.copytree(ROOT / "studies", Path(temporary) / "studies")
        study = Path(temporary) / "studies/nickparvar"
        fetch = os.environ | {"PYTHONPATH": str(ROOT), "BRAINMRI_SOURCE": args.source}
        subprocess.run([sys.executable, "-m", "stages.fetch"], cwd=study, env=fetch, check=True)
        for stage in WRITES:
            here, there = [], []
            for _ in range(args.runs):
                here.append(run(stage, study, None))
                there.append(run(stage, study, two))
            killed = run(stage, study, two, median(there, "seconds") / 2)
            figures.append(
                {
                    "stage": stage,
                    "here_s": median(here, "seconds"),
                    "cluster_s": median(there, "seconds"),
                    "ratio": round(median(there, "seconds") / median(here, "seconds"), 2),
                    "one_killed_s": round(float(killed["seconds"]), 2),
                    "same_bytes": len({each["digest"] for each in [*here, *there, killed]}) == 1,
                    "runs": args.runs,
                }
            )
            print(json.dumps(figures[-1]), flush=True)
    result = {"cpu": cpu(), "cores": len(os.sched_getaffinity(0)), "workers": 2, "figures": figures}
    write_json(ROOT / "bench/results/cluster.json", result)


if __name__ == "__main__":
    main()
