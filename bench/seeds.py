"""What other seeds give: python bench/seeds.py STUDY REV [REV ...]

Each REV is a commit that ran the study, or an experiment of DVC's (`dvc exp run -n seed-1 -S seed=1`, or those of
`brainmri sweep -S 'seed=range(3)'`). Their parameters may differ in `seed` and `isa` alone: the latter is no recipe.
Writes bench/results/seeds-<study>.json: of each run the scores, and the MD5 that its dvc.lock has of weights and
predictions, so that who runs it again can hold his against it; mean and standard deviation (n - 1) over the runs.
"""

from __future__ import annotations

import argparse
import io
import statistics
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
import stages  # noqa: E402, F401, I001  it pins the instruction set before NumPy is loaded

import pandas as pd  # noqa: E402
import yaml  # noqa: E402

from commands import locked, reading  # noqa: E402
from commands.repository import commit, git  # noqa: E402
from stages.files import write_json  # noqa: E402
from stages.shell.errors import InputError  # noqa: E402

FREE = ("seed", "isa")  # parameters in which runs may differ
SCORES = (
    "all.accuracy",
    "clean.accuracy",
    "leaked.accuracy",
    "all.f1",
    "all.auc",
    "all.log_loss",
    "patients.accuracy",
)
OUTPUTS = ("models/model.safetensors", "data/predictions.csv")


def run_of(root: Path, study: str, rev: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what a run found, and its parameters without those in which runs may differ.

    Raises
    ------
    InputError
        If there is no such revision, or no run of that study in it.
    """

    def text(path: str) -> str:
        return git(root, "show", f"{name}:./{study}/{path}")

    name = commit(root, rev)
    params = yaml.safe_load(text("params.yaml"))
    scores = pd.read_csv(io.StringIO(text("metrics/scores.csv")), index_col="figure")["value"]
    outputs = locked.outputs(reading.stages(text("dvc.lock").encode(), f"{study}/dvc.lock of {rev}"))
    n = int(scores["all.n"])
    found = {key: params.pop(key) for key in FREE} | {
        "n": n,
        "wrong": round(n * (1 - scores["all.accuracy"])),
        "scores": {key: float(scores[key]) for key in SCORES if key in scores},
        "md5": {path: outputs[path]["md5"] for path in OUTPUTS},
    }
    return found, params


def together(runs: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Return {score: {mean, sd}} over the runs; sd with n - 1, of accuracy as of all others."""
    each = {key: [run["scores"][key] for run in runs] for key in runs[0]["scores"]}
    return {
        key: {"mean": round(statistics.mean(values), 6), "sd": round(statistics.stdev(values), 6)}
        for key, values in each.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", metavar="STUDY", help="its folder, from the repository's root")
    parser.add_argument("revs", metavar="REV", nargs="+", help="two at least")
    parser.add_argument("--root", type=Path, default=ROOT, help="the clone that has the experiments")
    args = parser.parse_args()
    try:
        runs, params = zip(*(run_of(args.root, args.study, rev) for rev in args.revs), strict=True)
    except InputError as error:
        parser.error(str(error))
    if any(other != params[0] for other in params):
        parser.error(f"{' '.join(args.revs)}: their params.yaml differ in more than {' and '.join(FREE)}")
    if len({run["seed"] for run in runs}) < max(2, len(runs)):
        parser.error(f"{' '.join(args.revs)}: seeds {[run['seed'] for run in runs]}: give two or more, each once")
    found = {"study": args.study, "runs": sorted(runs, key=lambda run: run["seed"]), "over_runs": together(list(runs))}
    path = ROOT / f"bench/results/seeds-{Path(args.study).name}.json"
    write_json(path, found)
    for key, value in found["over_runs"].items():
        print(f"{key}: {value['mean']:.4f} ± {value['sd']:.4f}")


if __name__ == "__main__":
    main()
