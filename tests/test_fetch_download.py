"""Downloads: whole under the final name or not there; cut ones are continued; every failure is one line."""

from __future__ import annotations

import concurrent.futures
import errno
import os
import socket
from pathlib import Path

import pytest
from serving import Server, serving

from stages.fetch import download, source
from stages.shell.errors import InputError

BODY = bytes(range(256)) * 4000
MOST = 10**9


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path):
    monkeypatch.setattr(download, "PAUSE", 0.0)
    monkeypatch.setattr(download, "TIMEOUT", (1, 0.5))
    monkeypatch.setenv("BRAINMRI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def server():
    with serving({"/a.zip": BODY}) as running:
        yield running


def cache_files() -> set[str]:
    return {path.name.split("-", 1)[1] for path in download.cache().glob("*")}


def failure(url: str, most: int = MOST) -> str:
    with pytest.raises(InputError) as caught:
        download.download(url, most)
    line = str(caught.value)
    assert "\n" not in line
    assert "http" in line
    return line


def test_file_is_downloaded_once(server):
    first = download.download(f"{server.url}/a.zip", MOST)
    assert first.read_bytes() == BODY
    assert download.download(f"{server.url}/a.zip", MOST) == first
    assert server.gets("/a.zip") == [None]
    assert cache_files() == {"a.zip"}


def test_two_urls_with_one_name_do_not_mix(server):
    server.files["/b/a.zip"] = b"other"
    assert download.download(f"{server.url}/a.zip", MOST).read_bytes() == BODY
    assert download.download(f"{server.url}/b/a.zip", MOST).read_bytes() == b"other"


def test_redirect_is_followed(server):
    server.files["/old.zip"] = f"->{server.url}/a.zip".encode()
    assert download.download(f"{server.url}/old.zip", MOST).read_bytes() == BODY


@pytest.mark.fault("a network that fails, stalls or lies")
def test_redirect_without_end_is_one_line(server):
    server.files["/x"] = f"->{server.url}/x".encode()
    assert "redirects without end" in failure(f"{server.url}/x")


@pytest.mark.fault("a network that fails, stalls or lies")
def test_redirect_to_a_local_file_is_refused(server):
    server.files["/x"] = b"->file:///etc/passwd"
    failure(f"{server.url}/x")


@pytest.mark.fault("a network that fails, stalls or lies")
@pytest.mark.parametrize(
    ("status", "said"), [(404, "nothing at that address"), (403, "may not be read"), (401, "login"), (410, "410")]
)
def test_refusal_is_not_tried_again(server, status, said):
    server.answers = [status]
    assert said in failure(f"{server.url}/a.zip")
    assert len(server.requests) == 1
    assert cache_files() == set()


@pytest.mark.fault("a network that fails, stalls or lies")
@pytest.mark.parametrize("status", [500, 503, 429])
def test_server_in_trouble_is_asked_again(server, status):
    server.answers = [status, status]
    assert download.download(f"{server.url}/a.zip", MOST).read_bytes() == BODY


@pytest.mark.fault("a network that fails, stalls or lies")
def test_server_in_lasting_trouble_is_one_line(server):
    server.answers = [503] * 50
    assert "HTTP 503" in failure(f"{server.url}/a.zip")
    assert len(server.requests) == download.ATTEMPTS


@pytest.mark.fault("a network that fails, stalls or lies")
def test_cut_connection_is_continued_where_it_ended(server):
    server.cuts = [300_000, 200_000]
    assert download.download(f"{server.url}/a.zip", MOST).read_bytes() == BODY
    ranges = server.gets("/a.zip")
    assert ranges[0] is None
    assert len(ranges) == 3
    starts = [int(asked.removeprefix("bytes=").rstrip("-")) for asked in ranges[1:]]
    assert 0 < starts[0] < starts[1]
    assert cache_files() == {"a.zip"}


def test_helper_resets_the_connection(server):
    server.cuts, server.resets = [1000], 1
    with socket.create_connection(server.url.removeprefix("http://").split(":")) as client:
        client.sendall(b"GET /a.zip HTTP/1.0\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            while client.recv(1 << 16):
                pass


@pytest.mark.fault("a network that fails, stalls or lies")
def test_reset_connection_is_continued(server):
    server.cuts, server.resets = [300_000, 200_000], 2
    assert download.download(f"{server.url}/a.zip", MOST).read_bytes() == BODY
    assert server.resets == 0 and 3 <= len(server.gets("/a.zip")) <= 4
    assert cache_files() == {"a.zip"}


@pytest.mark.fault("a network that fails, stalls or lies")
@pytest.mark.parametrize("after", [0, 1, 300_000])
def test_connection_that_is_reset_each_time_is_one_line_and_the_next_run_succeeds(server, after):
    server.cuts, server.resets = [after] + [0] * 20, 21
    line = failure(f"{server.url}/a.zip")
    assert "cut" in line and "run again" in line
    assert "a.zip" not in cache_files()
    server.cuts, server.resets = [], 0
    assert download.download(f"{server.url}/a.zip", MOST).read_bytes() == BODY


@pytest.mark.fault("a network that fails, stalls or lies")
def test_next_run_continues_what_the_last_one_began(server):
    server.cuts = [300_000] + [0] * 10
    assert "run again to go on" in failure(f"{server.url}/a.zip")
    assert cache_files() == {"a.zip.part", "a.zip.version"}
    server.cuts, server.requests = [], []
    assert download.download(f"{server.url}/a.zip", MOST).read_bytes() == BODY
    assert server.gets("/a.zip")[0] is not None


@pytest.mark.fault("a network that fails, stalls or lies")
def test_server_that_cannot_continue_is_read_from_the_start(server):
    server.cuts, server.ranges = [300_000], False
    assert download.download(f"{server.url}/a.zip", MOST).read_bytes() == BODY


@pytest.mark.fault("a network that fails, stalls or lies")
def test_file_that_changed_between_two_attempts_is_read_from_the_start(server):
    server.cuts = [300_000] + [0] * 10
    failure(f"{server.url}/a.zip")
    server.cuts, server.etag, server.files["/a.zip"] = [], '"two"', BODY[::-1]
    assert download.download(f"{server.url}/a.zip", MOST).read_bytes() == BODY[::-1]


@pytest.mark.fault("a network that fails, stalls or lies")
def test_file_that_became_shorter_is_read_from_the_start(server):
    server.etag, server.cuts = None, [300_000] + [0] * 10
    failure(f"{server.url}/a.zip")
    server.cuts, server.files["/a.zip"] = [], b"short"
    assert download.download(f"{server.url}/a.zip", MOST).read_bytes() == b"short"


@pytest.mark.fault("a network that fails, stalls or lies")
def test_answer_shorter_than_announced_is_never_taken_for_whole(server):
    server.length = len(BODY) + 1
    failure(f"{server.url}/a.zip")
    assert "a.zip" not in cache_files()


@pytest.mark.fault("a network that fails, stalls or lies")
def test_server_that_sends_without_end_is_left(server):
    assert "fetch.limits.total_bytes" in failure(f"{server.url}/a.zip", most=100_000)
    assert cache_files() <= {"a.zip.version"}


@pytest.mark.fault("a network that fails, stalls or lies")
def test_server_that_stalls_is_one_line():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert "stalls" in failure(f"http://127.0.0.1:{silent.getsockname()[1]}/a.zip")


@pytest.mark.fault("a network that fails, stalls or lies")
def test_no_server_is_one_line():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    assert "no connection" in failure(f"http://127.0.0.1:{port}/a.zip")


@pytest.mark.fault("a network that fails, stalls or lies")
@pytest.mark.parametrize(
    "url",
    [
        "http://host:99999/a.zip",
        "http://[::1/a.zip",
        "http://",
        "https://:80",
        "http://a b/x",
        "http://a..b/x.zip",
        f"http://{'a' * 64}.example/x.zip",
    ],
)
def test_what_is_no_url_is_one_line(url):
    failure(url)
    with pytest.raises(InputError) as caught:
        source.locate(url, MOST, "SOURCE")
    assert "\n" not in str(caught.value)


@pytest.mark.fault("missing, damaged or wrong input between stages")
def test_a_path_too_long_for_any_file_is_one_line():
    with pytest.raises(InputError, match="too long"):
        source.locate("a" * 5000, MOST, "SOURCE")


def test_password_and_query_of_a_url_are_not_shown(server):
    line = failure(f"{server.url.replace('//', '//me:secret@')}/none.zip?token=secret")
    assert "secret" not in line


@pytest.mark.fault("a network that fails, stalls or lies")
def test_full_disk_is_left_to_the_stage_and_leaves_no_part(server, monkeypatch):
    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(download, "_bar", full)
    with pytest.raises(OSError, match="No space"):
        download.download(f"{server.url}/a.zip", MOST)
    assert "a.zip" not in cache_files()
    assert "a.zip.part" not in cache_files()


@pytest.mark.fault("a network that fails, stalls or lies")
def test_two_at_once_download_once(server: Server):
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        paths = list(pool.map(lambda _: download.download(f"{server.url}/a.zip", MOST), range(4)))
    assert {path.read_bytes() for path in paths} == {BODY}
    assert len(server.requests) == 1


def test_relative_cache_folder_is_refused(monkeypatch):
    monkeypatch.setenv("BRAINMRI_CACHE", "cache")
    with pytest.raises(InputError, match="BRAINMRI_CACHE"):
        download.cache()


def test_cache_lies_in_the_users_cache_folder_by_default(monkeypatch):
    monkeypatch.delenv("BRAINMRI_CACHE")
    assert download.cache().name == "brainmri"
    assert Path.home() in download.cache().parents or "XDG_CACHE_HOME" in os.environ
