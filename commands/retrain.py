"""Hold a study's trail against the files that belong to it, and train stretches of it again.

`commands.spot` runs this file by its path in the study's folder of a clone, on the clone's `stages`: so it imports
nothing else of ours. Argument: {start: [steps at which stretches end]} as JSON. It prints one JSON object a line.
"""

from __future__ import annotations

import contextlib
import csv
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from stages import params, runtime
from stages.shell.errors import InputError
from stages.train import trail

TRAIL, STORED, WEIGHTS = Path("plots/trail.csv"), Path("models/trail"), Path("models/model.safetensors")
Rows = dict[int, dict[str, str]]


def read_trail(path: Path = TRAIL) -> Rows:
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


def gaps(rows: Rows, steps: int, chosen: Any) -> Iterator[str]:
    """Yield how the trail's rows are not those that a run with these parameters and `steps` an epoch writes."""
    options, end = chosen.train, max(rows, default=-1)
    whole = chosen.epochs * steps
    if end < 0 or end % steps or end > whole or (end != whole and not options.patience):
        yield f"{TRAIL} ends at step {end}: expected {whole}, the end of {chosen.epochs} epochs of {steps} steps"
    elif list(rows) != [*range(0, end, options.trail_steps), end]:
        yield f"{TRAIL} does not have the rows 0, {options.trail_steps}, {2 * options.trail_steps}, ... {end}"


def false_files(rows: Rows, begun: Any, chosen: Any) -> Iterator[str]:
    """Yield how starting state, stored states and final weights are not those of the trail. Nothing is trained.

    `begun` is a trainer at the start of its run.
    """
    from stages.backbone.network import read_tensors
    from stages.train import checkpoint

    steps = begun.steps
    if differing(rows[0], trail.hashes(begun.state()), trail.PARTS):
        yield "the starting weights are not those of which the trail has the hash at step 0"
    options, end = chosen.train, max(rows)
    wanted = trail.stored_at(end, chosen.epochs * steps, options.trail_steps, options.trail_checkpoints)
    names, found = [checkpoint.stored_name(step) for step in wanted], sorted(path.name for path in STORED.iterdir())
    if names != found:
        yield f"{STORED} has {', '.join(found) or 'nothing'}: expected {', '.join(names) or 'nothing'}"
        return
    for step, name in zip(wanted, names, strict=True):
        state, progress = checkpoint.stored(STORED / name)
        if progress.epoch * steps + progress.step != step or differing(rows[step], trail.hashes(state), trail.PARTS):
            yield f"{STORED}/{name} is not the state of which the trail has the hashes at step {step}"
    if trail.digest(read_tensors(WEIGHTS)[0]) != trail.kept(rows[end]):
        yield f"{WEIGHTS} are not the weights of which the trail has the hash at its end, step {end}"


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


def main() -> None:
    """Print what is found: {"fault": line} each for files that do not belong together, else the stretches."""
    from stages.train import checkpoint, start
    from stages.train.schema import Params

    chains = {int(begin): ends for begin, ends in json.loads(sys.argv[1]).items()}
    report = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):  # where the trainer says how it gets on
        chosen, rows = params.load(Params), read_trail()
        runtime.exact(chosen.threads, chosen.precision)
        begun, _ = start.trainer(chosen)
        faults = list(gaps(rows, begun.steps, chosen)) or list(false_files(rows, begun, chosen))
        for line in faults:
            print(json.dumps({"fault": line}), file=report, flush=True)
        if not faults:
            made = retrained(
                lambda: start.trainer(chosen)[0],
                lambda step: checkpoint.stored(STORED / checkpoint.stored_name(step)),
                rows,
                chains,
            )
            for found in made:
                print(json.dumps(found), file=report, flush=True)


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(print(json.dumps({"error": str(error)})) or 1)
