"""The Dask cluster on which a sweep runs: workers of this machine, a scheduler's, or jobs of a batch system."""

from __future__ import annotations

import contextlib
import logging
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
def jobs(system: str, count: int, options: Sequence[str]) -> Iterator[Any]:
    """Yield Dask's client of `count` jobs of a batch system, one experiment at a time each.

    `options` are KEY=VALUE of dask-jobqueue's cluster, such as queue=gpu or walltime=08:00:00.
    """
    import dask_jobqueue
    from distributed import Client

    chosen: dict[str, Any] = {"cores": 1, "processes": 1, "silence_logs": logging.CRITICAL}
    chosen["scheduler_options"] = {"dashboard": False, "dashboard_address": None}
    for option in options:
        key, equals, value = option.partition("=")
        if not equals:
            raise InputError(f"--job {option}: expected KEY=VALUE, as dask-jobqueue's {SYSTEMS[system]} takes them")
        chosen[key] = value if ":" in value else yaml.safe_load(value)  # 08:00:00 is no number of seconds
    try:
        cluster = getattr(dask_jobqueue, SYSTEMS[system])(**chosen)
    except (TypeError, ValueError) as error:
        raise InputError(f"--batch {system}: {error}: give it with --job KEY=VALUE") from None
    with cluster, Client(cluster, set_as_default=False) as client:
        cluster.scale(jobs=count)
        yield client


def at(address: str) -> Any:
    """Return a context with Dask's client of a scheduler that runs already."""
    return scheduler(address, "--scheduler")
