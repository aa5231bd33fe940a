"""Hold a study's trails against the files that belong to them, and train stretches of them again.

`commands.spot` runs this file by its path in the study's folder of a clone, on the clone's `stages`: so it imports
nothing else of ours. Argument: {folder of a fold: {start: [steps at which stretches end]}} as JSON; the folder is
nothing where one network was trained alone. It prints one JSON object a line.
"""

from __future__ import annotations

import contextlib
import csv
import json
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from stages import params, runtime
from stages.shell.errors import InputError
from stages.train import trail

Rows = dict[int, dict[str, str]]


class Files(NamedTuple):
    """Where a training's files lie in a study's folder."""

    trail: Path
    stored: Path
    weights: Path


def files(fold: str = "") -> Files:
    """Return where the files of a fold lie, whose folder is `fold`, such as /folds/3.

    Examples
    --------
    >>> [str(path) for path in files("/folds/3")]
    ['plots/folds/3/trail.csv', 'models/trail/folds/3', 'models/folds/3/model.safetensors']
    """
    folders = (f"plots{fold}/trail.csv", f"models/trail{fold}", f"models{fold}/model.safetensors")
    return Files(*map(Path, folders))


def read_trail(path: Path) -> Rows:
    """Return {step: row} of a trail's table, or raise InputError."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            rows = {int(row["step"]): row for row in reader}
        if reader.fieldnames != trail.COLUMNS or not rows:
            raise ValueError
        return rows
    except FileNotFoundError:
        raise InputError(f"{path} not found: this study was trained without a trail; train it again") from None
    except (KeyError, TypeError, ValueError):
        raise InputError(f"{path} is no trail: expected a table that training wrote; take it from Git") from None


def gaps(rows: Rows, steps: int, chosen: Any, fold: str = "") -> Iterator[str]:
    """Yield how the trail's rows are not those that a run with these parameters and `steps` an epoch writes."""
    options, end, path = chosen.train, max(rows, default=-1), files(fold).trail
    whole = chosen.epochs * steps
    if end < 0 or end % steps or end > whole or (end != whole and not options.patience):
        yield f"{path} ends at step {end}: expected {whole}, the end of {chosen.epochs} epochs of {steps} steps"
    elif list(rows) != [*range(0, end, options.trail_steps), end]:
        yield f"{path} does not have the rows 0, {options.trail_steps}, {2 * options.trail_steps}, ... {end}"


def false_files(rows: Rows, begun: Any, chosen: Any, fold: str = "") -> Iterator[str]:
    """Yield how starting state, stored states and final weights are not those of the trail. Nothing is trained.

    `begun` is a trainer at the start of its run.
    """
    from stages.backbone.network import read_tensors
    from stages.train import checkpoint

    steps, (path, kept, weights) = begun.steps, files(fold)
    if differing(rows[0], trail.hashes(begun.state()), trail.PARTS):
        yield f"the starting weights are not those of which {path} has the hash at step 0"
    options, end = chosen.train, max(rows)
    wanted = trail.stored_at(end, chosen.epochs * steps, options.trail_steps, options.trail_checkpoints)
    names, found = [checkpoint.stored_name(step) for step in wanted], sorted(file.name for file in kept.iterdir())
    if names != found:
        yield f"{kept} has {', '.join(found) or 'nothing'}: expected {', '.join(names) or 'nothing'}"
        return
    for step, name in zip(wanted, names, strict=True):
        state, progress = checkpoint.stored(kept / name)
        if progress.epoch * steps + progress.step != step or differing(rows[step], trail.hashes(state), trail.PARTS):
            yield f"{kept}/{name} is not the state of which the trail has the hashes at step {step}"
    if trail.digest(read_tensors(weights)[0]) != trail.kept(rows[end]):
        yield f"{weights} are not the weights of which the trail has the hash at its end, step {end}"


def differing(row: dict[str, str], found: dict[str, str], columns: Any) -> list[str]:
    """Return the columns in which two rows differ."""
    return [column for column in columns if row.get(column) != found.get(column)]


def retrained(
    make: Callable[[], Any], load: Callable[[int], Any], rows: Rows, chains: dict[int, list[int]]
) -> Iterator[dict[str, Any]]:
    """Train stretches again and yield each with the columns in which its end is not the trail's row.

    `make` gives a trainer at the start of the run, `load` the stored state of a step, as `Trainer.restore` takes it;
    `chains` has for each starting point the steps at which stretches behind it end; the first that differs ends one.
    """
    for start, ends in chains.items():
        trainer = make()
        if start:
            trainer.restore(*load(start))
        for begin, end in zip([start, *ends], ends, strict=False):
            found = differing(rows[end], trainer.retrain(end)[-1], trail.COLUMNS)
            yield {"begin": begin, "end": end, "differs": found}
            if found:
                break


def begun(chosen: Any, fold: str) -> Any:
    """Return a trainer at the start of a fold's run. Commits from before folds train one network, and take no fold."""
    from stages.train import start

    return (start.trainer(chosen, fold) if fold else start.trainer(chosen))[0]


def faults(rows: Rows, chosen: Any, fold: str) -> list[str]:
    """Return how a fold's trail and files do not belong together."""
    trainer = begun(chosen, fold)
    return list(gaps(rows, trainer.steps, chosen, fold)) or list(false_files(rows, trainer, chosen, fold))


def checked(chosen: Any, asked: dict[str, dict[int, list[int]]]) -> Iterator[dict[str, Any]]:
    """Yield {"fault": line} for files of any fold that do not belong together; where there are none, the stretches."""
    rows = {fold: read_trail(files(fold).trail) for fold in asked}
    found = [line for fold in asked for line in faults(rows[fold], chosen, fold)]
    yield from ({"fault": line} for line in found)
    for fold, chains in asked.items() if not found else ():
        load = partial(stored, files(fold).stored)
        yield from ({"fold": fold} | each for each in retrained(partial(begun, chosen, fold), load, rows[fold], chains))


def stored(folder: Path, step: int) -> Any:
    """Return the state that is stored of a step, as `Trainer.restore` takes it."""
    from stages.train import checkpoint

    return checkpoint.stored(folder / checkpoint.stored_name(step))


def main() -> None:
    """Print what `checked` finds."""
    from stages.train.schema import Params

    asked = {
        fold: {int(begin): ends for begin, ends in chains.items()} for fold, chains in json.loads(sys.argv[1]).items()
    }
    report = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):  # where the trainer says how it gets on
        chosen = params.load(Params)
        runtime.exact(chosen.threads, chosen.precision)
        for found in checked(chosen, asked):
            print(json.dumps(found), file=report, flush=True)


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(print(json.dumps({"error": str(error)})) or 1)
