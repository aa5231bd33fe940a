"""A dataset from Kaggle, in the version that params.yaml pins, by Kaggle's own client."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

from stages.fetch.download import cache
from stages.shell.errors import InputError

DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG)
INSTEAD = "or set BRAINMRI_SOURCE to a copy of the data"


def download(dataset: str, version: int) -> Path:
    """Return the folder with an unpacked dataset, downloaded by kagglehub if its cache does not have it.

    kagglehub unpacks by itself, so `fetch.limits` hold only for what is then read from that folder. Credentials, where
    a dataset needs them, and the cache (KAGGLEHUB_CACHE) are kagglehub's own affair; BRAINMRI_CACHE moves it too.

    Raises
    ------
    InputError
        If kagglehub is not installed, or Kaggle does not give the dataset.
    """
    try:
        import kagglehub
    except ImportError:
        raise InputError(
            f"fetch.source is kaggle, but kagglehub is missing: run `make env` (or pip install kagglehub), {INSTEAD}"
        ) from None
    if "BRAINMRI_CACHE" in os.environ:
        os.environ.setdefault("KAGGLEHUB_CACHE", str(cache() / "kagglehub"))
    try:
        return Path(kagglehub.dataset_download(f"{dataset}/versions/{version}"))
    except Exception as error:  # kagglehub raises its own kinds, those of requests, zipfile, tarfile and the SDK
        if isinstance(error, OSError) and error.errno in DISK:
            raise
        if not _is_network(error):
            forget(dataset, version)
        reason = " ".join(str(error).split())[:240] or type(error).__name__
        raise InputError(
            f"Kaggle dataset {dataset}, version {version}: {reason}; check fetch.kaggle and the network, {INSTEAD}"
        ) from None


def forget(dataset: str, version: int) -> None:
    """Remove a version whose content is wrong from kagglehub's cache, so that the next run gets it again."""
    kept = _kept(dataset)
    for name in (f"{version}.complete", f"{version}.archive"):
        (kept / name).unlink(missing_ok=True)
    shutil.rmtree(kept / "versions" / str(version), ignore_errors=True)


def is_cached(dataset: str, version: int) -> bool:
    """Say whether kagglehub has the version already."""
    return (_kept(dataset) / f"{version}.complete").exists()


def _kept(dataset: str) -> Path:
    """Return where kagglehub keeps a dataset: as its own `config.get_cache_folder` says."""
    default = cache() / "kagglehub" if "BRAINMRI_CACHE" in os.environ else Path.home() / ".cache" / "kagglehub"
    return Path(os.environ.get("KAGGLEHUB_CACHE") or default) / "datasets" / dataset


def _is_network(error: Exception) -> bool:
    """Say whether the connection failed, after which kagglehub goes on from what it has."""
    import requests

    return isinstance(error, requests.RequestException)
