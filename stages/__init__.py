"""The pipeline, one folder a stage: fetch, verify, prepare, backbone, train, evaluate, report.

Importing anything from here pins the instruction set that NumPy, oneDNN, MKL and ATen may use. Their kernels sum in
another order with AVX-512 than with AVX2, so without this the same training gives other bits on another x86 machine.
The variables are read once, when those libraries load, hence here: before any of them can be imported.

A stage that DVC started also begins here to watch over its `dvc`: loading torch takes seconds, in which `dvc` may die.
"""

import ctypes
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

PINS = {
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "ONEDNN_DEFAULT_FPMATH_MODE": "STRICT",
    "ATEN_CPU_CAPABILITY": "avx2",
    "MKL_CBWR": "COMPATIBLE",
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
    "OPENBLAS_CORETYPE": "Haswell",
    "OPENBLAS_NUM_THREADS": "1",
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    # no bits, but time: threads that spin while they wait slow each other tenfold where a core is shared
    "OMP_WAIT_POLICY": "PASSIVE",
    "PYTHONHASHSEED": "0",  # for child processes; this one's was fixed when it started, and nothing here depends on it
}

CLEARED = (
    "NVIDIA_TF32_OVERRIDE",  # would change bits behind `precision`'s back
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
    "OMP_DYNAMIC",  # and these behind that of `threads`: fewer threads than asked for split sums in another way
    "OMP_THREAD_LIMIT",
    "MKL_DYNAMIC",
)

# DVC hashes a stage's folder as it lies. `.dvcignore` leaves compiled files out of that only inside a DVC project, and
# the code lies outside of a study's: none may be written there. Compiling again costs some tenths of a second
sys.dont_write_bytecode = True

SHELLS = ("sh", "dash", "bash", "zsh", "fish", "ksh", "ash", "busybox")

if any(os.environ.get(name) != value for name, value in PINS.items()) or any(name in os.environ for name in CLEARED):
    loaded = [name for name in ("numpy", "torch") if name in sys.modules]
    if loaded:
        raise ImportError(
            f"{' and '.join(loaded)} was imported before `stages`, so its instruction set is not pinned; "
            "import stages first"
        )
    os.environ.update(PINS)
    for name in CLEARED:
        os.environ.pop(name, None)


def _end_with_dvc() -> None:
    """End this process when the `dvc` that started it is gone.

    DVC runs a stage through a shell; killing `dvc` alone would leave the stage running, to overwrite outputs later.
    So the parent is watched, and where it is a shell its parent too. Some shells (bash) become the command that they
    are given: then the parent is DVC, and what started DVC may end, as a terminal does under `nohup dvc repro &`.
    """
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: where the parent itself is killed
    family = _ancestors()
    if _orphaned(family):
        os.kill(os.getpid(), signal.SIGKILL)
    depth = 2 if _name(family[0]) in SHELLS else 1

    def watch() -> None:
        while _ancestors()[:depth] == family[:depth]:
            time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def _name(process: int) -> str:
    """Return a process's short name; empty where it has ended, which its death signal tells as well."""
    try:
        return Path(f"/proc/{process}/comm").read_text().strip()
    except OSError:
        return ""


def _ancestors() -> list[int]:
    """Return the process ids of the parent, of its parent, and so on."""
    found = [os.getppid()]
    try:
        while found[-1] > 1:
            found.append(int(Path(f"/proc/{found[-1]}/stat").read_text().rpartition(")")[2].split()[1]))
    except (OSError, ValueError):  # it ended while we looked
        pass
    return found


def _orphaned(family: list[int]) -> bool:
    """Whether `dvc` was gone before we could watch it: while a stage runs, DVC's lock file names DVC's process."""
    try:
        held = json.loads((Path(os.environ["DVC_ROOT"]) / ".dvc/tmp/rwlock").read_text())
        holders = {each["pid"] for each in held["write"].values()}
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return bool(holders) and not holders & set(family)


# not in the processes that decode images, which end with the one that started them
if "DVC_ROOT" in os.environ and sys.platform == "linux" and any(w.startswith("stages.") for w in sys.orig_argv):
    _end_with_dvc()
