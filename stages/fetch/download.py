"""A file from an http(s) URL into the user's cache: with progress, retries, and from where a cut download ended."""

from __future__ import annotations

import hashlib
import math
import os
import re
import shutil
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pooch
import requests
from urllib3.exceptions import LocationParseError

from stages.files import atomic_write
from stages.shell.errors import InputError
from stages.shell.locks import only_one
from stages.shell.progress import progress_bar

ATTEMPTS = 4  # in a row without a new byte
TIMEOUT = (10, 20)  # seconds to connect, and between two bytes
PAUSE = 1.0  # seconds before the second attempt, then twice as long each time
LASTING = (
    requests.exceptions.InvalidSchema,
    requests.exceptions.InvalidURL,
    requests.exceptions.SSLError,
    requests.exceptions.TooManyRedirects,
    LocationParseError,  # requests lets it through
)
CHUNK = 1 << 16  # bytes, of which a cut connection may lose one


def cache() -> Path:
    """Return where downloads are kept: BRAINMRI_CACHE, or the user's cache folder."""
    chosen = os.environ.get("BRAINMRI_CACHE")
    if chosen and not Path(chosen).is_absolute():
        raise InputError(
            f"BRAINMRI_CACHE is {chosen!r}: expected an absolute path, as experiments run in other folders"
        )
    return Path(chosen or pooch.os_cache("brainmri"))


def shown_url(url: str) -> str:
    """Return a URL without what may be secret in it: user, password, query."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}{parts.path}"


def cached(url: str) -> Path:
    """Return where in the cache a URL's file lies, or will lie; InputError where it is no URL."""
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  reading it checks it
    except ValueError as error:
        raise InputError(f"{url[:200]!r} is no URL ({error}); correct the address") from None
    name = re.sub(r"[^A-Za-z0-9._-]", "_", parts.path.rsplit("/", 1)[-1])[-60:] or "file"
    return cache() / f"{hashlib.sha256(url.encode()).hexdigest()[:16]}-{name}"


def download(url: str, most: int) -> Path:
    """Return the cached file of a URL, downloaded if it is not there.

    Nothing ever stands half-written under the name that is returned. A cut download is kept beside it and taken up by
    the next run. What the file holds is for the caller to check.

    Parameters
    ----------
    url
        http or https; redirects are followed.
    most
        Bytes after which a server that goes on sending is left.

    Raises
    ------
    InputError
        If it cannot be had: the address, the server's answer, and what to do.
    """
    target = cached(url)
    pooch.get_logger().setLevel("WARNING")  # it recommends to pin the hash of the archive; the tree digest is pinned
    # others wait, however long it takes, and then find it
    with only_one(target.with_name(f"{target.name}.lock"), seconds=math.inf):
        got = pooch.retrieve(url, known_hash=None, fname=target.name, path=target.parent, downloader=Resuming(most))
    return Path(got)


def forget(path: Path) -> None:
    """Remove a cached file whose content is wrong, so that the next run gets it again."""
    for stale in (path, _partial(path), _validator(path)):
        stale.unlink(missing_ok=True)


