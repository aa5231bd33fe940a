"""The machines of a Dask cluster as an `Executor`, for `runtime.pool`: the same results as processes of this machine.

Its workers are Dask's own, as `dask worker` or dask-jobqueue start them: `cluster_worker` travels to them by value. In
the study's folder, which all machines must see at one path, each starts a process of this code (`cluster_child`) with
the pins set before NumPy loads, and hands it one task after another. A task is no more than its item: the function
lies in a file of the study's folder. Results come back as bytes, which only this process opens.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import pickle
import platform
import re
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from concurrent.futures import CancelledError, Executor, Future
from pathlib import Path
from typing import Any

from stages import PINS
from stages.files import atomic_write
from stages.shell import cluster_worker
from stages.shell.errors import InputError
from stages.shell.provenance import versions

ROOT = Path(__file__).parents[2]
CONNECT = 10  # seconds in which a scheduler answers
RETRIES = 3  # of a task whose process ended in its middle
PATIENCE = 600  # seconds without any worker
GONE = "the Dask scheduler at {} is gone: start it and its workers, and run again"


@contextlib.contextmanager
def connected(address: str) -> Generator[Machines, None, None]:
    """Yield the cluster whose scheduler is at `address`; tasks under way are dropped with the block.

    Raises
    ------
    InputError
        Where no scheduler answers, or Dask is not installed; later, from results, where a worker has other code or
        versions or does not see the study's folder.
    """
    with scheduler(address) as client, _shared_folder(Path("logs").absolute()) as folder:
        yield Machines(client, address, folder)


@contextlib.contextmanager
def scheduler(address: str, said: str = "BRAINMRI_CLUSTER") -> Generator[Any, None, None]:
    """Yield Dask's client of the scheduler at `address`, which the variable or option `said` names."""
    if not re.fullmatch(r"(tcp|tls|ucx)://.+:\d+", address):
        raise InputError(f"{said} is {address!r}: expected the address of a Dask scheduler: tcp://host:port")
    try:
        from distributed import Client
    except ImportError:
        raise InputError(
            "a cluster needs Dask (the extra `cluster`): run `pip install --require-hashes "
            f"-r requirements-cluster.lock` in the project's environment, or do without {said}"
        ) from None
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what it would tell is told in one line
    try:
        client = Client(address, timeout=CONNECT, set_as_default=False)
    except (OSError, TimeoutError, ValueError):
        raise InputError(
            f"no Dask scheduler answers at {address} ({said}): start one with `dask scheduler`, or do without"
        ) from None
    try:
        yield client
    finally:
        client.close(timeout=5)


@contextlib.contextmanager
def _shared_folder(logs: Path) -> Generator[Path, None, None]:
    """Yield a new folder in the study's, with what a worker must be like; one that a killed process left is removed."""
    logs.mkdir(exist_ok=True)
    for left in logs.glob(f".cluster.{socket.gethostname()}.*"):
        if not Path(f"/proc/{left.name.split('.')[-2]}").exists():
            shutil.rmtree(left, ignore_errors=True)
    prefix = f".cluster.{socket.gethostname()}.{os.getpid()}."
    with tempfile.TemporaryDirectory(dir=logs, prefix=prefix, ignore_cleanup_errors=True) as folder:
        atomic_write(Path(folder) / "identity.json", json.dumps(identity()))
        yield Path(folder)


def identity() -> dict[str, str]:
    """Return what must be the same on each machine: the digest of the code, Python's version, those of packages."""
    digest = hashlib.sha256()
    for path in sorted((ROOT / "stages").rglob("*.py")):
        digest.update(f"{path.relative_to(ROOT)}\n".encode() + path.read_bytes() + b"\n")
    names = re.findall(r"^([a-z0-9-]+):", (ROOT / "versions.yaml").read_text(), re.MULTILINE)
    return {"code of stages/": digest.hexdigest()[:12], "Python": platform.python_version(), **versions(names)}


