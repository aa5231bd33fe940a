"""The pipeline, one folder a stage: fetch, verify, prepare, backbone, train, evaluate, report.

Importing anything from here pins the instruction set that NumPy, oneDNN, MKL and ATen may use. Their kernels sum in
another order with AVX-512 than with AVX2, so without this the same training gives other bits on another x86 machine.
The variables are read once, when those libraries load, hence here: before any of them can be imported.

A stage that DVC started also begins here to watch over its `dvc`: loading torch takes seconds, in which `dvc` may die.
"""

import os
import sys

from stages.shell.watch import end_with_dvc

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

# not in the processes that decode images, which end with the one that started them
if "DVC_ROOT" in os.environ and sys.platform == "linux" and any(w.startswith("stages.") for w in sys.orig_argv):
    end_with_dvc()
