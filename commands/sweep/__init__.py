"""`brainmri sweep`: many experiments at once, on the workers of a Dask cluster; each arrives as an ordinary one of DVC.

A worker clones the repository at the commit, pulls what it needs, runs `dvc exp run` and pushes what came out. Run the
same command again after an interruption: what has been made is not made again (docs/sweep.md).
"""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from commands.ending import unwind_when_ended
from commands.extra import need
from commands.repository import cache_folder, find_root, git, here
from commands.scratch import remove_abandoned
from commands.sweep.choices import OBJECTIVES, SYSTEMS
from stages import params
from stages.shell.errors import InputError


def add_parser(subparsers: Any) -> None:
    """Register the command."""
    parser = subparsers.add_parser(
        "sweep", help="run many experiments on several processes or machines", description=__doc__
    )
    parser.add_argument(
        "-S",
        "--set-param",
        action="append",
        default=[],
        metavar="KEY=VALUES",
        help="as `dvc exp run --queue -S` takes it: lr=1e-3,1e-4 or 'seed=range(3)'; all combinations are run",
    )
    parser.add_argument(
        "--search",
        type=int,
        metavar="N",
        help="let Optuna choose N settings among the values of -S, which may then also be 'lr=interval(1e-5,1e-2)', "
        "or on a logarithmic scale 'lr=tag(log,interval(1e-5,1e-2))'",
    )
    parser.add_argument("--objective", choices=OBJECTIVES, default="val_loss", help="of a search; never a test score")
    parser.add_argument("--search-seed", type=int, default=0, metavar="SEED", help="of a search (default: 0)")
    parser.add_argument("--name", default="sweep", help="how the experiments' names begin (default: sweep)")
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="experiments at a time (default: cores here by `threads`, with --batch too)",
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--scheduler", metavar="ADDRESS", help="a Dask scheduler's: tcp://host:port")
    where.add_argument("--batch", choices=SYSTEMS, help="workers are its jobs")
    parser.add_argument(
        "--job", action="append", default=[], metavar="KEY=VALUE", help="of dask-jobqueue: queue=gpu, walltime=08:00:00"
    )
    parser.add_argument(
        "--git", metavar="REMOTE", help="name or URL of the Git repository to clone and to push experiments to"
    )
    parser.add_argument("--remote", default="", metavar="NAME", help="the DVC remote (default: the study's)")
    parser.add_argument(
        "--cache", metavar="DIR", help="a DVC cache that all workers and you share, instead of a remote"
    )
    parser.add_argument("--dry-run", action="store_true", help="print the settings and run nothing")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the sweep; status 1 where an experiment failed, of a search where none has a result."""
    from commands.sweep.settings import Namer, grid

    _check(args)
    root = find_root()
    study = here(root)
    if not (root / study / "dvc.yaml").is_file():
        raise InputError(f"{Path.cwd()} is no study: stand in its folder (it has a dvc.yaml)")
    if changed := git(root, "status", "--porcelain", "--untracked-files=no"):
        raise InputError(f"{changed.splitlines()[0][3:]} is not committed: a sweep is of a commit; commit, or stash")
    commit = git(root, "rev-parse", "HEAD")
    named = Namer(root / study, study, commit, args.name)
    if args.dry_run:
        for setting in grid(args.set_param, named):
            print(f"{setting.name}  {setting}")
        return 0
    need("sweep", "cluster", "distributed", *["dask_jobqueue"] * bool(args.batch), *["optuna"] * bool(args.search))
    unwind_when_ended()
    return _run(args, root, study, commit, named)


def _run(args: argparse.Namespace, root: Path, study: str, commit: str, named: Any) -> int:
    from commands.sweep.running import Runner
    from commands.sweep.search import search
    from commands.sweep.settings import grid

    settings = [] if args.search else grid(args.set_param, named)
    threads = int(params.read(root / study / "params.yaml")["threads"])
    count = args.workers or max(1, len(os.sched_getaffinity(0)) // threads)
    with _cluster(args, count, threads) as client:
        runner = Runner(client, _place(args, root, study, commit), _cache(args, root, study))
        if args.search:
            return search(runner, named, args.set_param, args.search, args.objective, args.search_seed, count)
        return runner.all(settings)


def _check(args: argparse.Namespace) -> None:
    if not args.name.replace("-", "").replace("_", "").isalnum() or args.name.startswith("-"):
        raise InputError(f"--name {args.name}: expected letters, digits, - and _")
    for option in ("workers", "search"):
        if (value := getattr(args, option)) is not None and not 1 <= value <= 10_000:
            raise InputError(f"--{option} {value}: expected a whole number from 1 to 10000")
    if args.dry_run and args.search:
        raise InputError("--dry-run: a search chooses each setting by the results before it; leave one of the two out")
    if args.job and not args.batch:
        raise InputError(f"--job {args.job[0]}: expected with --batch slurm, or another batch system")


@contextlib.contextmanager
def _cluster(args: argparse.Namespace, count: int, threads: int) -> Iterator[Any]:
    from commands.sweep import workers

    if args.scheduler:
        with workers.at(args.scheduler) as client:
            yield client
    elif args.batch:
        with workers.jobs(args.batch, count, threads, args.job) as client:
            yield client
    else:
        try:
            with workers.here(count) as client:
                yield client
        finally:
            remove_abandoned()


def _cache(args: argparse.Namespace, root: Path, study: str) -> str:
    """Return the cache that workers share with the caller; "" where outputs go through the DVC remote."""
    if args.cache:
        return os.path.realpath(args.cache)
    if args.git or args.scheduler or args.batch:
        return ""
    return str(cache_folder(root / study).resolve())


def _place(args: argparse.Namespace, root: Path, study: str, commit: str) -> Any:
    from commands.sweep.results import Place

    elsewhere = args.scheduler or args.batch
    remotes = git(root, "remote").splitlines()
    source = args.git or ("origin" if elsewhere else str(root))
    if source in remotes:
        source = git(root, "remote", "get-url", source)
    elif elsewhere and not args.git:
        raise InputError("this clone has no Git remote `origin` from which workers could clone: give --git URL or path")
    if Path(source).exists():
        source = str(Path(source).resolve())
    outputs = not _cache(args, root, study)
    if outputs and not _has_remote(root / study, args.remote):
        raise InputError(
            "outputs have no way between workers and here: commit a DVC remote (docs/remote.md), name it by --remote, "
            "or give the folder of a cache that all share by --cache"
        )
    return Place(root, study, commit, source, outputs, args.remote)


def _has_remote(study: Path, name: str) -> bool:
    from dvc.config import Config

    config = Config(str(study / ".dvc"))
    return (name or config["core"].get("remote")) in config["remote"]
