"""Reading archives: the same members from every form, one clear line for every hostile or broken one."""

from __future__ import annotations

import gzip
import os
import shutil
import stat
import struct
import tarfile
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import archives
import pytest
from archives import FILES, LIMITS, folder, special_tar, special_zip, tarred, zipped
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stages.fetch import tree
from stages.fetch.archive import members
from stages.fetch.extract import unpack
from stages.shell.errors import InputError

MAKERS = {
    "folder": lambda path, files: folder(path, files),
    "zip": lambda path, files: zipped(path, files),
    "zip deflated": lambda path, files: zipped(path, files, zipfile.ZIP_DEFLATED),
    "tar": lambda path, files: tarred(path, files),
    "tar.gz": lambda path, files: tarred(path, files, "w:gz"),
    "tar.bz2": lambda path, files: tarred(path, files, "w:bz2"),
    "tar.xz": lambda path, files: tarred(path, files, "w:xz"),
}


def read(path: Path, limits=LIMITS) -> dict[str, bytes]:
    return {"/".join(parts): b"".join(data) for parts, data in members(path, limits, "source")}


def refusal(path: Path, limits=LIMITS) -> str:
    """Return the one line with which a source is refused."""
    with pytest.raises(InputError) as caught:
        read(path, limits)
    line = str(caught.value)
    assert line.startswith("source: ")
    assert "\n" not in line
    assert line.isprintable()
    assert len(line) < 500
    return line


@pytest.mark.parametrize("form", MAKERS)
@pytest.mark.parametrize("top", ["", "brain-mri/"])
def test_every_form_gives_the_same_files(tmp_path, form, top):
    extra = {
        f"{top}README.txt": b"read me",
        "__MACOSX/Training/cat/._1.jpg": b"mac",
        f"{top}Training/cat/.DS_Store": b"",
    }
    source = MAKERS[form](tmp_path / "source", {f"{top}{name}": data for name, data in FILES.items()} | extra)
    unpack(source, tmp_path / "out", ["cat", "dog"], None, LIMITS, "source")
    out = {
        p.relative_to(tmp_path / "out").as_posix(): p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()
    }
    assert out == FILES


HOSTILE = {
    "../evil.jpg": "leaves the folder",
    "Training/cat/../../../evil.jpg": "leaves the folder",
    "..": "leaves the folder",
    "/etc/cron.d/evil": "absolute",
    "//server/share/evil": "absolute",
    "C:/evil.jpg": "drive letter",
    "c:evil.jpg": "drive letter",
    "Training\\cat\\x.jpg": "backslash",
    "..\\evil.jpg": "backslash",
    "Training/cat/a\nb.jpg": "control character",
    "Training/cat/\x1b[2J.jpg": "control character",
    "Training/cat/a\u2028b.jpg": "control character",
    "Training/cat/" + "x" * 256: "longer than 255",
    "Training/cat/" + "é" * 130: "longer than 255",
}


@pytest.mark.fault("a hostile archive")
@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("make", [zipped, tarred], ids=["zip", "tar"])
def test_hostile_names_are_refused(tmp_path, name, make):
    assert HOSTILE[name] in refusal(make(tmp_path / "a", [("Training/cat/1.jpg", b"1"), (name, b"2")]))


@pytest.mark.fault("a hostile archive")
def test_zip_name_with_a_hidden_rest_is_refused(tmp_path):
    path = zipped(tmp_path / "a", {"Training/cat/1.jpgX..": b"1"})
    path.write_bytes(path.read_bytes().replace(b"jpgX..", b"jpg\0.."))
    assert "control character" in refusal(path) or "damaged" in refusal(path)


@pytest.mark.fault("a hostile archive")
def test_name_that_is_not_utf8_is_refused(tmp_path):
    path = tarred(tmp_path / "a", {"Training/cat/1.jpg": b"1"})
    raw = bytearray(path.read_bytes())
    raw[13] = 0xFF
    raw[148:156] = b"%06o\0 " % (sum(raw[:148]) + 8 * 32 + sum(raw[156:512]))
    path.write_bytes(raw)
    assert "not UTF-8" in refusal(path)


