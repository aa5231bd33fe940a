"""How many workers train on this machine, and their start by torch's elastic agent, which is what torchrun starts.

On several machines the agents find each other by torchrun's own variables (PET_NNODES, PET_NODE_RANK, PET_MASTER_ADDR,
PET_MASTER_PORT), set where the stage is started: docs/workers.md.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import tempfile
from collections.abc import Iterator

import torch
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.elastic.rendezvous import RendezvousError
from torch.distributed.launcher.api import elastic_launch
from torch.distributed.run import config_from_args, parse_args

from stages.runtime import Device
from stages.shell.errors import InputError

LOST = 3  # exit status of a worker that ends because another is gone
AGAIN = "run again: it goes on from the last checkpoint, with any number of workers"


def is_worker() -> bool:
    """Whether an agent, ours or torchrun's, started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def machines() -> int:
    """Return on how many machines workers train."""
    return int(os.environ.get("PET_NNODES", "1").partition(":")[0])


def workers(shards: int, threads: int, device: Device) -> int:
    """Return how many workers train here: as many as there are GPUs, or as cores allow, or BRAINMRI_TRAINERS.

    Never a parameter: the number changes no bit.

    Raises
    ------
    InputError
        Where BRAINMRI_TRAINERS is no power of two, or makes more workers than shards or GPUs.
    """
    chosen = os.environ.get("BRAINMRI_TRAINERS")
    places = torch.cuda.device_count() if device == "cuda" else len(os.sched_getaffinity(0)) // threads
    most = shards // machines()
    if chosen is None:
        return 1 << max(1, min(most, places)).bit_length() - 1
    if not chosen.isdecimal() or int(chosen).bit_count() != 1 or int(chosen) > most:
        on = f" on {machines()} machines" if machines() > 1 else ""
        raise InputError(
            f"BRAINMRI_TRAINERS is {chosen!r}: expected a power of two, with train.shards = {shards}{on} at most {most}"
        )
    if device == "cuda" and int(chosen) > places:
        raise InputError(f"BRAINMRI_TRAINERS is {chosen!r}: expected at most one worker for each of {places} GPUs")
    return int(chosen)


def run(count: int, threads: int, module: str, *words: str) -> None:
    """Run a module in `count` workers, until all have ended or one has failed, which ends the others.

    Raises
    ------
    InputError
        With the line of a worker that failed, or how it ended.
    """
    os.environ["OMP_NUM_THREADS"] = str(threads)  # else torchrun warns
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # of connections to workers that are gone, which we name
    if machines() == 1:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # a machine's own name need not lead anywhere
    alone = ["--standalone", "--local-addr", "127.0.0.1"] if machines() == 1 else []
    alone += ["--nproc-per-node", str(count), "--signals-to-handle", "SIGTERM,SIGINT"]  # nohup holds off SIGHUP
    with tempfile.TemporaryDirectory() as folder, _quiet():
        args = parse_args([*alone, "--log-dir", folder, "-m", module, *words])
        if args.standalone:
            args.rdzv_backend, args.rdzv_endpoint = "c10d", "localhost:0"
        if args.master_port is None:
            args.master_port = 29500
        config, command, arguments = config_from_args(args)
        try:
            elastic_launch(config, command)(*arguments)
        except ChildFailedError as error:
            raise InputError(_why(error.failures, count * machines())) from None
        except SignalException as error:
            sys.exit(128 + signal.Signals(error.sigval))
        except (RendezvousError, torch.distributed.DistError) as error:
            where = f"{args.master_addr}:{args.master_port}"
            raise InputError(f"the {machines()} machines did not meet at {where} ({_short(error)}): {AGAIN}") from None


def _why(failures: dict[int, ProcessFailure], count: int) -> str:
    """Return the line for a person, of the failure that came first: not that another was gone, or was ended for it."""
    causes = {rank: failure for rank, failure in failures.items() if failure.exitcode != LOST}
    if not causes:
        return f"a worker on another machine is gone, which says why: {AGAIN}"
    ended = -signal.SIGTERM  # by the agent, if another one failed
    rank, failure = min(
        causes.items(), key=lambda each: (each[1].exitcode == ended, each[1].exitcode > 0, each[1].timestamp, each[0])
    )
    if failure.exitcode < 0:
        return f"worker {rank + 1} of {count} was killed ({failure.signal_name()}): {AGAIN}"
    said = failure.error_file_data.get("line")
    return said or f"worker {rank + 1} of {count} failed, as it says above"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Have the agent say nothing for the block: pages about a failure of which a line is enough."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