class Resuming:
    """A pooch downloader that continues with HTTP Range what an earlier attempt, or an earlier run, began."""

    def __init__(self, most: int) -> None:
        self._most = most

    def __call__(self, url: str, output_file: str, pooch: Any, check_only: bool = False) -> None:
        """Download `url` to `output_file`, which pooch then moves to its final name."""
        target = cached(url)
        failures = 0
        while True:
            before = _size(_partial(target))
            try:
                self._attempt(url, target)
                break
            except requests.HTTPError as error:
                status = error.response.status_code if error.response is not None else 0
                _give_up_unless_transient(url, status)
                reason = f"HTTP {status}"
            except LASTING as error:
                raise InputError(
                    f"{shown_url(url)[:200]}: {_reason(error)}; correct the address, or set BRAINMRI_SOURCE to a copy"
                ) from None
            except requests.RequestException as error:
                reason = _reason(error)
            failures = 0 if _size(_partial(target)) > before else failures + 1
            if failures == ATTEMPTS:
                raise InputError(
                    f"{shown_url(url)}: {reason}, {ATTEMPTS} times; {_size(_partial(target)):,} bytes are kept: "
                    "run again to go on, or set BRAINMRI_SOURCE to a copy of the file"
                ) from None
            time.sleep(PAUSE * 2 ** max(0, failures - 1))
        shutil.move(_partial(target), output_file)
        _validator(target).unlink(missing_ok=True)

    def _attempt(self, url: str, target: Path) -> None:
        part = _partial(target)
        start = _size(part)
        headers = {"Accept-Encoding": "identity"} | _range(target, start)
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
            if response.status_code == 416 or (response.status_code == 206 and not _continues(response, start)):
                forget(target)  # what we have is not a beginning of what the server has
                raise requests.ConnectionError("the server cannot continue it")
            response.raise_for_status()
            start = start if response.status_code == 206 else 0
            atomic_write(
                _validator(target), response.headers.get("ETag") or response.headers.get("Last-Modified") or ""
            )
            self._save(response, part, start)

    def _save(self, response: requests.Response, part: Path, start: int) -> None:
        length = response.headers.get("Content-Length", "")
        packed = response.headers.get("Content-Encoding", "identity") != "identity"  # then it is not what we save
        total = start + int(length) if length.isdecimal() and not packed else None
        size = start
        try:
            with part.open("ab" if start else "wb") as handle, _bar(total, start) as bar:
                for data in response.iter_content(CHUNK):
                    size += len(data)
                    if size > self._most:
                        raise InputError(
                            f"{shown_url(response.url)}: more than {self._most:,} bytes; if it is right, raise "
                            "fetch.limits.total_bytes"
                        )
                    handle.write(data)
                    bar.update(len(data))
        except requests.RequestException:
            raise
        except (OSError, InputError):
            part.unlink(missing_ok=True)
            raise
        if total is not None and size != total:
            raise requests.ConnectionError(f"{size:,} of {total:,} bytes came")


def _bar(total: int | None, start: int) -> Any:
    return progress_bar(total=total, initial=start, desc="download", unit="B", unit_scale=True)


def _range(target: Path, start: int) -> dict[str, str]:
    """Ask for the rest; where the server named a version, only if it is still that one."""
    if not start:
        return {}
    validator = _validator(target).read_text() if _validator(target).exists() else ""
    strong = validator if validator and not validator.startswith("W/") else ""
    return {"Range": f"bytes={start}-"} | ({"If-Range": strong} if strong else {})


def _continues(response: requests.Response, start: int) -> bool:
    return response.headers.get("Content-Range", "").startswith(f"bytes {start}-")


def _give_up_unless_transient(url: str, status: int) -> None:
    if status in (408, 425, 429) or status >= 500:
        return
    hints = {401: "it asks for a login", 403: "it may not be read", 404: "there is nothing at that address"}
    raise InputError(
        f"{shown_url(url)}: HTTP {status}, {hints.get(status, 'the server refuses')}; correct "
        "the address, or set BRAINMRI_SOURCE to a copy of the file"
    ) from None


def _reason(error: Exception) -> str:
    kinds = {
        requests.exceptions.SSLError: "the server's certificate is not trusted",
        requests.exceptions.ConnectTimeout: "no answer",
        requests.exceptions.Timeout: "the server stalls",
        requests.exceptions.TooManyRedirects: "it redirects without end",
        requests.exceptions.ChunkedEncodingError: "the connection was cut",
        requests.exceptions.ConnectionError: "no connection, or it was cut",
    }
    return next((text for kind, text in kinds.items() if isinstance(error, kind)), " ".join(str(error).split())[:120])


def _partial(target: Path) -> Path:
    return target.with_name(f"{target.name}.part")


def _validator(target: Path) -> Path:
    return target.with_name(f"{target.name}.version")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
