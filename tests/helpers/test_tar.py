"""Archives as they pass: what is kept, where the end is, and what no two readers would read alike."""

from __future__ import annotations

import io
import tarfile
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sockproxy_helpers.content.tar import BLOCK, LARGEST, Scan
from sockproxy_helpers.errors import Malformed

WANTED = ("manifest.json", "index.json")
LONG = "a/" * 80 + "file"


def member(name: str, content: bytes = b"", **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    """Form a member; fields are those of TarInfo."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in fields.items():
        setattr(info, key, value)
    return info, content


def pack(*members: tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT, end: bool = True) -> bytes:
    """Form an archive."""
    data = b"".join(info.tobuf(form) + content + bytes(-len(content) % BLOCK) for info, content in members)
    return data + bytes(2 * BLOCK if end else 0)


def scan(data: bytes, *sizes: int) -> tuple[bytes, Scan]:
    """Feed an archive in pieces; give what was passed."""
    found, passed, place = Scan(WANTED), b"", 0
    for size in [*sizes, len(data)]:
        passed += found.feed(data[place : place + size])
        place += size
    if not found.ended:
        found.close()
    return passed, found


def patched(place: int, text: bytes) -> bytes:
    """Write something else into the header of an archive of one member, with the checksum that fits."""
    data = bytearray(pack(member("x" * 20, b"y")))
    data[place : place + len(text)] = text
    data[148:156] = b"%06o\0 " % (sum(data[:148]) + sum(data[156:512]) + 256)
    return bytes(data)


ARCHIVE = pack(
    member("blobs/sha256/0", b"x" * 5000),
    member("manifest.json", b"[1]"),
    member(LONG, b"y" * 512),
    member("folder", type=tarfile.DIRTYPE),
    member("link", type=tarfile.SYMTYPE, linkname="manifest.json"),
    member("./x/../index.json", b"{}"),
    member("ü" * 120, b"z"),
    member("/manifest.json", b"[2]"),
    member("x/manifest.json", b"[3]"),
)


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_members(form: int) -> None:
    data = pack(
        member("index.json", b"{}"), member("d" * 90 + "/" + "f" * 60, b"q"), member("manifest.json", b"[]"), form=form
    )
    passed, found = scan(data + b"what comes behind")
    assert passed == data[: -2 * BLOCK]
    assert found.ended
    assert {name: kept.content for name, kept in found.found.items()} == {"index.json": b"{}", "manifest.json": b"[]"}


@settings(max_examples=60)
@given(st.lists(st.integers(1, 3000), max_size=30))
def test_in_any_pieces(sizes: list[int]) -> None:
    passed, found = scan(ARCHIVE, *sizes)
    assert passed == ARCHIVE[: -2 * BLOCK]
    assert found.found["manifest.json"].content == b"[2]"
    assert found.found["index.json"].content == b"{}"


def test_byte_by_byte() -> None:
    assert scan(ARCHIVE, *[1] * len(ARCHIVE))[0] == ARCHIVE[: -2 * BLOCK]


def test_a_member_written_again() -> None:
    passed, found = scan(ARCHIVE)
    new = passed + found.found["manifest.json"].blocks(b"[" + b" " * 700 + b"4]") + bytes(2 * BLOCK)
    with tarfile.open(fileobj=io.BytesIO(new)) as read:
        last = read.getmembers()[-1]
        assert last.name.strip("/") == "manifest.json"
        content = read.extractfile(last)
        assert content
        assert content.read() == b"[" + b" " * 700 + b"4]"


def test_without_the_zero_blocks() -> None:
    data = pack(member("manifest.json", b"[]"), end=False)
    assert scan(data)[0] == data
    for cut in (1, 511, 512, 513, 1023):
        with pytest.raises(Malformed, match="cut off"):
            scan(data[:cut])


@pytest.mark.parametrize(
    "kind", [tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE]
)
def test_what_has_no_content_has_no_size(kind: bytes) -> None:
    """Go reads no content of it, whatever the size says: the bytes behind would be members to the daemon alone."""
    hidden = pack(member("manifest.json", b"[]"))
    with pytest.raises(Malformed, match="can have no content"):
        scan(pack(member("x", hidden, type=kind)))
    with pytest.raises(Malformed, match="can have no content"):
        scan(pack(member("x", hidden, type=kind, pax_headers={"size": str(len(hidden))})))


def test_an_old_folder_with_content() -> None:
    data = bytearray(pack(member("folder/", b"x" * 512)))
    data[156] = 0
    data[148:156] = b"%06o\0 " % (sum(data[:148]) + sum(data[156:512]) + 256)
    with pytest.raises(Malformed, match="can have no content"):
        scan(bytes(data))


def test_a_size_in_an_extended_header() -> None:
    info, content = member("x", b"y" * 1000)
    extended = tarfile.TarInfo("pax")
    extended.type, record = b"x", b"13 size=1000\n"
    extended.size = len(record)
    info.size = 3
    data = pack((extended, record), (info, content), member("manifest.json", b"[]"))
    assert scan(data)[1].found["manifest.json"].content == b"[]"


@pytest.mark.parametrize(
    "records",
    [
        b"x",
        b"5 a=b",
        b"99 a=b\n",
        b"6 a=b\n5",
        b"13 size=-100\n",
        b"12 size=1_0\n",
        b"22 GNU.sparse.major=1\n",
        b"0 a=b\n",
        b"6 =bc\n",
    ],
)
def test_odd_extended_headers(records: bytes) -> None:
    extended = tarfile.TarInfo("pax")
    extended.type, extended.size = b"x", len(records)
    with pytest.raises(Malformed):
        scan(pack((extended, records), member("x", b"y")))


@pytest.mark.parametrize("kind", [b"S", b"D", b"M", b"V", b"A", b"8", b" ", b"\xff"])
def test_kinds_that_are_not_taken(kind: bytes) -> None:
    with pytest.raises(Malformed, match="of a kind that is not taken"):
        scan(patched(156, kind))


@pytest.mark.parametrize(
    ("place", "text"),
    [
        (124, b"-0000000001\0"),
        (124, b"0000000001x\0"),
        (124, b"\xff" * 12),
        (124, b"0x000000001\0"),
        (148, b"0000000\0"),
    ],
)
def test_odd_numbers(place: int, text: bytes) -> None:
    data = bytearray(pack(member("x", b"y")))
    data[place : place + len(text)] = text
    if place != 148:
        data[148:156] = b"%06o\0 " % (sum(data[:148]) + sum(data[156:512]) + 256)
    with pytest.raises(Malformed):
        scan(bytes(data))


@pytest.mark.parametrize(
    "start", [b"BZh91AY", b"\x1f\x8b\x08", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd", b"\x50\x2a\x4d\x18", b"\x5f\x2a\x4d\x18"]
)
def test_what_the_daemon_would_unpack(start: bytes) -> None:
    """A name can begin so, in an archive that is fine otherwise: to the daemon it would be another one."""
    with pytest.raises(Malformed, match="packed in a way"):
        scan(patched(0, start))
    with pytest.raises(Malformed):
        scan(start + bytes(1000))


def test_too_much() -> None:
    with pytest.raises(Malformed, match="too large"):
        scan(pack(member("manifest.json", bytes(LARGEST + 1))))
    with pytest.raises(Malformed, match="too long"):
        scan(pack(member("x" * (2 << 20), b"")))
    with pytest.raises(Malformed):
        scan(b"junk" * 1000)


@settings(max_examples=150)
@given(st.integers(0, 4 * BLOCK), st.binary(min_size=1, max_size=3))
def test_damaged(place: int, junk: bytes) -> None:
    """Whatever it is, it is refused or followed; and what Python's reader finds in it was seen here."""
    data = bytearray(ARCHIVE)
    data[place : place + len(junk)] = junk
    try:
        scan(bytes(data), 700, 700)
    except Malformed:
        pass
