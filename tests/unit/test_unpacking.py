"""Hostile archives: nothing is written outside of the fresh directory, and each is refused in words, soon and small."""

from __future__ import annotations

import gzip
import io
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from local_test.control_plane.headers import Archive
from local_test.control_plane.unpacking import BadArchive, Limits, unpack
from tests.conftest import ROOT
from tests.pace import slowness

MIB = 1 << 20
OUT = "/tmp/unpacked-outside"  # noqa: S108 - where nothing must come to be


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", mode: int = 0o644) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, link, mode
    info.size = 4 if kind == tarfile.REGTYPE else 0
    return info


def tar(*members: tarfile.TarInfo) -> bytes:
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as archive:
        for one in members:
            archive.addfile(one, io.BytesIO(b"x" * one.size))
    return whole.getvalue()


def gz(*members: tarfile.TarInfo) -> bytes:
    return gzip.compress(tar(*members), 1)


def look(content: bytes) -> None:
    """Unpack it, and keep nothing."""
    with tempfile.TemporaryDirectory() as directory:
        unpack(io.BytesIO(content), Path(directory) / "fresh")


def zeros(size: int) -> bytes:
    """A file of nothing but zeros, zipped in pieces."""
    header = member("zeros")
    header.size = size
    return gzip.compress(header.tobuf()) + gzip.compress(bytes(32 * MIB), 1) * (size // (32 * MIB))


def many(count: int) -> bytes:
    """So many members, of which the first 11,000 have names of their own."""
    own = b"".join(member(f"f{number}", tarfile.DIRTYPE).tobuf() for number in range(11_000))
    return gzip.compress(own, 1) * (count // 11_000)


def claiming(size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    """A header that says that it has so many bytes."""
    header = member("large")
    header.type, header.size = kind, size
    return gzip.compress(header.tobuf(tarfile.GNU_FORMAT) + bytes(10 * MIB))


def sparse() -> bytes:
    header = bytearray(member("holes").tobuf(tarfile.GNU_FORMAT))
    header[156:157] = tarfile.GNUTYPE_SPARSE
    header[483:495] = b"77777777777\0"  # its real size
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return gzip.compress(bytes(header) + bytes(2048))


def pax(**fields: str) -> bytes:
    """A file whose extended header overrides its plain one."""
    info = member("plain")
    info.pax_headers = fields
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(info, io.BytesIO(b"xxxx"))
    return gzip.compress(whole.getvalue())


def extended(kind: bytes, said: bytes) -> bytes:
    """A header of this kind that says this of the next one, or of all."""
    header = member("././@LongLink")
    header.type, header.size = kind, len(said)
    return header.tobuf(tarfile.GNU_FORMAT) + said + bytes(-len(said) % 512)


def record(name: str, value: str) -> bytes:
    """A record of an extended header, which begins with its own length."""
    rest = f" {name}={value}\n".encode()
    length = len(rest) + 1
    while len(str(length)) + len(rest) != length:
        length = len(str(length)) + len(rest)
    return str(length).encode() + rest


def headers_of_headers(kind: bytes) -> bytes:
    return gzip.compress(extended(kind, record("a", "b")) * 2000 + tar(member("a")), 1)


def said_for_all() -> bytes:
    """100,000 names with one header, for each of a hundred members: 13 MB each, and 200 kB in all."""
    said = b"".join(record(f"{number:x}", "") for number in range(100_000))[: MIB - 100]
    return gzip.compress(
        extended(tarfile.XGLTYPE, said[: said.rindex(b"\n") + 1]) + tar(*map(member, map(str, range(100)))), 1
    )


def said_of_each() -> bytes:
    """A comment of a megabyte for each of forty members."""
    said = extended(tarfile.XHDTYPE, record("comment", "x" * 1_000_000))
    return gzip.compress(b"".join(said + member(str(n), tarfile.DIRTYPE).tobuf() for n in range(40)), 1)


def holes() -> bytes:
    """A sparse file with a list of a million holes, of the kind that has it before its content."""
    fields = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "x", "GNU.sparse.realsize": "5"}
    content = b"1000000000\n" + b"0\n" * 1_000_000
    header = member("f")
    header.size = len(content)
    said = extended(tarfile.XHDTYPE, b"".join(record(*pair) for pair in fields.items()))
    return gzip.compress(said + header.tobuf() + content + bytes(-len(content) % 512), 1)


good = gz(member("model.json"), member("code/inference.py"))
HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "parent": (lambda: gz(member("../out")), "stay in its directory"),
    "parent, deep": (lambda: gz(member("a/b/../../../out")), "stay in its directory"),
    "absolute": (lambda: gz(member(OUT)), "stay in its directory"),
    "absolute, by an extended header": (lambda: pax(path=OUT), "stay in its directory"),
    "symbolic link": (lambda: gz(member("out", tarfile.SYMTYPE, "/etc/passwd")), "out is a link"),
    "through a symbolic link": (lambda: gz(member("d", tarfile.SYMTYPE, ".."), member("d/out")), "d is a link"),
    "hard link": (lambda: gz(member("a"), member("b", tarfile.LNKTYPE, "a")), "b is a link"),
    "hard link to a symbolic link": (
        lambda: gz(member("s", tarfile.SYMTYPE, "/etc"), member("h", tarfile.LNKTYPE, "s")),
        "s is a link",
    ),
    "character device": (lambda: gz(member("null", tarfile.CHRTYPE)), "null is a special file"),
    "block device": (lambda: gz(member("disk", tarfile.BLKTYPE)), "disk is a special file"),
    "fifo": (lambda: gz(member("pipe", tarfile.FIFOTYPE)), "pipe is a special file"),
    "unknown type": (lambda: gz(member("odd", b"Z")), "odd is a special file"),
    "setuid": (lambda: gz(member("sh", mode=0o4755)), "setuid"),
    "setgid": (lambda: gz(member("sh", mode=0o2755)), "setuid or setgid"),
    "a name twice": (lambda: gz(member("a"), member("a")), "a twice"),
    "a name twice, spelt otherwise": (lambda: gz(member("a"), member("./a")), "twice"),
    "a file as a directory": (lambda: gz(member("a"), member("a/b")), r"cannot be unpacked \(File exists\)"),
    "a directory as a file": (lambda: gz(member("a/b"), member("a")), r"cannot be unpacked \(File exists\)"),
    "a control character": (lambda: gz(member("a\x1b[31m")), "plain names"),
    "a backslash": (lambda: gz(member("..\\out")), "plain names"),
    "a long name": (lambda: gz(member("n" * 300)), "plain names"),
    "a million members": (lambda: many(1_000_000), "at most 10000 members"),
    "a gigabyte of zeros": (lambda: zeros(1024 * MIB), "bytes unpacked"),
    "eight exabytes, it says": (lambda: claiming(2**62), "bytes unpacked"),
    "a size below zero": (lambda: claiming(-5), "bytes unpacked"),
    "a name of a gigabyte": (lambda: claiming(1024 * MIB, tarfile.GNUTYPE_LONGNAME), "few and short headers"),
    "an extended header of a gigabyte": (lambda: claiming(1024 * MIB, tarfile.XHDTYPE), "few and short headers"),
    "long names of long names": (lambda: headers_of_headers(tarfile.GNUTYPE_LONGNAME), "few and short headers"),
    "extended headers of extended headers": (lambda: headers_of_headers(tarfile.XHDTYPE), "few and short headers"),
    "headers for all of headers for all": (lambda: headers_of_headers(tarfile.XGLTYPE), "few and short headers"),
    "a hundred thousand things said of each of all": (said_for_all, "few and short headers"),
    "a megabyte said of each of forty": (said_of_each, "few and short headers"),
    "a sparse file of a million holes": (holes, "f is a special file"),
    "a thousand directories deep": (lambda: gz(member("d/" * 1000 + "f")), "plain names"),
    "a sparse file": (sparse, "holes is a special file"),
    "truncated gzip": (lambda: good[:-20], "expected a gzip tar file"),
    "truncated tar": (lambda: gzip.compress(tar(member("a"))[:514]), "expected a gzip tar file"),
    "garbage behind the gzip": (lambda: good + b"garbage", "expected a gzip tar file"),
    "garbage behind the tar": (lambda: gzip.compress(tar(member("a")) + b"garbage"), "behind its last member"),
    "garbage between members": (
        lambda: gzip.compress(tar(member("a"))[:1024] + b"g" * 512 + tar(member("b"))),
        "behind its last member",
    ),
    "plain tar": (lambda: tar(member("a")), "expected a gzip tar file"),
    "empty": (lambda: b"", "expected a gzip tar file"),
    "gzip of nothing": (lambda: gzip.compress(b""), "expected a gzip tar file"),
}


@pytest.fixture(autouse=True)
def usual_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def modes(directory: Path) -> set[int]:
    return {path.stat().st_mode & 0o7777 for path in directory.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_archive_is_refused_and_writes_nothing_outside(name: str, tmp_path: Path) -> None:
    make, said = HOSTILE[name]
    content = make()
    begun = time.process_time()

    with pytest.raises(BadArchive, match=said):
        unpack(io.BytesIO(content), tmp_path / "top" / "fresh")

    written = [path for path in tmp_path.rglob("*") if tmp_path / "top" / "fresh" not in [path, *path.parents]]
    assert written == [tmp_path / "top"]
    assert modes(tmp_path) <= {0o644}
    assert (time.process_time() - begun) / slowness() < 20
    assert not Path(OUT).exists()


LARGE = """
import resource, sys
from local_test.control_plane.unpacking import BadArchive
from tests.unit.test_unpacking import HOSTILE, look

before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
content = HOSTILE[sys.argv[1]][0]()
made = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    look(content)
except BadArchive:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - made)
"""


@pytest.mark.parametrize("name", ["a gigabyte of zeros", "a million members", "a name of a gigabyte",
                                  "a hundred thousand things said of each of all"])  # fmt: skip
def test_an_archive_that_would_fill_the_memory_does_not(name: str) -> None:
    ran = subprocess.run([sys.executable, "-c", LARGE, name], cwd=ROOT, capture_output=True, text=True, check=True)

    assert int(ran.stdout) < 64 * 1024  # KiB


def test_a_sound_archive_is_unpacked_as_it_is(tmp_path: Path) -> None:
    unpack(io.BytesIO(good), tmp_path / "fresh")

    files = {str(path.relative_to(tmp_path / "fresh")): path.read_bytes() for path in tmp_path.rglob("*.*")}
    assert files == {"model.json": b"xxxx", "code/inference.py": b"xxxx"}


def test_an_archive_of_a_directory_may_begin_with_that_directory_and_not_with_a_file_in_its_place(
    tmp_path: Path,
) -> None:
    unpack(io.BytesIO(gz(member("./", tarfile.DIRTYPE), member("./a"))), tmp_path / "fresh")

    assert (tmp_path / "fresh/a").read_bytes() == b"xxxx"
    with pytest.raises(BadArchive, match="must have plain names"):
        look(gz(member(".")))


def test_files_are_readable_by_all_and_run_by_nobody_whatever_the_archive_says(tmp_path: Path) -> None:
    archive = gz(member("a", mode=0o777), member("b", mode=0o000), member("c", mode=0o1666))

    unpack(io.BytesIO(archive), tmp_path / "fresh")

    assert len(list((tmp_path / "fresh").iterdir())) == 3
    assert modes(tmp_path) == {0o644}


def test_an_archive_is_never_unpacked_over_another(tmp_path: Path) -> None:
    with pytest.raises(FileExistsError):
        unpack(io.BytesIO(good), tmp_path)


def test_limits_hold_to_the_byte(tmp_path: Path) -> None:
    content = gz(member("a"), member("b"))
    size = len(gzip.decompress(content))

    unpack(io.BytesIO(content), tmp_path / "one", Limits(members=2, size=size))

    with pytest.raises(BadArchive, match="bytes unpacked"):
        unpack(io.BytesIO(content), tmp_path / "two", Limits(members=2, size=size - 1))
    with pytest.raises(BadArchive, match="members"):
        unpack(io.BytesIO(content), tmp_path / "three", Limits(members=1, size=size))


def test_the_directories_around_a_member_count_as_members(tmp_path: Path) -> None:
    content = gz(member("a/b/c"), member("a/b/d"))

    unpack(io.BytesIO(content), tmp_path / "one", Limits(members=4))

    with pytest.raises(BadArchive, match="expected at most 3 members, got more"):
        unpack(io.BytesIO(content), tmp_path / "two", Limits(members=3))
    assert len(list((tmp_path / "two").rglob("*"))) <= 3


@pytest.mark.parametrize(
    ("kind", "said"),
    [(tarfile.GNUTYPE_LONGNAME, b"a\0"), (tarfile.XHDTYPE, record("comment", "b"))],
    ids=["name", "pax"],
)
def test_eight_headers_may_speak_of_one_member_and_nine_may_not(kind: bytes, said: bytes) -> None:
    look(gzip.compress(extended(kind, said) * 8 + tar(member("a"))))

    with pytest.raises(BadArchive, match=r"^expected few and short headers before a member, got more$"):
        look(gzip.compress(extended(kind, said) * 9 + tar(member("a"))))


def comment(size: int) -> bytes:
    """A record of exactly so many bytes."""
    return record("comment", "x" * (2 * size - len(record("comment", "x" * size))))


def test_headers_of_all_members_say_4096_bytes_at_most() -> None:
    assert len(comment(4096)) == 4096

    look(gzip.compress(extended(tarfile.XGLTYPE, comment(4096)) + tar(member("a"))))

    with pytest.raises(BadArchive, match="few and short headers"):
        look(gzip.compress(extended(tarfile.XGLTYPE, comment(4097)) + tar(member("a"))))


def test_headers_of_single_members_say_16_megabytes_at_most() -> None:
    archive, header = Archive(fileobj=io.BytesIO(), mode="w"), member("././@PaxHeader", tarfile.XHDTYPE)

    header.size = 16 * MIB
    archive.count(header)

    header.size = 1
    with pytest.raises(BadArchive, match="few and short headers"):
        archive.count(header)


@pytest.mark.parametrize(
    ("sound", "refused"),
    [
        ("n" * 255, "n" * 256),
        ("d/" * 31 + "f", "d/" * 32 + "f"),
        ("a b", "a\x7f"),
        ("\u00e9", "\x1f"),
    ],
    ids=["a name", "directories", "a control character", "letters"],
)
def test_names_may_be_as_long_and_deep_as_file_systems_have_them(sound: str, refused: str, tmp_path: Path) -> None:
    unpack(io.BytesIO(gz(member(sound))), tmp_path / "fresh")

    assert (tmp_path / "fresh" / sound).is_file()
    with pytest.raises(BadArchive, match="must have plain names: it has a member "):
        look(gz(member(refused)))


def test_a_refusal_shows_the_first_100_characters_of_a_name() -> None:
    with pytest.raises(BadArchive) as refused:
        look(gz(member("../" + "n" * 200)))

    assert str(refused.value) == f"must stay in its directory: it has a member ../{'n' * 97}"


@pytest.mark.parametrize(
    ("behind", "level", "most"),
    [(b"", 6, 64 * MIB), (os.urandom(400_000), 6, None), (bytes(22_000_000), 0, 4096 * MIB)],
    ids=["a small one", "by its own size", "a large one"],
)
def test_an_archive_grows_to_64_megabytes_or_200_times_its_size_or_4_gigabytes(
    behind: bytes, level: int, most: int | None
) -> None:
    header = member("large")
    header.size = 1 << 40
    content = gzip.compress(header.tobuf(tarfile.GNU_FORMAT) + behind, level)

    with pytest.raises(BadArchive) as refused:
        look(content)

    most = len(content) * 200 if most is None else most
    assert str(refused.value) == f"expected at most {most} bytes unpacked, its members have {1 << 40} or more"
