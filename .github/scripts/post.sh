#!/usr/bin/env bash
# Writes what the run $RUN left about the commit $COMMIT on its pull request: one comment, renewed by later runs.
# What it left was made by code of the pull request, so it is text, and must not name another pull request.
set -euo pipefail
LONGEST=60000   # bytes; GitHub takes 65,536 characters

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
gh run download "$RUN" --name comment --dir "$folder" || { echo "run $RUN left no comment" >&2; exit 0; }

number=$(head -c 20 "$folder/number")
[[ $number =~ ^[0-9]+$ ]] || { echo "not the number of a pull request" >&2; exit 1; }
if [ "$(gh pr view "$number" --json headRefOid --jq .headRefOid)" != "$COMMIT" ]; then
    echo "pull request $number is not at $COMMIT, or no longer: nothing is said there" >&2
    exit 0
fi

# nobody is called by name
head -c "$LONGEST" "$folder/comment.md" | sed 's/@/@<!-- -->/g' > "$folder/body.md"
gh pr comment "$number" --body-file "$folder/body.md" --edit-last --create-if-none
