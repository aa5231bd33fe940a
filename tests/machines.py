"""A small Dask cluster for tests and bench/, in processes of its own: workers that can be killed one by one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

START = """
import sys
from distributed import LocalCluster
if __name__ == "__main__":
    options = dict(threads_per_worker=1, host="127.0.0.1", dashboard_address=None, memory_limit=0)
    with LocalCluster(n_workers=int(sys.argv[1]), **options) as cluster:
        print(cluster.scheduler_address, flush=True)
        for line in sys.stdin:
            print(*(nanny.pid for nanny in cluster.workers.values()), flush=True)
"""


class Cluster:
    """A scheduler and its workers, which nannies replace."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        assert process.stdout
        self.address = process.stdout.readline().strip()

    def pids(self) -> list[int]:
        """Return the process of each worker as it is now."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return [int(pid) for pid in self.process.stdout.readline().split() if pid != "None"]


@contextmanager
def machines(folder: Path, workers: int = 2) -> Iterator[Cluster]:
    """Run a cluster of so many workers, elsewhere than where the tasks will be."""
    folder.mkdir(parents=True, exist_ok=True)
    script = folder / "start.py"
    script.write_text(START)
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, str(script), str(workers)],
            cwd=folder,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env={name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "BRAINMRI_CLUSTER")},
            start_new_session=True,
        )
    try:
        yield Cluster(process)
    finally:
        assert process.stdin and process.stdout
        process.stdin.close()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            process.wait()
        process.stdout.close()
