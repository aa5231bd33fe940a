"""A study goes to an S3 server and comes back, also where the server dies in the middle: moto's, on loopback.

DVC with S3 has an environment of its own (docs/remote.md); each command here is that environment's.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

import pytest
from conftest import ROOT

BIN = ROOT / ".venv-s3/bin"
BUCKET = "studies"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (BIN / "moto_server").exists(), reason="needs .venv-s3 with moto (docs/remote.md)"),
]


@contextmanager
def serving(port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run an S3 server that forgets all when it ends, with an empty bucket; dead at the end, if it was not before."""
    command = [BIN / "moto_server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                urlopen(Request(f"http://127.0.0.1:{port}/{BUCKET}", method="PUT"), timeout=10).close()
                break
            except URLError:
                assert server.poll() is None and time.monotonic() < deadline
                time.sleep(0.1)
        yield server
    finally:
        server.send_signal(signal.SIGKILL)
        server.wait()


def objects(port: int) -> list[str]:
    with urlopen(f"http://127.0.0.1:{port}/{BUCKET}?list-type=2&max-keys=1000", timeout=10) as answer:
        return re.findall(r"<Key>([^<]+)</Key>", answer.read().decode())


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def clone(repository: Path, folder: Path, port: int, cache: Path | None = None) -> Path:
    """Copy what Git would have of a study that was run, with the server as its remote."""
    listed = subprocess.check_output(["git", "ls-files", "-co", "--exclude-standard"], cwd=repository, text=True)
    for name in listed.splitlines():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(repository / name, folder / name)
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    dvc(folder, "remote", "add", "-d", "store", f"s3://{BUCKET}/dvc")
    dvc(folder, "remote", "modify", "store", "endpointurl", f"http://127.0.0.1:{port}")
    if cache:
        dvc(folder, "cache", "dir", "--local", str(cache))
    return folder


def command(*words: str) -> list[str]:
    return [str(BIN / "dvc"), *words]


def environment(folder: Path) -> dict[str, str]:
    """Nothing of this machine: neither its keys nor what DVC remembers of remotes."""
    keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_EC2_METADATA_DISABLED": "true"}
    return os.environ | keys | {"NO_PROXY": "127.0.0.1", "DVC_SITE_CACHE_DIR": str(folder.parent / "site")}


def dvc(folder: Path, *words: str) -> str:
    done = subprocess.run(command(*words), cwd=folder, text=True, capture_output=True, env=environment(folder))
    assert done.returncode == 0, done.stderr
    return done.stdout


def outputs(folder: Path) -> dict[str, str]:
    """Return the sha256 of each file that DVC, not Git, has of a study."""
    files = [path for top in ("data", "models", "report") for path in (folder / top).rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_what_is_pushed_is_pulled_elsewhere_to_the_byte(repository: Path, port: int, tmp_path: Path):
    mine = clone(repository, tmp_path / "mine", port, repository / ".dvc/cache")
    other = clone(repository, tmp_path / "other", port)
    dvc(repository, "checkout", "--quiet")
    with serving(port):
        dvc(mine, "push")
        assert dvc(mine, "push").strip() == "Everything is up to date."
        dvc(other, "pull")
    assert outputs(other) == outputs(repository) and len(outputs(other)) > 50
    assert dvc(other, "status").strip() == "Data and pipelines are up to date."


def test_after_a_server_was_killed_in_the_middle_the_next_push_completes(repository: Path, port: int, tmp_path: Path):
    mine = clone(repository, tmp_path / "mine", port, repository / ".dvc/cache")
    other = clone(repository, tmp_path / "other", port)
    dvc(repository, "checkout", "--quiet")
    with serving(port) as server:
        push = subprocess.Popen(command("push", "-j", "1"), cwd=mine, stderr=subprocess.PIPE, env=environment(mine))
        while len(arrived := objects(port)) < 3:
            assert push.poll() is None
        server.kill()
        _, said = push.communicate(timeout=600)
    assert push.returncode != 0 and said, "a push that did not arrive says so"
    with serving(port):
        dvc(mine, "push")
        assert len(objects(port)) > len(arrived)
        dvc(other, "pull")
    assert outputs(other) == outputs(repository)
