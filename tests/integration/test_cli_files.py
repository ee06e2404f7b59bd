"""docker cp, save, load, import and export through sockproxy: every byte, both ways."""

from __future__ import annotations

import hashlib
import io
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.support.cli import MEBIBYTE, assert_done, write_random
from tests.support.engines import Engine
from tests.support.proxy import Proxy
from tests.support.users import Users

pytestmark = [pytest.mark.daemon, pytest.mark.root]

THOROUGH = "28"  # the engine that gets 300 MB; the others 50 MB


@pytest.fixture
def box(proxy: Proxy, users: Users) -> str:
    """A container of alice's that does nothing."""
    return assert_done(proxy.docker(users.alice, "run", "-d", "--name", "box", "busybox", "sleep", "1000")).strip()


@pytest.mark.usefixtures("box")
def test_copying_both_ways(proxy: Proxy, users: Users) -> None:
    home = users.alice.home
    for name in ("folder", "copy"):  # of the engine before
        shutil.rmtree(home / name, ignore_errors=True)
    sent = write_random(home / "sent", 50 * MEBIBYTE, users.alice)
    assert_done(proxy.docker(users.alice, "cp", "sent", "box:/tmp/there"))
    found = assert_done(proxy.docker(users.alice, "exec", "box", "md5sum", "/tmp/there"))
    assert found.split()[0] == _md5(sent)
    assert_done(proxy.docker(users.alice, "cp", "box:/tmp/there", "back"))
    assert _md5(home / "back") == _md5(sent)
    folder = home / "folder"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "file").write_text("here\n")
    assert_done(proxy.docker(users.alice, "cp", "folder", "box:/"))
    assert assert_done(proxy.docker(users.alice, "exec", "box", "cat", "/folder/deep/file")) == "here\n"
    assert_done(proxy.docker(users.alice, "cp", "-L", "box:/folder/deep", "copy"))
    assert (home / "copy" / "file").read_text() == "here\n"


@pytest.mark.usefixtures("box")
def test_copying_tars_by_stdin_and_stdout(proxy: Proxy, users: Users) -> None:
    data = _tar({"a": b"of a\n", "b": b"of b\n"})
    done: Any = proxy.docker(users.alice, "cp", "-", "box:/tmp", input=data, text=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert assert_done(proxy.docker(users.alice, "exec", "box", "cat", "/tmp/a", "/tmp/b")) == "of a\nof b\n"
    done = proxy.docker(users.alice, "cp", "box:/tmp/a", "-", text=False)
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        member = archive.extractfile("a")
        assert member
        assert member.read() == b"of a\n"


@pytest.mark.usefixtures("box")
def test_an_upload_with_a_length(proxy: Proxy, users: Users, tmp_path: Path) -> None:
    """The CLI sends chunks; curl -T says the length, and Expect: 100-continue."""
    content = write_random(tmp_path / "content", 20 * MEBIBYTE, users.alice).read_bytes()
    (users.alice.home / "tar").write_bytes(_tar({"big": content}))
    url = "http://docker/v1.41/containers/box/archive?path=/tmp"
    curl = ["curl", "-sS", "-w", "%{http_code}", "-H", "Content-Type: application/x-tar", "-T", "tar"]
    done = proxy.run(users.alice, [*curl, "--unix-socket", str(proxy.listen), url])
    assert (done.stdout, done.stderr) == ("200", "")
    found = assert_done(proxy.docker(users.alice, "exec", "box", "md5sum", "/tmp/big"))
    assert found.split()[0] == hashlib.md5(content).hexdigest()


@pytest.mark.usefixtures("box")
def test_missing_paths_are_told_in_the_daemons_words(proxy: Proxy, users: Users, engine: Engine) -> None:
    """Also while a big upload is still coming: the daemon answers early and reads no more."""
    write_random(users.alice.home / "sent", 60 * MEBIBYTE, users.alice)
    box = engine.docker("inspect", "-f", "{{.Id}}", "box").stdout.strip()  # the ID is sent, so the daemon names that
    for command in (
        ["cp", "box:/nowhere", "x"],
        ["cp", "sent", "box:/nowhere/x"],
        ["cp", "sent", "nobody:/x"],
        ["cp", "-", "box:/nowhere"],
    ):
        with open(users.alice.home / "sent", "rb") as stdin:
            mine = proxy.docker(users.alice, *command, stdin=stdin)
        with open(users.alice.home / "sent", "rb") as stdin:
            direct = engine.docker(*command, check=False, cwd=users.alice.home, stdin=stdin, timeout=60)
        assert _told(mine.stderr.replace(box, "box")) == _told(direct.stderr) != []
        assert (mine.stdout, mine.returncode) == (direct.stdout, direct.returncode) == ("", 1)


def test_images_as_files(proxy: Proxy, users: Users, engine: Engine) -> None:
    """An image of random bytes is imported, saved, removed, loaded; its container is exported.

    The engine itself compares a loaded layer with the checksum that is in the image's id.
    """
    home = users.alice.home
    size = 300 if engine.version == THOROUGH else 50
    content = write_random(home / "content", size * MEBIBYTE, users.alice)
    subprocess.run(["tar", "-C", home, "-cf", home / "import.tar", "content"], check=True)
    imported = assert_done(proxy.docker(users.alice, "import", "-c", 'CMD ["x"]', "import.tar", "mine:1", timeout=180))
    engine_word = engine.docker("inspect", "-f", "{{.Id}} {{json .Config.Cmd}}", "mine:1").stdout
    assert engine_word == f'{imported.strip()} ["x"]\n'
    (home / "import.tar").unlink()
    assert_done(proxy.docker(users.alice, "create", "--name", "of-mine", "mine:1"))
    export = ["sh", "-c", "docker export of-mine | tar -xO content | md5sum"]
    wanted = _md5(content)
    content.unlink()
    assert proxy.run(users.alice, export, timeout=180).stdout.split()[0] == wanted
    assert_done(proxy.docker(users.alice, "rm", "of-mine"))
    assert_done(proxy.docker(users.alice, "save", "-o", "saved.tar", "mine:1", timeout=180))
    assert_done(proxy.docker(users.alice, "rmi", "mine:1"))
    loaded = assert_done(proxy.docker(users.alice, "load", "-i", "saved.tar", timeout=180))
    assert loaded.endswith("Loaded image: mine:1\n")
    (home / "saved.tar").unlink()
    assert engine.docker("inspect", "-f", "{{.Id}} {{json .Config.Cmd}}", "mine:1").stdout == engine_word
    assert_done(proxy.docker(users.alice, "rmi", "mine:1"))


def _tar(files: dict[str, bytes]) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return target.getvalue()


def _told(errors: str) -> list[str]:
    """Leave out what the CLI logs, before or behind the daemon's words, when it could not send the rest."""
    return [line for line in errors.splitlines() if "read/write on closed pipe" not in line]


def _md5(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()