@pytest.mark.fault("a hostile archive")
@pytest.mark.parametrize("make", [zipped, tarred], ids=["zip", "tar"])
@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ("Training/cat/1.jpg", "Training/cat/1.jpg", "there twice"),
        ("Training/cat/1.jpg", "./Training/cat//1.jpg", "there twice"),
        ("Training/cat/1.jpg", "Training/cat/1.JPG", "differ only in case"),
        ("Training/cat/1.jpg", "training/cat/2.jpg", "differ only in case"),
        ("Training/cat/é.jpg", "Training/cat/e\u0301.jpg", "differ only in case or accents"),
        ("Training/cat", "Training/cat/1.jpg", "both file and folder"),
        ("Training/cat/1.jpg", "Training/cat", "both file and folder"),
    ],
)
def test_two_names_for_one_file_are_refused(tmp_path, make, first, second, said):
    assert said in refusal(make(tmp_path / "a", [(first, b"1"), (second, b"2")]))


@pytest.mark.fault("a hostile archive")
@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (tarfile.SYMTYPE, "symbolic link"),
        (tarfile.LNKTYPE, "hard link"),
        (tarfile.CHRTYPE, "device"),
        (tarfile.BLKTYPE, "device"),
        (tarfile.FIFOTYPE, "device or pipe"),
        (tarfile.GNUTYPE_SPARSE, "sparse"),
    ],
)
def test_special_tar_members_are_refused(tmp_path, kind, said):
    assert said in refusal(special_tar(tmp_path / "a", kind))


@pytest.mark.fault("a hostile archive")
@pytest.mark.parametrize(
    ("kind", "said"),
    [(stat.S_IFLNK, "symbolic link"), (stat.S_IFIFO, "pipe"), (stat.S_IFBLK, "device"), (stat.S_IFCHR, "device")],
)
def test_special_zip_members_are_refused(tmp_path, kind, said):
    assert said in refusal(special_zip(tmp_path / "a", kind))


@pytest.mark.fault("a hostile archive")
@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda at: at.symlink_to("/etc/passwd"), "symbolic link"),
        (lambda at: at.symlink_to("/etc", target_is_directory=True), "symbolic link"),
        (lambda at: os.mkfifo(at), "pipe"),
    ],
    ids=["link to file", "link to folder", "pipe"],
)
def test_special_files_in_a_folder_that_an_archive_became_are_refused(tmp_path, make, said):
    source = folder(tmp_path / "a", FILES)
    make(source / "Training" / "cat" / "x.jpg")
    assert said in refusal(source)


@pytest.mark.parametrize("whole", [False, True], ids=["files", "folders"])
def test_links_in_a_persons_own_folder_are_followed(tmp_path, whole):
    pool, source = folder(tmp_path / "pool", FILES), tmp_path / "own"
    for name in dict.fromkeys(Path(name).parent for name in FILES) if whole else map(Path, FILES):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).symlink_to(pool / name)
    hashes = unpack(source, tmp_path / "out", ["cat", "dog"], None, LIMITS, "source", links=True)
    assert hashes == tree.hashes_of(pool)
    assert not any(path.is_symlink() for path in (tmp_path / "out").rglob("*"))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda at: at.symlink_to("nowhere.jpg"), "link 'Training/cat/x' -> 'nowhere.jpg' leads nowhere"),
        (lambda at: at.symlink_to("x"), "link 'Training/cat/x' -> 'x' leads nowhere"),
        (lambda at: at.symlink_to("../1.jpg/a"), "leads nowhere"),
        (lambda at: at.symlink_to(".."), "link 'Training/cat/x' -> '..' leads to a folder around it"),
        (lambda at: at.symlink_to("/dev/zero"), "is a device"),
        (os.mkfifo, "is a pipe"),
    ],
    ids=["nowhere", "itself", "no folder", "a loop", "a device", "a pipe"],
)
def test_links_that_lead_to_no_file_are_named(tmp_path, make, said):
    source = folder(tmp_path / "a", FILES)
    make(source / "Training" / "cat" / "x")
    with pytest.raises(InputError) as caught:
        unpack(source, tmp_path / "out", ["cat", "dog"], None, LIMITS, "source", links=True)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_backslashes_in_a_zip_are_refused_with_the_way_out(tmp_path):
    source = zipped(tmp_path / "a.zip", {name.replace("/", "\\"): data for name, data in FILES.items()})
    assert "has a backslash; `unzip` the archive, which mends that, and give the folder" in refusal(source)


