"""comment.py BASE HEAD: what changes in the studies' results between two commits, as Markdown.

For each study whose results or parameters differ: `dvc metrics diff`, whether it is more than noise (`brainmri
compare`), and both confusion matrices. Reads Git, and for the comparison DVC's cache (predictions.sh fills it).
"""

from __future__ import annotations

import html
import io
import subprocess
import sys
from pathlib import Path

import pandas as pd

RESULTS = ("params.yaml", "dvc.lock", "metrics", "plots", "models/MODEL_CARD.md")
MATRICES = {"confusion.csv": "all test images", "confusion_clean.csv": "test images without a copy in training"}


def main(base: str, head: str) -> int:
    """Print the comment."""
    studies = [".", *sorted(str(path.parent) for path in Path("studies").glob("*/dvc.yaml"))]
    changed = [study for study in studies if differs(base, head, study)]
    print(f"### Results of `{name(head)}` against `{name(base)}`\n")
    for study in changed:
        print("\n\n".join(section(base, head, study)) + "\n")
    same = [f"`{study}`" for study in studies if study not in changed]
    if same:
        print(f"Unchanged: {', '.join(same)}.")
    return 0


def section(base: str, head: str, study: str) -> list[str]:
    """Return what is said of one study, in paragraphs."""
    metrics = run("dvc", "metrics", "diff", "--md", base, head, cwd=study)
    said = [
        f"#### {'the default study' if study == '.' else study}",
        metrics if "| " in metrics.partition("|-")[2] else "No metric changes.",
        verdict(run("commands", "compare", base, head, "--study", study)),
    ]
    for file, whose in MATRICES.items():
        path = f"{study}/plots/{file}"
        before, after = counts(base, path), counts(head, path)
        if table := matrices(before, after):
            change = "the same in both" if before.equals(after) else "base → here where they differ"
            said.append(f"Confusion, {whose}; a row a true class, in images, {change}:\n\n{table}")
    return said


def verdict(compared: str) -> str:
    """Return what `brainmri compare` prints, its list of images folded."""
    lines = compared.splitlines()
    last = next((n for n, line in enumerate(lines) if "classified differently" in line), len(lines))
    said = "\n".join(["```", *lines[:last], "```"])
    if last == len(lines):
        return said
    images = "\n".join(["```", *lines[last + 1 :], "```"])
    return f"{said}\n\n<details><summary>{lines[last].rstrip(':')}</summary>\n\n{images}\n\n</details>"


def matrices(before: pd.DataFrame, after: pd.DataFrame) -> str:
    """Return two confusion matrices as one table.

    Examples
    --------
    >>> one, other = (pd.crosstab(pd.Series(list("xx"), name="actual"), list(given)) for given in ("xx", "xy"))
    >>> print(matrices(one, other))
    | | x | y |
    |---|---|---|
    | **x** | 2 → 1 | 0 → 1 |
    """
    classes = sorted({*before.index, *before.columns, *after.index, *after.columns})
    if not classes:
        return ""
    one, two = (each.reindex(index=classes, columns=classes, fill_value=0) for each in (before, after))
    lines = [f"| | {' | '.join(map(cell, classes))} |", "|---" * (len(classes) + 1) + "|"]
    for row in sorted({*before.index, *after.index}):
        pairs = zip(one.loc[row], two.loc[row], strict=True)
        shown = [str(new) if old == new or before.empty else f"{old} → {new}" for old, new in pairs]
        lines.append(f"| **{cell(row)}** | {' | '.join(shown)} |")
    return "\n".join(lines)


def cell(text: str) -> str:
    """Return a class's name as a cell of a table may have it."""
    return html.escape(text).replace("|", "&#124;")


def counts(commit: str, path: str) -> pd.DataFrame:
    """Return a commit's confusion matrix, actual by predicted; empty where it has none."""
    shown = subprocess.run(["git", "show", f"{commit}:./{path}"], capture_output=True)
    if shown.returncode:
        return pd.DataFrame()
    table = pd.read_csv(io.BytesIO(shown.stdout), dtype=str, keep_default_na=False)
    return pd.crosstab(table["actual"], table["predicted"])


def differs(base: str, head: str, study: str) -> bool:
    """Return whether a study's results or parameters are other ones."""
    paths = [f"{study}/{each}" for each in RESULTS]
    return subprocess.run(["git", "diff", "--quiet", base, head, "--", *paths]).returncode != 0


def name(commit: str) -> str:
    """Return a commit's short name."""
    return subprocess.check_output(["git", "rev-parse", "--short=10", f"{commit}^{{commit}}"], text=True).strip()


def run(*words: str, cwd: str = ".") -> str:
    """Return what a module's command prints, or the line that it fails with."""
    done = subprocess.run([sys.executable, "-m", *words], cwd=cwd, text=True, capture_output=True)
    return done.stdout.strip() if done.returncode == 0 else (done.stderr.strip().splitlines() or ["failed"])[-1]


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("comment.py: expected two commits: comment.py BASE HEAD")
    sys.exit(main(*sys.argv[1:]))
