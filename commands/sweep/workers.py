"""The Dask cluster on which a sweep runs: workers of this machine, a scheduler's, or jobs of a batch system."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterator, Sequence
from typing import Any

import yaml

from commands.sweep.choices import SYSTEMS
from stages.shell.cluster import scheduler
from stages.shell.errors import InputError


@contextlib.contextmanager
def here(count: int) -> Iterator[Any]:
    """Yield Dask's client of `count` workers of this machine, which open no port but on loopback."""
    from distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=count,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address=None,
            memory_limit=0,
            silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


@contextlib.contextmanager
def jobs(system: str, count: int, threads: int, options: Sequence[str]) -> Iterator[Any]:
    """Yield Dask's client of `count` jobs of a batch system, each of `threads` cores and one experiment at a time.

    `options` are KEY=VALUE of dask-jobqueue's cluster, such as queue=gpu or walltime=08:00:00.
    """
    import dask_jobqueue
    from distributed import Client

    chosen = of_cluster(system, threads, options) | {"silence_logs": logging.CRITICAL}
    closed = {"dashboard": False, "dashboard_address": None}
    chosen["scheduler_options"] = {**(chosen.get("scheduler_options") or {}), **closed}
    try:
        cluster = getattr(dask_jobqueue, SYSTEMS[system])(**chosen)
    except (TypeError, ValueError) as error:
        raise InputError(f"--batch {system}: {error}: give it with --job KEY=VALUE") from None
    with cluster, Client(cluster, set_as_default=False) as client:
        cluster.scale(jobs=count)
        yield client


def of_cluster(system: str, threads: int, options: Sequence[str]) -> dict[str, Any]:
    """Return what a job is, in dask-jobqueue's words: cores for the threads of one experiment at a time."""
    chosen: dict[str, Any] = {"cores": threads, "processes": 1}
    for option in options:
        key, equals, value = option.partition("=")
        if not equals:
            raise InputError(f"--job {option}: expected KEY=VALUE, as dask-jobqueue's {SYSTEMS[system]} takes them")
        try:
            # 08:00:00 is no number of seconds
            chosen[key] = value if re.fullmatch(r"[\d-]+(:\d+)+", value) else yaml.safe_load(value)
        except yaml.YAMLError:
            raise InputError(
                f"--job {option}: expected a value as YAML has it, such as [a, b]: put it in quotes"
            ) from None
    extra = chosen.get("worker_extra_args") or []
    extra = extra.split() if isinstance(extra, str) else extra
    # the last one counts: dask-jobqueue gives a worker as many threads as the job has cores
    return chosen | {"worker_extra_args": [*extra, "--nthreads", "1"]}


def at(address: str) -> Any:
    """Return a context with Dask's client of a scheduler that runs already."""
    return scheduler(address, "--scheduler")
