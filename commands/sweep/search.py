"""Settings chosen one after the other by Optuna (Akiba et al. 2019; tree-structured Parzen estimators), on validation.

The n-th setting is chosen knowing the first n - W results, W being how many run at a time: so the choice is a function
of the seed and of W, whatever ends first, and a search that was interrupted goes the same way again.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from commands.sweep import results
from commands.sweep.choices import OBJECTIVES
from commands.sweep.running import Runner
from commands.sweep.settings import Namer, Setting, parsed
from stages.shell.errors import InputError
from stages.shell.progress import progress_bar, say

Suggest = Callable[[Any], str]  # of a trial: one override


def search(
    runner: Runner, named: Namer, words: Iterable[str], count: int, objective: str, seed: int, at_a_time: int
) -> int:
    """Run `count` trials; an InputError where none has a result."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    suggests = suggestions(words)
    study = optuna.create_study(direction=OBJECTIVES[objective], sampler=optuna.samplers.TPESampler(seed=seed))
    running: deque[tuple[Any, Setting, Any]] = deque()
    begun: dict[str, Any] = {}
    with progress_bar(total=count, unit="experiment") as bar:
        for number in range(count + at_a_time):
            if number >= at_a_time and running:
                _end(runner, study, bar, objective, *running.popleft())
            if number < count:
                trial = study.ask()
                setting = named([suggest(trial) for suggest in suggests])
                if setting.name not in begun:
                    begun[setting.name] = None if runner.made(setting) else runner.start(setting)
                running.append((trial, setting, begun[setting.name]))
    done = [trial for trial in study.trials if trial.state == optuna.trial.TrialState.COMPLETE]
    if not done:
        raise InputError(f"none of {count} trials has a result: see above why")
    best = study.best_trial
    say(f"best {objective} of {len(done)}: {best.value:.4f}, {best.user_attrs['name']}  {best.user_attrs['setting']}")
    return 0


def _end(runner: Runner, study: Any, bar: Any, objective: str, trial: Any, setting: Setting, future: Any) -> None:
    """Wait for one trial and tell Optuna."""
    import optuna

    outcome = "", "made before"
    if future is None:
        runner.arrived([setting])
    else:
        outcome = runner.ended(future, setting)
    value = math.nan if outcome[0] else results.validation(runner.place, setting.name)[objective]
    trial.set_user_attr("name", setting.name)
    trial.set_user_attr("setting", str(setting))
    if math.isfinite(value):
        study.tell(trial, value)
    else:
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
    runner.tell(bar, setting, outcome)


def suggestions(words: Iterable[str]) -> list[Suggest]:
    """Return what chooses a value for each key of `-S`, in Hydra's grammar of sweeps; one value alone stays."""
    from hydra.core.override_parser.types import ValueType

    found: list[Suggest] = []
    overrides = parsed(words)
    for override in overrides:
        kind, key = override.value_type, override.key_or_group
        if kind == ValueType.INTERVAL_SWEEP:
            found.append(_interval(key, override.value(), override.input_line))
        elif kind in (ValueType.CHOICE_SWEEP, ValueType.SIMPLE_CHOICE_SWEEP, ValueType.RANGE_SWEEP):
            found.append(_choice(key, list(override.sweep_string_iterator())))
        elif kind == ValueType.GLOB_CHOICE_SWEEP:
            raise InputError(f"-S {override.input_line}: glob is not supported: write the values out")
        else:
            found.append(_fixed(override.input_line))
    if not any(override.is_sweep_override() for override in overrides):
        raise InputError("--search has nothing to choose: give values, such as -S 'lr=tag(log,interval(1e-5,1e-2))'")
    return found


def _interval(key: str, interval: Any, line: str) -> Suggest:
    log, whole = "log" in interval.tags, isinstance(interval.start, int) and isinstance(interval.end, int)
    if interval.start >= interval.end or (log and interval.start <= 0):
        raise InputError(f"-S {line}: expected a smaller number, above 0 for log, and then a larger one")
    if whole:
        return lambda trial: f"{key}={trial.suggest_int(key, interval.start, interval.end, log=log)}"
    # 4 digits, so that the experiment's parameters can be read and typed
    return lambda trial: f"{key}={trial.suggest_float(key, interval.start, interval.end, log=log):.4g}"


def _choice(key: str, values: list[str]) -> Suggest:
    return lambda trial: f"{key}={trial.suggest_categorical(key, values)}"


def _fixed(line: str) -> Suggest:
    return lambda _: line
