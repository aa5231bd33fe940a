"""Processor time of `verify` beside that of another checkout, by turns: python bench/audit_work.py FOLDER CHECKOUT

FOLDER holds Training/<class>/* and Testing/<class>/*; CHECKOUT is another commit of this repository, whole:

    git worktree add /tmp/before 33a5182       (the last one before parts and slight turns of pictures were looked for)

Each measures with its own code and its own params.yaml, in one process of its own. Seconds of work, not by the clock:
medians, and the ratio. Writes bench/results/audit_work.json.
"""

from __future__ import annotations

import stages  # isort: skip  # noqa: F401 - pins the instruction set before numpy loads; CHECKOUT's, where that measures

import argparse
import os
import statistics
import subprocess
import sys
from pathlib import Path

from stages.files import write_json
from stages.params import load
from stages.shell.provenance import cpu
from stages.verify.schema import Params
from stages.verify.study import examine_study

HERE = Path(__file__).resolve().parents[1]


def seconds(folder: Path, checkout: Path) -> float:
    """Return the work of one verify of a checkout, which this script's copy does in a process of its own."""
    environment = os.environ | {"PYTHONPATH": str(checkout)}
    command = [sys.executable, str(Path(__file__).resolve()), str(folder), str(checkout), "--once"]
    answer = subprocess.run(command, cwd=checkout, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return float(answer.stdout)


def once(folder: Path, checkout: Path) -> None:
    """Print the seconds that all processes of one verify worked, the start of Python among them."""
    examine_study(folder, load(Params, checkout / "params.yaml"), 1)
    print(sum(os.times()[:4]))  # of a pool's workers too: they have ended


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--out", type=Path, default=HERE / "bench/results/audit_work.json")
    parser.add_argument("--once", action="store_true", help="measure CHECKOUT once, here, and print it")
    options = parser.parse_args()
    folder, checkout = options.folder.resolve(), options.checkout.resolve()
    if options.once:
        once(folder, checkout)
        return
    turns = [(seconds(folder, HERE), seconds(folder, checkout)) for _ in range(options.runs)]
    here, there = (round(statistics.median(each), 1) for each in zip(*turns, strict=True))
    git = ["git", "-C", str(checkout), "rev-parse", "--short=10", "HEAD"]
    result = {
        "cpu": cpu(),
        "files": sum(path.is_file() for path in folder.glob("*/*/*")),
        "beside": subprocess.run(git, check=True, stdout=subprocess.PIPE, text=True).stdout.strip(),
        "runs": options.runs,
        "here_s": here,
        "there_s": there,
        "ratio": round(here / there, 2),
        "turns": [[round(each, 1) for each in turn] for turn in turns],
    }
    write_json(options.out, result)
    print(f"{here} s beside {there} s: {result['ratio']} times")


if __name__ == "__main__":
    main()