@pytest.mark.fault("a hostile archive")
def test_name_in_a_folder_that_is_not_utf8_is_refused(tmp_path):
    source = folder(tmp_path / "a", FILES)
    Path(os.fsdecode(os.fsencode(source) + b"/Training/cat/\xff.jpg")).write_bytes(b"1")
    assert "not UTF-8" in refusal(source)


@pytest.mark.fault("a hostile archive")
def test_endless_folders_are_refused(tmp_path):
    deep = tmp_path / "a"
    for _ in range(110):
        deep /= "x"
    deep.mkdir(parents=True)
    assert "inside one another" in refusal(tmp_path / "a")


@pytest.mark.fault("a hostile archive")
def test_file_that_vanishes_while_a_folder_is_read_is_one_line(tmp_path):
    source = folder(tmp_path / "a", FILES)
    with pytest.raises(InputError, match="cannot be read"):
        for _, data in members(source, LIMITS, "source"):
            shutil.rmtree(source / "Testing" / "cat", ignore_errors=True)
            b"".join(data)


@pytest.mark.fault("a hostile archive")
def test_encrypted_member_is_refused(tmp_path):
    path = zipped(tmp_path / "a", {"Training/cat/1.jpg": b"1"})
    raw = bytearray(path.read_bytes())
    raw[6] |= 1
    raw[raw.find(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(raw)
    assert "encrypted" in refusal(path)


@pytest.mark.fault("a hostile archive")
@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compression_without_bound_on_memory_is_refused(tmp_path, method):
    assert "compression method" in refusal(zipped(tmp_path / "a", FILES, method))


@pytest.mark.fault("a cut or damaged archive")
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_wrong_checksum_is_found(tmp_path, method):
    path = zipped(tmp_path / "a", {"Training/cat/1.jpg": os.urandom(5000)}, method)
    raw = bytearray(path.read_bytes())
    raw[2500] ^= 1
    path.write_bytes(raw)
    assert "get it again" in refusal(path)


@pytest.mark.fault("a cut or damaged archive")
@pytest.mark.parametrize("form", [form for form in MAKERS if form != "folder"])
@pytest.mark.parametrize("tenth", range(10))
def test_cut_archive_is_found(tmp_path, form, tenth):
    files = {name: os.urandom(700) for name in FILES}
    raw = MAKERS[form](tmp_path / "a", files).read_bytes()
    cut = tmp_path / "cut"
    # a plain tar ends in zeros, of which a reader needs one block
    used = len(raw.rstrip(b"\0")) if form == "tar" else len(raw)
    cut.write_bytes(raw[: used * tenth // 10])
    refusal(cut)


@pytest.mark.fault("a cut or damaged archive")
def test_tar_cut_between_two_members_is_found(tmp_path):
    raw = tarred(tmp_path / "a", {"Training/cat/1.jpg": b"1", "Training/cat/2.jpg": b"2"}).read_bytes()
    (tmp_path / "cut").write_bytes(raw[:1024])
    assert "ends too early" in refusal(tmp_path / "cut")


@pytest.mark.fault("a cut or damaged archive")
def test_tar_damaged_in_a_header_is_found(tmp_path):
    path = tarred(tmp_path / "a", {"Training/cat/1.jpg": b"1", "Training/cat/2.jpg": b"2"})
    raw = bytearray(path.read_bytes())
    raw[1024 + 20] ^= 1
    path.write_bytes(raw)
    assert "damaged" in refusal(path)


@pytest.mark.fault("a hostile archive")
@pytest.mark.parametrize(
    ("form", "limit", "value"),
    [
        (form, limit, value)
        for form in MAKERS
        for limit, value in [("members", 4), ("total_bytes", 2000), ("file_bytes", 500), ("ratio", 2.0)]
        if not (limit == "ratio" and form in ("folder", "zip", "tar"))
    ],
)
def test_each_limit_holds_and_is_named(tmp_path, form, limit, value):
    files = {name: (data * 20)[:700] for name, data in FILES.items()}
    source = MAKERS[form](tmp_path / "a", files)
    assert read(source) == files
    assert f"fetch.limits.{limit}" in refusal(source, LIMITS.model_copy(update={limit: value}))


@pytest.mark.fault("a hostile archive")
@pytest.mark.parametrize("form", ["zip deflated", "tar.gz", "tar.bz2", "tar.xz"])
def test_bomb_is_refused_in_little_memory(tmp_path, form):
    path = MAKERS[form](tmp_path / "a", {"Training/cat/1.jpg": bytes(60_000_000)})
    limits = LIMITS.model_copy(update={"total_bytes": 10**12, "file_bytes": 10**12})
    tracemalloc.start()
    assert "fetch.limits.ratio" in refusal(path, limits)
    assert tracemalloc.get_traced_memory()[1] < 20_000_000  # bytes; the dictionary of xz -6 alone has 8 MiB
    tracemalloc.stop()


@pytest.mark.fault("a hostile archive")
@pytest.mark.parametrize("form", ["tar.gz", "tar.bz2", "tar.xz"])
def test_bomb_that_nobody_reads_is_refused_too(tmp_path, form):
    path = MAKERS[form](tmp_path / "a", {"README": bytes(900_000), "Training/cat/1.jpg": b"1"})
    with pytest.raises(InputError, match=r"fetch\.limits\.ratio"):
        list(members(path, LIMITS, "source"))


@pytest.mark.fault("a hostile archive")
def test_zip_that_lies_about_a_size_gives_no_more_than_it_declares(tmp_path):
    path = zipped(tmp_path / "a", {"Training/cat/1.jpg": bytes(100_000)}, zipfile.ZIP_DEFLATED)
    raw = bytearray(path.read_bytes())
    raw[22:26] = struct.pack("<I", 10)
    at = raw.find(b"PK\x01\x02") + 24
    raw[at : at + 4] = struct.pack("<I", 10)
    path.write_bytes(raw)
    assert "get it again" in refusal(path)


@pytest.mark.fault("a hostile archive")
def test_members_that_overlap_are_refused(tmp_path):
    names = [(f"Training/cat/{number:04}.jpg", b"") for number in range(300)]
    path = zipped(tmp_path / "a", [("Training/cat/bomb", bytes(90_000)), *names], zipfile.ZIP_DEFLATED)
    with zipfile.ZipFile(path) as archive:
        first = archive.infolist()[0]
    raw = bytearray(path.read_bytes())
    at = raw.find(b"PK\x01\x02")
    while at >= 0:  # every entry of the directory points to the first member's bytes
        raw[at + 16 : at + 28] = struct.pack("<III", first.CRC, first.compress_size, first.file_size)
        raw[at + 42 : at + 46] = struct.pack("<I", 0)
        at = raw.find(b"PK\x01\x02", at + 4)
    path.write_bytes(raw)
    refusal(path)


@pytest.mark.fault("a hostile archive")
def test_too_many_members_are_refused_before_zipfile_reads_their_names(tmp_path, monkeypatch):
    path = zipped(tmp_path / "a", [(f"Training/cat/{number}", b"") for number in range(3000)])
    monkeypatch.setattr(zipfile, "ZipFile", None)
    assert "fetch.limits.members" in refusal(path)


MEMBERS = 100_000


@pytest.fixture(scope="module", params=["zip", "tar"])
def crowd(request, tmp_path_factory) -> Path:
    """An archive of 100,000 files."""
    return archives.many(tmp_path_factory.mktemp("crowd") / "a", MEMBERS, request.param)


@pytest.mark.fault("a hostile archive")
def test_an_archive_of_100_000_members_is_read_within_the_limits(crowd):
    limits = LIMITS.model_copy(update={"members": MEMBERS, "total_bytes": 10**9})
    assert sum(len(b"".join(data)) for _, data in members(crowd, limits, "source")) == MEMBERS


@pytest.mark.fault("a hostile archive")
@pytest.mark.parametrize("most", [MEMBERS - 1, 1000])
def test_an_archive_of_100_000_members_is_refused_beyond_the_limit(crowd, most):
    with pytest.raises(InputError, match=f"more than {most:,} members.*fetch\\.limits\\.members"):
        for _, data in members(crowd, LIMITS.model_copy(update={"members": most, "total_bytes": 10**9}), "source"):
            b"".join(data)


@pytest.mark.fault("a hostile archive")
def test_extended_header_that_declares_gigabytes_is_refused(tmp_path):
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 4 << 30
    (tmp_path / "a").write_bytes(info.tobuf() + bytes(100_000))
    assert "header" in refusal(tmp_path / "a")


@pytest.mark.fault("a hostile archive")
def test_thousands_of_chained_headers_are_refused(tmp_path):
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 4
    (tmp_path / "a").write_bytes((info.tobuf(tarfile.GNU_FORMAT) + b"abc\0".ljust(512, b"\0")) * 5000 + bytes(1024))
    refusal(tmp_path / "a")


@pytest.mark.fault("a hostile archive")
def test_xz_that_asks_for_gigabytes_of_memory_is_refused(tmp_path):
    path = tarred(tmp_path / "a", FILES, "w:xz")
    raw = bytearray(path.read_bytes())
    end = 12 + (raw[12] + 1) * 4 - 4  # of the block header, after which its CRC stands
    raw[16] = 40  # the dictionary's size, in xz's own scale: 4 GiB - 1
    raw[end : end + 4] = struct.pack("<I", zlib.crc32(raw[12:end]))
    path.write_bytes(raw)
    assert "Memory" in refusal(path)


@pytest.mark.fault("a hostile archive")
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><title>Log in</title>", "web page"),
        (b"\x89PNG\r\n\x1a\n", "no archive"),
        (b"PK\x05\x06", "damaged"),
        (b"PK", "damaged"),
        (b"\x1f\x8b", "too early"),
        (b"\x1f\x8bxxxxxxxxxxx", "Unknown compression"),
        (b"BZh9" + bytes(100), "Invalid data"),
        (b"\xfd7zXZ\x00", "too early"),
    ],
)
def test_what_is_no_archive_is_said(tmp_path, content, said):
    (tmp_path / "a").write_bytes(content)
    assert said in refusal(tmp_path / "a")


@pytest.mark.fault("a hostile archive")
def test_gzip_of_something_else_than_a_tar_is_refused(tmp_path):
    (tmp_path / "a").write_bytes(gzip.compress(b"just text" * 100))
    assert "damaged" in refusal(tmp_path / "a")


@pytest.mark.fault("a hostile archive")
def test_nested_archive_is_a_file_like_any_other(tmp_path):
    inner = zipped(tmp_path / "inner", {"../evil": b"1"}).read_bytes()
    assert read(zipped(tmp_path / "a", {"Training/cat/inner.zip": inner})) == {"Training/cat/inner.zip": inner}


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict[str, bytes]:
    at = tmp_path_factory.mktemp("fuzz")
    return {
        form: make(at / form.replace(" ", "-"), FILES).read_bytes() for form, make in MAKERS.items() if form != "folder"
    }


@pytest.mark.fault("a cut or damaged archive")
@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
@given(
    form=st.sampled_from([form for form in MAKERS if form != "folder"]),
    changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=6),
    cut=st.floats(0.5, 1),
)
def test_damage_anywhere_gives_one_line_or_safe_names(tmp_path, whole, form, changes, cut):
    raw = bytearray(whole[form])
    for where, value in changes:
        raw[int(where * len(raw))] = value
    path = tmp_path / "damaged"
    path.write_bytes(raw[: int(len(raw) * cut)] if cut < 0.9 else raw)
    try:
        names = read(path)
    except InputError as error:
        assert "\n" not in str(error)
    else:
        assert all(".." not in name.split("/") and not name.startswith("/") for name in names)


def test_helpers_write_what_they_say(tmp_path):
    assert read(folder(tmp_path / "a", FILES)) == archives.FILES
    few = {f"Training/cat/{number:06d}.jpg": b"x" for number in range(3)}
    for form in ("zip", "tar"):
        assert read(archives.many(tmp_path / form, 3, form)) == few
