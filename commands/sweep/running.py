"""Experiments under way: each started once, those that have been made not again, all told as they end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from commands import scratch
from commands.repository import git
from commands.sweep import results, task
from commands.sweep.settings import Setting
from stages.shell.cluster import travelling
from stages.shell.errors import InputError
from stages.shell.progress import progress_bar, say


class Runner:
    """Runs settings as experiments on a Dask cluster; they arrive on the caller's side."""

    def __init__(self, client: Any, place: results.Place, cache: str) -> None:
        self.client, self.place, self.cache = client, place, cache
        self.perform = travelling(task.perform, task, scratch)
        self.author = _author(place)
        self.waiting = results.waiting(place)
        self.told = 0
        if not client.nthreads():
            say("no worker yet: waiting for one")

    def all(self, settings: Sequence[Setting]) -> int:
        """Run all of a grid; return 1 where one failed."""
        from distributed import as_completed

        with progress_bar(total=len(settings), unit="experiment") as bar:
            there = [each for each in settings if self.made(each)]
            self.arrived(there)
            for each in there:
                self.tell(bar, each, ("", "made before"))
            futures = {self.start(each): each for each in settings if each not in there}
            failed = 0
            for future in as_completed(futures, loop=self.client.loop):
                outcome = self.ended(future, futures[future])
                self.tell(bar, futures[future], outcome)
                failed += bool(outcome[0])
        say(f"{len(settings) - failed} of {len(settings)} experiments are here: `dvc exp show`, `brainmri compare`")
        return int(failed > 0)

    def made(self, setting: Setting) -> bool:
        """Whether the experiment was made before: by a sweep that was interrupted, or that asked for it too."""
        return setting.name in self.waiting or results.found(self.place, setting.name) is not None

    def arrived(self, settings: Sequence[Setting]) -> None:
        """Bring experiments here that were made before."""
        results.arrive(self.place, [each.name for each in settings])

    def start(self, setting: Setting) -> Any:
        """Start an experiment; one that its worker does not survive starts again on another."""
        place = self.place
        about = task.Task(
            setting.name, setting.overrides, place.commit, place.study, place.git, self.cache, place.remote, self.author
        )
        return self.client.submit(self.perform, tuple(about), key=setting.name, retries=1)

    def ended(self, future: Any, setting: Setting) -> tuple[str, str]:
        """Wait for an experiment and bring it here; return why there is none, or nothing, and what to say of it."""
        from distributed.client import FutureCancelledError
        from distributed.scheduler import KilledWorker

        try:
            why, note = future.result()
        except KilledWorker as error:
            return f"its worker died again and again, at last {error.last_worker.address}: too little memory?", ""
        except FutureCancelledError:
            raise InputError("the Dask scheduler is gone: start it again, and the same sweep, which goes on") from None
        if not why:
            results.arrive(self.place, [setting.name])
        return why, note

    def tell(self, bar: Any, setting: Setting, outcome: tuple[str, str]) -> None:
        """Say how one experiment ended."""
        why, note = outcome
        self.told += 1
        bar.update()
        said = f"FAILED: {why}"
        if not why:
            figures = results.validation(self.place, setting.name)
            said = "  ".join(f"{name} {value:.4f}" for name, value in figures.items()) + (f"  ({note})" if note else "")
        say(f"{self.told}/{bar.total}  {setting.name}  {setting}  {said}")


def _author(place: results.Place) -> tuple[str, str]:
    """Return who the caller is to Git."""
    found = []
    for key, otherwise in (("user.name", "brainmri sweep"), ("user.email", "sweep@localhost")):
        try:
            found.append(git(place.root, "config", key))
        except InputError:
            found.append(otherwise)
    return found[0], found[1]
