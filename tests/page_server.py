"""Run as `python page_server.py LOG WORDS...`: `brainmri WORDS`, connections beyond loopback refused and written down.

Imported, it starts that for a test, and asks it as the page does.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

LOOPBACK = ("127.0.0.1", "::1", "localhost", "0.0.0.0")  # the last to listen on


class Page(NamedTuple):
    """A server that a test has started."""

    url: str  # with its token, where it has one
    process: int
    calls: Path  # one line for each connection that was tried beyond loopback
    scratch: Path  # its folder for temporary files
    said: Path  # what it wrote on its error side


@contextmanager
def served(study: Path, folder: Path, *words: str) -> Iterator[Page]:
    """Serve a study, or a zip of one, on a port that is free; what that leaves behind lies in a folder."""
    calls, said = folder / "calls", folder / "said"
    folder.mkdir(parents=True, exist_ok=True)
    calls.touch()
    scratch = Path(tempfile.mkdtemp())  # a short path: the names of processes' sockets have at most 107 bytes
    which = "--model" if study.is_file() else "--study"
    command = [sys.executable, __file__, str(calls), "serve", which, str(study), "--port", "0", *words]
    environment = os.environ | {"TMPDIR": str(scratch), "PYTHONPATH": str(Path(__file__).parent.parent)}
    with said.open("w") as errors:
        process = subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE, stderr=errors)
    try:
        assert process.stdout
        line = process.stdout.readline()
        assert line.startswith("brainmri: http://"), line + said.read_text()
        yield Page(line.split()[1], process.pid, calls, scratch, said)
    finally:
        process.terminate()
        process.wait(timeout=30)
        if process.stdout:
            process.stdout.close()
        shutil.rmtree(scratch)


def ask(url: str, files: list[tuple[str, bytes]], **options: Any) -> list[dict[str, Any]]:
    """Return what a page answers to (name, bytes) of some files."""
    import requests

    form: list[Any] = [("names", (None, json.dumps([name for name, _ in files])))]
    form += [("file", ("file", data)) for _, data in files]
    response = requests.post(f"{url}ask", files=form, timeout=300, **options)
    assert response.status_code == 200, response.text
    return [json.loads(line) for line in response.text.splitlines()]


def main(log: str, *words: str) -> int:
    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
            return
        address = arguments[1] if event != "socket.getaddrinfo" else arguments
        host = address[0] if isinstance(address, tuple) else address  # a path: a socket of this machine
        if host not in LOOPBACK and not (isinstance(host, str | bytes) and host[:1] in ("/", b"/", "", b"\0")):
            with Path(log).open("a") as file:
                print(event, host, file=file)
            raise PermissionError(f"{event} {host!r}")

    sys.addaudithook(watch)
    from commands.__main__ import main as command

    return command(list(words))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
