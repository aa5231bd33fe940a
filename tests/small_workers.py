"""A worker that trains the small network over shards, for test_train_workers: `launch.run` starts it as a module.

Argument: a list of [recipe, shards, near] as JSON. The first worker prints a digest for each, as JSON.
"""

from __future__ import annotations

import json
import os
import sys

import stages  # noqa: F401
from stages import runtime
from stages.train import workers
from stages.train.checkpoint import Nowhere
from stages.train.trail import digest
from stages.train.workers import Alone

RECIPES: dict[str, dict[str, object]] = {
    "plain": {},
    "all": {
        "augment.noise": 0.2,
        "train.dropout": 0.5,
        "train.freeze_epochs": 1.5,
        "train.size_schedule": [[0, 16], [0.5, 32]],
        "train.class_weights": True,
        "train.select_best": True,
        "train.ema_decay": 0,
    },
    "bf16": {"precision": "bf16"},
}


def trained(recipe: str, shards: int, team: Alone | None = None) -> list[object]:
    """Train, and return all that an outcome is hashed by; of a team, the first one's."""
    from training import chosen, trainer

    options = {"batch_size": 16, "epochs": 2, "train.trail_steps": 1, "train.shards": shards}
    run = trainer(chosen(**(options | RECIPES[recipe])), team=team)
    outcome = run.fit(Nowhere())
    return [digest(outcome.state_dict()), run.progress.history, run.progress.trail]


def main() -> None:
    runtime.exact(1, "fp32")
    asked = json.loads(sys.argv[1])
    team = workers.joined("cpu", max(shards for _, shards, _ in asked))
    far = workers.Linked(team.device)
    found = [trained(recipe, shards, team if near else far) for recipe, shards, near in asked]
    if team.first:
        print(json.dumps(found), file=open(os.environ["TOLD"], "w"))  # noqa: PTH123, SIM115


if __name__ == "__main__":
    main()
