"""What makes a run exact, and what a stage does around its work: threads, seeds, device, precision, errors, the log.

The instruction set is pinned earlier still, in `stages/__init__.py`.
"""

from __future__ import annotations

import contextlib
import errno
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal, TypeVar

from stages import provenance
from stages.files import InputError

if TYPE_CHECKING:
    import torch

Item = TypeVar("Item")
Result = TypeVar("Result")
NOT_WRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG)
NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST)
Device = Literal["cpu", "cuda"]
Precision = Literal["fp32", "tf32", "bf16", "fp16"]


def run(stage: str, main: Callable[[], None]) -> None:
    """Run a stage's `main` and log who made which bits (see `provenance`).

    Ends with one line and exit status 1 where a person's input or the disk is at fault.
    """
    begun = time.perf_counter()
    for name, versions in provenance.other_versions(provenance.LOCK).items():
        print(f"{stage}: {name} is not as in requirements.lock ({versions}): bits may differ", file=sys.stderr)
    try:
        main()
        provenance.log(stage, time.perf_counter() - begun)
    except InputError as error:
        sys.exit(f"{stage}: {error}")
    except OSError as error:
        line = os_error(error)
        if line is None:
            raise
        sys.exit(f"{stage}: {line}")
    except KeyboardInterrupt:
        sys.exit(130)


def os_error(error: OSError) -> str | None:
    """Return the line for a person where the disk or a file is at fault; None where it is something else."""
    where = f" at {error.filename}" if error.filename else ""
    if error.errno in NOT_WRITABLE:
        return f"cannot write{where}: {error.strerror}; nothing was left half-written, mend it and run again"
    if error.errno in NOT_THERE and error.filename:
        return f"{error.filename} is not as the stages before it leave it ({error.strerror}): run `dvc repro`"
    return None


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


def in_order(function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """Yield function(item) for each item, in order, computed by `workers()` processes.

    A few results at most wait to be taken, so memory stays flat however many items there are. `function` and the items
    must be picklable; it runs in fresh processes, which see none of this one's state. One worker means this process.
    """
    count = min(workers(), len(items))
    if count < 2:
        yield from map(function, items)
        return
    with process_pool(count) as pool:
        waiting: deque[Future[Result]] = deque()
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > 2 * count:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def process_pool(count: int, start: Literal["fork", "forkserver"] = "forkserver") -> ProcessPoolExecutor:
    """Return a pool of `count` processes that end when this one does, also where it is killed."""
    context = multiprocessing.get_context(start)
    return ProcessPoolExecutor(count, mp_context=context, initializer=_end_with, initargs=(os.getpid(),))


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


@contextlib.contextmanager
def only_one(path: Path | str, seconds: float = 1) -> Iterator[None]:
    """Hold an exclusive lock for the block, so that two trainers never write one study; its file goes with the block.

    The kernel drops the lock when the process ends, however it ends; a file that a killed one left is taken over.
    Waits `seconds`, as who sweeps what killed runs left holds their locks for a moment; then raises InputError.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    until = time.monotonic() + seconds
    while True:
        with path.open("w") as handle:
            if _locked(handle, path):
                try:
                    yield
                finally:
                    if _lies_at(path, handle):
                        path.unlink()  # while it is held: who comes later makes a new one
                return
        if time.monotonic() >= until:
            raise InputError(f"another run holds {path}: wait for it to end, or stop it, then run again")
        time.sleep(0.05)


def _locked(handle: IO[str], path: Path) -> bool:
    """Lock an open file; False where another holds it or has removed it since it was opened (that locks nothing)."""
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return _lies_at(path, handle)


def _lies_at(path: Path, handle: IO[str]) -> bool:
    try:
        return os.path.samestat(os.fstat(handle.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _end_with(owner: int) -> None:
    """In a worker: end when the process that owns the pool is gone; one that was killed cannot tell its workers."""
    if not sys.platform.startswith("linux"):
        return

    def watch() -> None:
        while Path(f"/proc/{owner}").exists():
            time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
