"""What other seeds give: python bench/seeds.py STUDY REV [REV ...]

Each REV is a commit that ran the study, or an experiment of DVC's (`dvc exp run -n seed-1 -S seed=1`, or those of
`brainmri sweep -S 'seed=range(3)'`). They may differ in `seed` and `isa` alone: another code, version of a package or
parameter is another recipe, and a commit whose code or parameters went on since it was run is refused. Writes
bench/results/seeds-<study>.json: of each run the scores, and the MD5 that its dvc.lock has of weights and predictions,
so that who runs it again can hold his against it; mean and standard deviation (n - 1) over the runs.
"""

from __future__ import annotations

import argparse
import re
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
import stages  # noqa: E402, F401, I001  it pins the instruction set before NumPy is loaded

from commands import behind, clone, locked, tables  # noqa: E402
from stages import params  # noqa: E402
from stages.files import read_figures, write_json  # noqa: E402
from stages.shell.errors import InputError  # noqa: E402

FREE = ("seed", "isa")  # parameters in which runs may differ
GROUPS = ("all", "clean", "leaked", "patients")  # of test images
SCORES = ("accuracy", "f1", "auc", "log_loss")
KEPT = r"models/(folds/[^/]+/)?model\.safetensors|data/predictions\.csv"


def run_of(root: Path, study: str, rev: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what a run found, and its recipe: parameters, versions and code of each stage, without what is free.

    Raises
    ------
    InputError
        If there is no such revision, no run of that study in it, or one of other code or parameters.
    """
    with tempfile.TemporaryDirectory() as scratch:
        there = Path(scratch) / "clone"
        clone.checkout(root, rev, there)
        folder = clone.study_in(there, study)
        if changed := behind.changed(folder):
            raise InputError(f"{rev}: {study} was run with another {changed[0]} than the commit has: run it again")
        values, lock = params.read(folder / "params.yaml"), locked.stages(folder)
        scores = read_figures(folder / "metrics/scores.csv")
    n = int(scores["all"]["n"])
    groups = [(name, scores[name]) for name in GROUPS if name in scores]
    found = {key: values.get(key) for key in FREE} | {
        "n": n,
        "wrong": round(n * (1 - scores["all"]["accuracy"])),
        "scores": {f"{name}.{key}": of[key] for name, of in groups for key in SCORES if key in of},
        "md5": {path: out["md5"] for path, out in locked.outputs(lock).items() if re.fullmatch(KEPT, path)},
    }
    return found, {stage: recipe(lock, stage) for stage in lock}


def recipe(lock: locked.Lock, stage: str) -> dict[str, Any]:
    """Return the command, parameters, versions and code of a stage as it was run, without what is free."""
    entry = lock[stage]
    made = {dep["path"] for dep in locked.given(lock, stage)}
    found: dict[str, Any] = {"cmd": entry["cmd"]}
    found |= {dep["path"]: dep["md5"] for dep in entry.get("deps", []) if dep["path"] not in made}
    for name, values in entry.get("params", {}).items():
        found[name] = {key: value for key, value in values.items() if key not in FREE}
    return found


def differing(first: dict[str, Any], other: dict[str, Any]) -> str | None:
    """Return in which stage, and of what, two recipes differ; None where they do not."""
    for stage in first | other:
        had, has = first.get(stage, {}), other.get(stage, {})
        for what in had | has:
            if had.get(what) != has.get(what):
                return f"{what} of stage {stage}"
    return None


def together(runs: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Return {score: {mean, sd}} over the runs, of the scores that all have; sd with n - 1."""
    names = [key for key in runs[0]["scores"] if all(key in run["scores"] for run in runs)]
    each = {key: [run["scores"][key] for run in runs] for key in names}
    return {
        key: {"mean": round(statistics.mean(values), 6), "sd": round(statistics.stdev(values), 6)}
        for key, values in each.items()
    }


def of_all(root: Path, study: str, revs: list[str]) -> dict[str, Any]:
    """Return what the runs found, each and together; refuse those that are not of one recipe, or of one seed twice."""
    runs, recipes = zip(*(run_of(root, study, rev) for rev in revs), strict=True)
    for rev, other in zip(revs, recipes, strict=True):
        if what := differing(recipes[0], other):
            raise InputError(f"{rev}: other {what} than {revs[0]}; expected the same but for {' and '.join(FREE)}")
    seeds = [run["seed"] for run in runs]
    if len(runs) < 2 or len(set(seeds)) < len(seeds):
        raise InputError(f"{' '.join(revs)}: of seeds {seeds}: give two runs or more, of each seed one")
    return {"study": study, "runs": sorted(runs, key=lambda run: run["seed"]), "over_runs": together(list(runs))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", metavar="STUDY", help="its folder, from the repository's root")
    parser.add_argument("revs", metavar="REV", nargs="+", help="two at least")
    parser.add_argument("--root", type=Path, default=ROOT, help="the clone that has the commits and experiments")
    args = parser.parse_args()
    found = of_all(args.root.resolve(), args.study, args.revs)
    write_json(tables.seeds_file(ROOT, args.study), found)
    for key, value in found["over_runs"].items():
        print(f"{key}: {value['mean']:.4f} ± {value['sd']:.4f}")


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"seeds: {error}")
