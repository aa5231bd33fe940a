"""Who made which bits: logs/<stage>.json says in which environment a stage ran, and the hashes of what it wrote.

No stage output says so, or two equal runs would differ. `brainmri record` makes metrics/provenance.json of these logs.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

from stages import PINS
from stages.files import write_json
from stages.shell import pipeline

LOCK = Path(__file__).parents[2] / "requirements.lock"
FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")  # of the CPU: those between which libraries choose


def log(stage: str, seconds: float) -> None:
    """Write logs/<stage>.json in the study's folder: environment, seconds, and the hash of each output."""
    write_json(f"logs/{stage}.json", environment() | {"seconds": round(seconds, 1), "outputs": outputs(stage)})


def environment() -> dict[str, Any]:
    """Return what bits could depend on beside code, parameters and data."""
    return {
        "python": platform.python_version(),
        "packages": installed(LOCK),
        "other_versions": other_versions(LOCK),
        "cpu": cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "isa": [flag for flag in FLAGS if re.search(rf"\b{flag}\b", Path("/proc/cpuinfo").read_text())],
        "pins": PINS,
        "gpu": gpu(),
    }


def locked(lock: Path) -> dict[str, str]:
    """Return {name: version} of the packages that a lock file names; none where there is no such file."""
    return dict(re.findall(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", _text(lock), re.MULTILINE))


def behind(study: Path, lock: Path) -> dict[str, str]:
    """Return what a study's versions.yaml has otherwise than the lock: `{name: "there -> locked"}`.

    Nothing where the study has no such file: DVC refuses to run a stage that depends on one that is not there.
    """
    named = dict(re.findall(r"^([a-z0-9-]+): '?([^\s']+)'?$", _text(study / "versions.yaml"), re.MULTILINE))
    known = locked(lock)
    return {name: f"{version} -> {known.get(name)}" for name, version in named.items() if version != known.get(name)}


def installed(lock: Path) -> dict[str, str]:
    """Return {name: version} of the packages that `lock` names and that are installed."""
    return versions(locked(lock))


def versions(names: Iterable[str]) -> dict[str, str]:
    """Return {name: version} of those packages that are installed."""
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def other_versions(lock: Path) -> dict[str, str]:
    """Return packages installed in another version than the lock file names: `{name: "locked -> installed"}`."""
    known = locked(lock)
    return {name: f"{known[name]} -> {version}" for name, version in installed(lock).items() if version != known[name]}


def cpu() -> str:
    """Return this machine's CPU model, as docs/reproducibility.md lists them: name, family and model number."""
    facts = dict(
        re.findall(r"^(model name|cpu family|model)\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    )
    return (
        f"{facts.get('model name', platform.machine())} (family {facts.get('cpu family')}, model {facts.get('model')})"
    )


def gpu() -> dict[str, Any] | None:
    """Return name, driver, CUDA and cuDNN of the GPU that this process used; None without one."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return None
    driver = re.search(r"Kernel Module.*?\s(\d+\.[\d.]+)", _text("/proc/driver/nvidia/version"))
    return {
        "name": torch.cuda.get_device_name(),
        "driver": driver[1] if driver else None,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }


def outputs(stage: str) -> dict[str, str]:
    """Return {path: hash} of the stage's outputs as they lie in the study's folder, hashed as DVC does it."""
    declared = pipeline.declared(Path()).get(stage, {})
    entries = [entry for kind in ("outs", "metrics", "plots") for entry in declared.get(kind, [])]
    paths = [entry if isinstance(entry, str) else next(iter(entry)) for entry in entries]
    return {path: dvc_hash(Path(path)) for path in paths if Path(path).exists()}


def dvc_hash(path: Path) -> str:
    """Return the hash that DVC gives a file (MD5 of its bytes) or a folder (MD5 of its listing, and `.dir`)."""
    if path.is_file():
        with path.open("rb") as handle:
            return hashlib.file_digest(handle, "md5").hexdigest()
    files = [file for file in path.rglob("*") if file.is_file() and "__pycache__" not in file.parts]
    listing = [{"md5": dvc_hash(file), "relpath": file.relative_to(path).as_posix()} for file in files]
    listing.sort(key=lambda entry: entry["relpath"])
    return f"{hashlib.md5(json.dumps(listing, sort_keys=True).encode()).hexdigest()}.dir"


def _text(path: Path | str) -> str:
    """Return a file's text, or nothing where there is no such file."""
    try:
        return Path(path).read_text()
    except OSError:
        return ""
