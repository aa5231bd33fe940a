"""`brainmri serve`: predict's own answers over loopback, to whoever may ask; hostile uploads are a line each."""

from __future__ import annotations

import asyncio
import base64
import csv
import io
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from conftest import ROOT
from page_server import Page, ask, served
from PIL import Image

pytest.importorskip("aiohttp", reason="needs the extra `serve`")
requests = pytest.importorskip("requests")

from commands.__main__ import main  # noqa: E402
from commands.predict.inputs import File, Unreadable  # noqa: E402
from commands.predict.output import NOTICE  # noqa: E402
from commands.serve import readers, series, uploads  # noqa: E402
from stages.prepare.schema import Prepare  # noqa: E402
from stages.report.gradcam import SIDE, STRENGTH  # noqa: E402

PREPARE = Prepare(crop=False, crop_threshold=0.1, max_pixels=1_000_000)
CORPUS = sorted(path for kind in ("image", "dicom") for path in (ROOT / "tests/faults/corpus" / kind).iterdir())


@pytest.fixture(scope="module")
def page(tiny_study: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with served(tiny_study, tmp_path_factory.mktemp("page")) as found:
        yield found


@pytest.fixture(scope="module")
def images(tiny_study: Path) -> list[tuple[str, bytes]]:
    folder = tiny_study / "data/raw/Testing"
    return [(str(path), path.read_bytes()) for path in sorted(folder.glob("*/*"))]


def predicted(capsys: pytest.CaptureFixture[str], tiny_study: Path, *words: object) -> str:
    main(["predict", *map(str, words), "--study", str(tiny_study), "--csv"])
    return capsys.readouterr().out


def memory(process: int) -> int:
    """Return the bytes that a process and all that it started hold for themselves."""
    family, found = [process], 0
    for each in family:
        for task in Path(f"/proc/{each}/task").iterdir():
            family += map(int, (task / "children").read_text().split())
        found += int(Path(f"/proc/{each}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return found


def test_answers_are_those_of_predict_to_the_byte(page, images, tiny_study, capsys):
    said = [each for start in range(0, len(images), 20) for each in ask(page.url, images[start : start + 20])]
    heading = requests.get(f"{page.url}study", timeout=30).json()["heading"]
    assert heading + "".join(each["row"] for each in said) == predicted(
        capsys, tiny_study, tiny_study / "data/raw/Testing"
    )
    assert {each["copy_kind"] for each in said} >= {"byte"} and len(said) == len(images) > 20


def test_several_people_at_once_have_the_answers_that_each_has_alone(page, images):
    alone = {name: ask(page.url, [(name, data)])[0]["row"] for name, data in images[:16]}
    with ThreadPoolExecutor(8) as people:
        together = list(people.map(lambda each: ask(page.url, [each])[0]["row"], images[:16] * 2))
    assert together == [alone[name] for name, _ in images[:16] * 2]


def test_each_frame_has_an_answer_and_says_where_it_belongs(page, images):
    frames = [Image.open(io.BytesIO(data)).convert("L") for _, data in images[:3]]
    out = io.BytesIO()
    frames[0].save(out, "TIFF", save_all=True, append_images=frames[1:])
    said = ask(page.url, [("many.tiff", out.getvalue()), images[0]])
    assert [each["frame"] for each in said] == [1, 2, 3, None]
    assert [each["place"]["series"] == said[0]["place"]["series"] for each in said] == [True, True, True, False]
    assert said[-1]["place"]["series"] == ""


def test_the_heat_map_laid_over_with_the_usual_strength_is_that_of_predict(page, images, tiny_study, tmp_path):
    name, data = images[0]
    (said,) = ask(page.url, [(name, data)])
    seen = np.frombuffer(base64.b64decode(said["seen"]), np.uint8).reshape(32, 32)
    given = requests.post(f"{page.url}heat", params={"class": said["predicted"]}, data=seen.tobytes(), timeout=30)
    heat = np.asarray(Image.open(io.BytesIO(given.content)), float)
    main(["predict", name, "--study", str(tiny_study), "--gradcam", str(tmp_path)])
    with Image.open(tmp_path / f"{Path(name).name}.png") as picture:
        both = np.asarray(picture, float)
    share = heat[..., 3:] / 255 * STRENGTH
    assert np.abs(both[:, :SIDE] * (1 - share) + heat[..., :3] * share - both[:, SIDE:]).max() <= 2
    assert heat[..., 3].max() > 150


@pytest.mark.parametrize("body", [b"", b"x" * 1023, b"x" * 1025])
def test_a_heat_map_of_what_the_network_cannot_see_is_refused(page, body):
    given = requests.post(f"{page.url}heat", params={"class": "glioma"}, data=body, timeout=30)
    assert given.status_code == 400 and given.text.count("\n") == 1
    whole = requests.post(f"{page.url}heat", params={"class": "nothing"}, data=b"x" * 1024, timeout=30)
    assert whole.status_code == 400


def test_training_images_alone_can_be_looked_at(page, images, tiny_study):
    (said,) = ask(page.url, images[:1])
    shown = requests.get(f"{page.url}training", params={"path": said["nearest"]}, timeout=30)
    assert shown.headers["Content-Type"] == "image/jpeg" and Image.open(io.BytesIO(shown.content)).size == (384, 384)
    outside = ["", "../manifest.csv", "/etc/passwd", str(tiny_study / "data/raw" / said["nearest"]), "Training"]
    for path in outside:
        assert requests.get(f"{page.url}training", params={"path": path}, timeout=30).status_code == 404


def test_only_the_page_s_own_files_are_given(page):
    for path in ("app.py", "../app.py", "page/page.js", "%2e%2e/app.py", "static/", "favicon.ico"):
        assert requests.get(page.url + path, timeout=30).status_code == 404


def asked(url: str, **headers: str) -> requests.Response:
    return requests.get(url, headers={key.replace("_", "-"): value for key, value in headers.items()}, timeout=30)


def test_other_hosts_and_other_pages_are_refused_in_a_line(page):
    port = urlsplit(page.url).port
    for host in (f"localhost:{port}", "127.0.0.1", f"[::1]:{port}", "LOCALHOST:1"):
        assert asked(page.url, Host=host).status_code == 200
    for host in (
        f"evil.example:{port}",
        "10.0.0.1",
        "localhost.evil.example",
        "[::2]",
        "[",
        "",
        "127.0.0.1@evil.example",
    ):
        refused = asked(page.url, Host=host)
        assert refused.status_code in (400, 403) and "\n" not in refused.text.strip(), host
    own = page.url.rstrip("/")
    for path, headers, status in (
        ("study", {"Origin": own, "Sec_Fetch_Site": "same-origin"}, 200),
        ("study", {"Origin": "https://evil.example"}, 403),
        ("study", {"Origin": "null"}, 403),
        ("study", {"Sec_Fetch_Site": "cross-site"}, 403),
        ("study", {"Sec_Fetch_Site": "same-site"}, 403),
        ("", {"Sec_Fetch_Site": "cross-site"}, 200),  # a link leads to the page; it may not ask in its place
    ):
        assert asked(page.url + path, **headers).status_code == status, (path, headers)


@pytest.mark.parametrize("path", ["", "study", "training?path=x", "nowhere"])
def test_every_answer_binds_the_browser(page, path):
    headers = asked(page.url + path).headers
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
    assert headers["Cache-Control"] == "no-store" and headers["X-Content-Type-Options"] == "nosniff"
    assert "Set-Cookie" not in headers and "aiohttp" not in headers["Server"]


def test_beyond_loopback_a_token_is_asked_for(tiny_study, tmp_path):
    with served(tiny_study, tmp_path / "open", "--host", "0.0.0.0") as found:
        where = urlsplit(found.url)
        url, token = f"http://127.0.0.1:{where.port}/", where.query.removeprefix("token=")
        assert len(token) >= 32
        for wrong in (url, f"{url}?token=", f"{url}?token={token[:-1]}", f"{url}study?token={token}"):
            refused = asked(wrong)
            assert refused.status_code == 401 and "token" in refused.text and refused.text.count("\n") == 1
        assert asked(url, Cookie=f"brainmri-{where.port}=\xff").status_code == 401
        person = requests.Session()
        first = person.get(f"{url}?token={token}", timeout=30)
        assert first.url == url and first.status_code == 200  # the token does not stay in the address
        cookie = first.history[0].headers["Set-Cookie"]
        assert "HttpOnly" in cookie and "SameSite=Lax" in cookie
        assert cookie.startswith(f"brainmri-{where.port}="), "another server of this host has another"
        assert person.get(f"{url}study", timeout=30).status_code == 200
        assert person.get(f"{url}study", headers={"Host": "evil.example"}, timeout=30).status_code == 403


def forms() -> list[tuple[str, bytes]]:
    """Return (kind, body) of requests that are not as the page sends them."""
    edge = b'--x\r\nContent-Disposition: form-data; name="names"\r\n\r\n'
    file = b'\r\n--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nabc\r\n--x--\r\n'
    form = "multipart/form-data; boundary=x"
    return [
        ("text/plain", b"hello"),
        ("application/x-www-form-urlencoded", b"a=b"),
        ("multipart/form-data", b"no boundary"),
        ("multipart/form-data; boundary=" + "y" * 100, b""),
        ("multipart/mixed; boundary=x", edge + b"[]" + file),
        (form, b""),
        (form, b"--x--\r\n"),
        (form, edge + b"{" + file),
        (form, edge + b"[]" + file),
        (form, edge + b"{}" + file),
        (form, edge + b"[1]" + file),
        (form, edge + b'[""]' + file),
        (form, edge + b"\xff\xfe" + file),
        (form, edge + b"[" * 5000 + file),
        (form, edge + json.dumps(["a" * 3000]).encode() + file),
        (form, edge + json.dumps(["a"] * 65).encode() + file),
        (form, edge + b'["a", "b"]' + file),  # fewer files than names
        (form, edge + b'"' + b"a" * 1_100_000 + b'"' + file),
        (form, b"--x\r\nContent-Type: multipart/mixed; boundary=z\r\n\r\n--z\r\n\r\n[]\r\n--z--\r\n--x--\r\n"),
    ]


@pytest.mark.parametrize("place", range(len(forms())))
def test_a_request_that_is_none_of_the_page_s_is_one_line(page, place):
    kind, body = forms()[place]
    given = requests.post(f"{page.url}ask", data=body, headers={"Content-Type": kind}, timeout=60)
    lines = given.text.strip().splitlines()
    assert given.status_code == 400 and len(lines) == 1 and "Traceback" not in given.text, given.text


NAMES = ["../../etc/passwd", "/etc/shadow", "<script>alert(1)</script>.png", "a\nb.png", "\x1b[31m.dcm", "x" * 2000,
         "\ud800.png", "CON", "..", "=1+1|cmd.png"]  # fmt: skip


def test_a_hundred_hostile_uploads_are_a_line_each_and_memory_stays_flat(page, images):
    hostile = [(path.name, path.read_bytes()) for path in CORPUS]
    hostile += [(name, b"not an image") for name in NAMES] + [("huge name.dcm", b"\0" * 300_000)]
    assert len(hostile) >= 100

    def once() -> int:
        for file in hostile:
            for found in ask(page.url, [file]):
                assert found["path"] == file[0]
                assert "row" in found or ("\n" not in found["reason"] and 0 < len(found["reason"]) <= 300), found
        return memory(page.process)

    first = once()
    held = [once() for _ in range(2)]
    assert max(held) < first + 60_000_000, (first, held)
    assert "row" in ask(page.url, images[:1])[0]
    assert "Traceback" not in page.said.read_text()


def test_a_person_who_leaves_in_the_middle_disturbs_nobody(page, images):
    where = urlsplit(page.url)
    for cut in (60, 400, 5000):
        with socket.create_connection((where.hostname, where.port)) as line:
            head = f"POST /ask HTTP/1.1\r\nHost: {where.netloc}\r\nContent-Type: multipart/form-data; boundary=x\r\n"
            body = b'--x\r\nContent-Disposition: form-data; name="names"\r\n\r\n["a"]\r\n--x\r\n\r\n' + images[0][1]
            line.sendall((head + "Content-Length: 9999999\r\n\r\n").encode() + body[:cut])
    big = [images[place % len(images)] for place in range(60)]
    with pytest.raises(requests.RequestException):
        requests.post(f"{page.url}ask", files=[("names", (None, json.dumps([n for n, _ in big])))]
                      + [("file", ("file", data)) for _, data in big], timeout=(5, 0.05))  # fmt: skip
    assert "row" in ask(page.url, images[:1])[0]
    assert "Traceback" not in page.said.read_text()


def test_nothing_is_left_on_disk_and_nobody_else_was_called(page, images):
    ask(page.url, images[:4])
    left = [path for path in page.scratch.rglob("*") if path.is_file()]
    open_files = [str(path.readlink()) for path in Path(f"/proc/{page.process}/fd").iterdir()]
    assert left == [] and not any("memfd" in path for path in open_files)
    assert page.calls.read_text() == ""


def receive(requests_of: list[list[tuple[str, bytes]]], **limits: int) -> list[list[object]]:
    """Return what is received of each request, one after another, by a server with other limits."""
    import aiohttp
    from aiohttp import web
    from aiohttp.test_utils import TestClient, TestServer

    desk, found = uploads.Uploads(), []

    async def take(request: web.Request) -> web.Response:
        async with desk.received(request) as files:
            found.append([each if isinstance(each, Unreadable) else each.file().path.read_bytes() for each in files])
        return web.Response()

    async def run() -> None:
        app = web.Application()
        app.router.add_post("/", take)
        async with TestClient(TestServer(app)) as client:
            for files in requests_of:
                form = aiohttp.FormData()
                form.add_field("names", json.dumps([name for name, _ in files]))
                for _, data in files:
                    form.add_field("file", data, filename="file")
                assert (await client.post("/", data=form)).status == 200
        assert desk.held == 0

    with pytest.MonkeyPatch.context() as patch:
        for name, value in limits.items():
            patch.setattr(uploads, name, value)
        asyncio.run(run())
    return found


def test_a_file_over_a_limit_is_one_line_and_the_others_are_taken():
    files = [("a", b"1" * 100), ("b", b"2" * 200_000), ("c", b"3" * 100), ("d", b"4" * 90_000)]
    (found,) = receive([files], MAX_BYTES=150_000)
    assert found == [b"1" * 100, Unreadable("b", "larger than 150,000 bytes"), b"3" * 100, b"4" * 90_000]
    (found,) = receive([files], HELD=150_000)
    assert found[0] == b"1" * 100 and "try again" in found[1].reason and found[3] == b"4" * 90_000
    assert receive([files, files])[1] == [data for _, data in files]


def crash(*_: object) -> None:
    os._exit(11)


def sleep(*_: object) -> None:
    time.sleep(60)


def end_while_answering(*_: object) -> bytes:
    def end_in_its_write() -> None:
        while Path(f"/proc/self/task/{os.getpid()}/syscall").read_text().split()[0] not in ("1", "64"):  # x86, ARM
            time.sleep(0.001)
        os._exit(11)

    threading.Thread(target=end_in_its_write).start()
    return bytes(500_000_000)


@pytest.mark.parametrize(
    ("work", "seconds", "line"),
    [
        (crash, 60, "its decoder crashed on it"),
        (end_while_answering, 60, "its decoder crashed on it"),
        (sleep, 2, "not decoded within 2 s"),
    ],
)
def test_a_decoder_that_crashes_or_stands_still_is_one_line_and_replaced(monkeypatch, tmp_path, work, seconds, line):
    monkeypatch.setenv("BRAINMRI_WORKERS", "1")
    Image.new("L", (40, 40), 9).save(tmp_path / "a.png")
    file = File(tmp_path / "a.png", "a.png")

    async def run() -> list[readers.Read]:
        pool = readers.Readers(32, PREPARE)
        try:
            await pool.read(file)  # its process has loaded what it needs
            with monkeypatch.context() as patch:
                patch.setattr(readers, "read_upload", work)
                patch.setattr(readers, "SECONDS", seconds)
                failed = await pool.read(file)
            return [failed, await pool.read(file)]
        finally:
            pool.close()

    before = threading.active_count()
    failed, good = asyncio.run(run())
    assert failed.found == [Unreadable(str(file.path), line)]
    assert good.found[0].shown.startswith(b"\xff\xd8")
    until = time.monotonic() + 20
    while threading.active_count() > before and time.monotonic() < until:
        time.sleep(0.1)
    assert threading.active_count() <= before


def dicom(**values: object) -> bytes:
    pydicom = pytest.importorskip("pydicom")
    file = pydicom.Dataset()
    file.file_meta = pydicom.dataset.FileMetaDataset()
    file.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    for name, value in values.items():
        setattr(file, name, value)
    out = io.BytesIO()
    pydicom.dcmwrite(out, file, enforce_file_format=False)
    return out.getvalue()


def test_a_dicom_series_is_ordered_along_its_normal_and_tells_nothing_of_its_patient():
    across = {"ImageOrientationPatient": [0, 1, 0, 0, 0, -1], "SeriesInstanceUID": "1.2", "PatientID": "Jane Doe"}
    found = [
        series.place(dicom(**across, ImagePositionPatient=[x, 3, 9], InstanceNumber=7 - n), "a.dcm", "d", 1)
        for n, x in enumerate((-5.0, 2.5, 40.0))
    ]
    gaps = np.diff([each.position for each in found])
    assert np.allclose(np.abs(gaps), [7.5, 37.5]) and len(set(np.sign(gaps))) == 1
    assert len({each.series for each in found}) == 1 and len({each.patient for each in found}) == 1
    assert "Jane" not in repr(found) and found[0].patient
    other = series.place(dicom(**across | {"PatientID": "Joe"}, InstanceNumber=3), "a.dcm", "d", 1)
    assert other.patient != found[0].patient and other.position == 3
    assert series.place(dicom(InstanceNumber=2), "a.dcm", "d", 1) == series.Place(series="d", position=2)
    assert series.place(b"\0" * 132 + b"DICM" + b"\xff" * 40, "a.dcm", "d", 1).patient == ""


def test_faults_at_the_start_are_one_line_and_load_nothing(tmp_path, capsys, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert main(["serve", "--study", str(tmp_path), "--port", port]) == 1
    assert f"cannot listen on 127.0.0.1, port {port}" in capsys.readouterr().err
    for words, said in (
        (["--port", "70000"], "--port 70000: expected a number from 0 to 65535"),
        (["--host", "256.1.1.1", "--port", "0"], "cannot listen on 256.1.1.1"),
        (["--host", "127..0.1", "--port", "0"], "cannot listen on 127..0.1"),
        (["--port", "0"], "predictor.json not found"),
    ):
        assert main(["serve", "--study", str(tmp_path), *words]) == 1
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1
    monkeypatch.setattr("commands.serve.find_spec", lambda name: None)
    assert main(["serve"]) == 1
    assert "aiohttp is not installed: run `make env`" in capsys.readouterr().err


def test_the_page_names_nothing_from_elsewhere_and_says_what_it_is_not():
    text = "".join(path.read_text() for path in (ROOT / "commands/serve/page").iterdir())
    addresses = {word for word in text.replace('"', " ").replace("'", " ").split() if "//" in word and ":" in word}
    assert addresses <= {"http://www.w3.org/2000/svg", "xmlns=http://www.w3.org/2000/svg"}
    assert "innerHTML" not in text and "insertAdjacentHTML" not in text and "eval(" not in text
    page = (ROOT / "commands/serve/page/index.html").read_text()
    assert NOTICE.partition(":")[0] in page and "may not be used to\n  treat anyone" in page


def test_a_table_of_answers_can_be_read_back(page, images):
    said = ask(page.url, [('a,"b\r\n.png', images[0][1])])
    (row,) = csv.reader(io.StringIO(said[0]["row"], newline=""))
    assert row[0] == 'a,"b\r\n.png' and row[2] == said[0]["predicted"]
