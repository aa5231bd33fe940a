"""What makes a run exact: processes, threads, seeds, device, precision.

The instruction set is pinned earlier still, in `stages/__init__.py`.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import tempfile
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import AbstractContextManager
from multiprocessing import forkserver
from typing import TYPE_CHECKING, Literal, TypeVar

from stages.shell.errors import InputError
from stages.shell.watch import end_with

if TYPE_CHECKING:
    import torch

Item = TypeVar("Item")
Result = TypeVar("Result")
Device = Literal["cpu", "cuda"]
Precision = Literal["fp32", "tf32", "bf16", "fp16"]


def workers() -> int:
    """Return how many processes may decode or draw images: the cores we may use, or BRAINMRI_WORKERS.

    Never a parameter: the number must not change one bit of any output.
    """
    chosen = os.environ.get("BRAINMRI_WORKERS")
    if chosen is None:
        return len(os.sched_getaffinity(0))
    if not chosen.isdecimal() or not 1 <= int(chosen) <= 256:
        raise InputError(f"BRAINMRI_WORKERS is {chosen!r}: expected a whole number from 1 to 256")
    return int(chosen)


def in_order(
    function: Callable[[Item], Result], items: Sequence[Item], here: bool = False
) -> Generator[Result, None, None]:
    """Yield function(item) for each item, in order, computed by `workers()` processes or by a cluster (see `pool`).

    A few results at most wait to be taken, so memory stays flat however many items there are. `function` and the items
    must be picklable; it runs in fresh processes, which see none of this one's state. One worker means this process.
    `here` keeps to this machine.
    """
    count = min(workers(), len(items))
    if count < 2 and (here or not cluster()):
        yield from map(function, items)
        return
    with pool(max(1, count), here=here) as found:
        yield from ordered(found, function, items)


def ordered(
    pool: Executor, function: Callable[[Item], Result], items: Iterable[Item], each: int = 2
) -> Generator[Result, None, None]:
    """Yield function(item) for each item, in order; `each` items for each process of the pool are under way at most."""
    waiting: deque[Future[Result]] = deque()
    for item in items:
        waiting.append(pool.submit(function, item))
        if len(waiting) > each * getattr(pool, "width", 1):
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


@contextlib.contextmanager
def pool(
    count: int, start: Literal["fork", "forkserver"] = "forkserver", here: bool = False
) -> Generator[Executor, None, None]:
    """Yield what computes: `count` processes of this machine, or the Dask cluster that BRAINMRI_CLUSTER names.

    Which of the two changes no bit. Without the variable, nothing of Dask is loaded.
    """
    if (address := cluster()) and not here:
        from stages.shell.cluster import connected

        with connected(address) as machines:
            yield machines
        return
    with Processes(count, start) as processes:
        yield processes


def cluster() -> str | None:
    """Return the address of the Dask scheduler to be used, docs/scale.md; None for processes of this machine."""
    return os.environ.get("BRAINMRI_CLUSTER") or None


class Processes(ProcessPoolExecutor):
    """Processes of this machine, `width` of them, that end when this one does, also where it is killed."""

    def __init__(self, count: int, start: Literal["fork", "forkserver"] = "forkserver") -> None:
        """Start none yet; an InputError where there is no place for the socket over which they start."""
        if start == "forkserver":
            try:
                forkserver.ensure_running()
            except OSError as error:
                if error.errno is not None:
                    raise
                folder = tempfile.gettempdir()
                raise InputError(
                    f"{folder}: {error}: sockets lie in the folder for temporary files, whose name is too long for "
                    "them: set TMPDIR to a shorter one"
                ) from None
        context = multiprocessing.get_context(start)
        super().__init__(count, mp_context=context, initializer=end_with, initargs=(os.getpid(),))
        self.width = count


@contextlib.contextmanager
def limited(seconds: float, error: Exception) -> Generator[None, None, None]:
    """Raise `error` in what takes longer, and each second again where it goes on; in a process's main thread only."""

    def stop(*_: object) -> None:
        raise error

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds, 1)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def limit_threads(threads: int) -> None:
    """Use exactly `threads` threads inside each operation, also where there are fewer cores: sums split by thread."""
    import torch

    torch.set_num_threads(threads)


def exact(threads: int, precision: Precision) -> None:
    """Fix everything that lets torch choose between kernels that round differently. Call once, before any tensor."""
    import torch

    limit_threads(threads)
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
    # torch would also fill all new memory, for the sake of code that reads what it never wrote: 3 % of the time
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    if precision == "bf16":
        # oneDNN's fast bf16 kernels are AVX-512 and AMX: with the AVX2 pin a step takes minutes. Read at its first use
        os.environ["ONEDNN_MAX_CPU_ISA"] = "DEFAULT"
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.allow_tf32 = precision == "tf32"


def seed_step(*key: int) -> None:
    """Seed torch on every device as a function of `key` alone, such as (seed, epoch, step).

    Draws made after this do not depend on how many were made before, so any step can be re-made by itself.
    """
    import numpy as np
    import torch

    torch.manual_seed(int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0]))


def device(name: Device) -> torch.device:
    """Return the device asked for; a missing GPU is an error, never a silent fall back to the CPU."""
    import torch

    if name == "cuda" and not torch.cuda.is_available():
        raise InputError(
            "device = 'cuda': no usable NVIDIA GPU was found; set `device: cpu` in params.yaml "
            "(or `dvc exp run -S device=cpu`), or install a driver that torch can use"
        )
    return torch.device(name)


def autocast(on: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """Return the context in which a forward pass runs in `precision`; weights stay float32."""
    import torch

    kinds = {"bf16": torch.bfloat16, "fp16": torch.float16}
    return torch.autocast(on.type, kinds[precision]) if precision in kinds else contextlib.nullcontext()
