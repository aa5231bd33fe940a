"""The pipeline, one folder a stage: fetch, verify, prepare, backbone, train, evaluate, report.

Importing anything from here pins the instruction set that NumPy, OpenBLAS, oneDNN, MKL and ATen may use. Their kernels
sum in another order with AVX-512 than with AVX2, so without this the same training gives other bits on another x86
machine. The variables are read once, when those libraries load, hence here: before any of them can be imported. Which
set it is stands as `isa` in the params.yaml of the folder in which one stands; `params.load` refuses another in force.

A stage that DVC started also begins here to watch over its `dvc`: loading torch takes seconds, in which `dvc` may die.
"""

import os
import re
import sys
from pathlib import Path

from stages.shell.watch import end_with_dvc

ISAS = {  # what libraries may use; MKL stays at what is the same on all makers' CPUs
    "avx2": {
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "ATEN_CPU_CAPABILITY": "avx2",
        "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
        "OPENBLAS_CORETYPE": "Haswell",
    },
    "avx512": {
        "ONEDNN_MAX_CPU_ISA": "AVX512_CORE",
        "ATEN_CPU_CAPABILITY": "avx512",
        "NPY_DISABLE_CPU_FEATURES": "AVX512_ICL AVX512_SPR",
        "OPENBLAS_CORETYPE": "SkylakeX",
    },
}
AVX512 = {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}  # what a CPU must have for it


def asked_isa() -> str:
    """Return the `isa` of params.yaml in this folder; avx2 where there is none, or none that we know.

    BRAINMRI_ISA comes first: `brainmri predict` starts itself again with that of the study which it is asked about.
    """
    found = os.environ.get("BRAINMRI_ISA")
    if found is None:
        try:
            # by hand: a YAML parser would have to be loaded, for every command
            line = re.search(r"^isa:[ \t]*([\"']?)(\w+)\1[ \t]*(#.*)?$", Path("params.yaml").read_text(), re.MULTILINE)
        except (OSError, UnicodeDecodeError):
            line = None
        found = line[2] if line else ""
    return found if found in ISAS else "avx2"


def has_isa(isa: str) -> bool:
    """Whether this CPU has an instruction set."""
    try:
        return isa != "avx512" or set(Path("/proc/cpuinfo").read_text().split()) >= AVX512
    except OSError:
        return False


ISA = asked_isa() if has_isa(asked_isa()) else "avx2"  # on another CPU than the study's: enough to say so
PINS = ISAS[ISA] | {
    "ONEDNN_DEFAULT_FPMATH_MODE": "STRICT",
    "MKL_CBWR": "COMPATIBLE",
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