class Machines(Executor):
    """Runs functions of one item on the cluster's workers."""

    def __init__(self, client: Any, address: str, folder: Path) -> None:
        self.client, self.address, self.folder = client, address, folder
        python_path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        self.job = cluster_worker.Job(str(Path.cwd()), str(folder), tuple(({"PYTHONPATH": python_path} | PINS).items()))
        self.perform = travelling(cluster_worker.perform, cluster_worker)
        self.sent: tuple[Any, str] | None = None  # the last function, and the file in which it lies
        self.lonely: float | None = None  # since when there has been no worker
        self.counted = 0.0, 1  # when, and how many tasks the workers did at a time

    @property
    def width(self) -> int:
        """How many tasks the workers do at a time, as of a second ago."""
        if time.monotonic() - self.counted[0] > 1:
            self.counted = time.monotonic(), max(1, sum(self._threads().values()))
        return self.counted[1]

    def _threads(self) -> dict[str, int]:
        """Return {worker: its threads}."""
        try:
            return dict(self.client.nthreads())
        except Exception:  # Dask has one for each way in which a connection ends
            raise InputError(GONE.format(self.address)) from None

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Start function(item) on some worker."""
        (item,) = args
        if self.sent is None or self.sent[0] is not function:
            self.sent = function, self._file(pickle.dumps(function))
        work = pickle.dumps(item)
        return Awaited(
            self, self.client.submit(self.perform, tuple(self.job), self.sent[1], work, pure=False, retries=RETRIES)
        )

    def _file(self, data: bytes) -> str:
        path = self.folder / hashlib.sha256(data).hexdigest()[:16]
        atomic_write(path, data)
        return str(path)

    def check(self) -> None:
        """Say once that there is no worker; give up after a while."""
        if self._threads():
            self.lonely = None
        elif self.lonely is None:
            self.lonely = time.monotonic()
            print(f"no worker at {self.address} yet: waiting for one", file=sys.stderr)
        elif time.monotonic() - self.lonely > PATIENCE:
            raise InputError(f"no worker at {self.address} for {PATIENCE} s: start some with `dask worker`, run again")


class Awaited(Future[Any]):
    """A result that is on its way."""

    def __init__(self, machines: Machines, future: Any) -> None:
        super().__init__()
        self.machines, self.future = machines, future

    def result(self, timeout: float | None = None) -> Any:
        """Return it, or raise what the function raised; an InputError where the cluster is at fault."""
        from distributed.client import FutureCancelledError
        from distributed.scheduler import KilledWorker

        address = self.machines.address
        while True:
            try:
                return opened(self.future.result(timeout=2))
            except TimeoutError:
                self.machines.check()
            except KilledWorker as error:
                raise InputError(
                    f"a task ended with its worker again and again, at last with {error.last_worker.address}: "
                    "is there too little memory?"
                ) from None
            except OSError as error:
                if cluster_worker.ENDED in str(error):
                    raise InputError(f"{error}, as it did on others: is there too little memory?") from None
                raise InputError(GONE.format(address)) from None
            except (FutureCancelledError, CancelledError):
                raise InputError(GONE.format(address)) from None


def opened(answer: bytes) -> Any:
    """Return a task's result, or raise what it raised."""
    kind, said = answer[:1], answer[1:]
    if kind == cluster_worker.REFUSED:
        raise InputError(said.decode())
    found = pickle.loads(said)
    if kind == cluster_worker.RAISED:
        raise found
    return found


def travelling(function: Callable[..., Any], *modules: Any) -> Callable[..., Any]:
    """Return a function to be sent by value, with what it uses of `modules`: those use nothing but Python and Dask.

    A worker's process cannot import this project by name: its NumPy was loaded before the pins.
    """
    import cloudpickle

    for module in modules:
        cloudpickle.register_pickle_by_value(module)
    try:
        sent = cloudpickle.dumps(function)
    finally:
        for module in modules:
            cloudpickle.unregister_pickle_by_value(module)

    def call(*args: Any) -> Any:
        import pickle

        return pickle.loads(sent)(*args)

    return call
