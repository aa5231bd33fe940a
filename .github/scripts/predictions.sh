#!/usr/bin/env bash
# predictions.sh BASE: brings the default study's predictions of BASE and of HEAD into DVC's cache, where
# `brainmri compare` looks for them: from the remote, where there is one that has them, else by running the study.
# A base that this environment cannot run (other versions) is said, and is no failure.
set -euo pipefail
base=$(git rev-parse --verify "$1^{commit}")
export PATH="$PWD/.venv/bin:$PATH"

bring() {
    dvc pull --quiet --no-run-cache data/predictions.csv 2>/dev/null || dvc repro --quiet
}

bring
folder=$(mktemp -d)
trap 'git worktree remove --force "$folder/base" 2>/dev/null; rm -rf "$folder"' EXIT
git worktree add --quiet --detach "$folder/base" "$base"
cache=$(dvc cache dir)
cd "$folder/base"
dvc cache dir --quiet --local "$cache"
bring || echo "the default study of $1 does not run here: it is not compared image by image" >&2
cd "$OLDPWD"
