"""Sessions that are recorded: what exec and attach print, in the record's own files, and none of it without."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from sockproxy.audit.log import Log
from sockproxy.audit.seal import Sealer
from sockproxy.review.verify import verify
from sockproxy_helpers.calls.sessions import MOST
from tests.support.cli import Running, Terminal, assert_done
from tests.support.containers import API
from tests.support.engines import Engine
from tests.support.proxy import Proxy, default_policy, eventually
from tests.support.raw import Connection, call
from tests.support.users import Users

pytestmark = [pytest.mark.daemon, pytest.mark.root]

LIMIT = 100 << 10
ROLE = "roles:\n  developer: {extends: developer, sessions: {output: 100k}}\n"
EVIL = r"\033]52;c;aGVsbG8=\007\033[31mred\033[0m\033[6n"  # sets a clipboard, draws, asks the terminal where it is


@pytest.fixture(scope="module")
def recording(engine28: Engine, users: Users, folder: Path) -> Iterator[Proxy]:
    users.add_plugins(engine28.plugins)
    place = Path(tempfile.mkdtemp(prefix="sessions", dir=folder))
    place.chmod(0o755)
    running = Proxy(engine28, place, default_policy(users) + ROLE)
    yield running
    running.stop()
    engine28.clean()


@pytest.fixture
def box(recording: Proxy, users: Users) -> Iterator[str]:
    yield assert_done(recording.docker(users.alice, "run", "-d", "busybox", "sleep", "1000")).strip()
    recording.engine.clean()


def sessions(proxy: Proxy, begin: int) -> list[dict[str, object]]:
    return [one for one in proxy.records()[begin:] if "recording" in one]


def only(proxy: Proxy, begin: int) -> tuple[str, dict[str, object]]:
    """Wait for the one session since then; give its request and what the record says of its recording."""
    eventually(lambda: sessions(proxy, begin), "outcome")
    (outcome,) = sessions(proxy, begin)
    assert isinstance(outcome["recording"], dict)
    return str(outcome["rid"]), outcome["recording"]


def audit(proxy: Proxy, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sockproxy", "audit", *arguments, "--log-dir", str(proxy.log)]
    command += ["--runtime-dir", str(proxy.runtime)] if arguments[0] != "verify" else []
    return subprocess.run(command, capture_output=True, text=True, cwd="/", timeout=60)


def test_what_is_printed_is_recorded_and_what_is_typed_is_not(recording: Proxy, users: Users, box: str) -> None:
    begin = len(recording.records())
    script = "echo one; echo two >&2; read x; echo three"
    done = recording.docker(users.alice, "exec", "-i", box, "sh", "-c", script, input="typed\n")
    assert (done.stdout, done.stderr) == ("one\nthree\n", "two\n")
    rid, said = only(recording, begin)
    file = recording.log / "sessions" / f"{rid}.cast"
    assert said == {"bytes": file.stat().st_size, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
    assert "typed" not in file.read_text()
    head, *events = map(json.loads, file.read_text().splitlines())
    assert (head["version"], {kind for _, kind, _ in events}) == (2, {"o"})
    played = audit(recording, "play", rid)
    assert (played.returncode, played.stderr, sorted(played.stdout.split())) == (0, "", ["one", "three", "two"])
    assert f"recording  {said['bytes']} bytes" in audit(recording, "show", rid).stdout
    assert verify(str(recording.log)).findings == []
    whole = file.read_text()
    for text, word in ((whole.replace("one", "0ne"), "EDITED"), (None, "REMOVED")):
        file.unlink()
        if text:
            file.write_text(text)
        proved = audit(recording, "verify")
        assert (proved.returncode, f"{word:9} sessions/{rid}.cast" in proved.stdout) == (1, True)
        assert (audit(recording, "play", rid).returncode, word in audit(recording, "play", rid).stderr) == (1, True)
    file.write_text(whole)


@pytest.mark.parametrize("options", [[], ["-t"]])
def test_what_a_container_prints_to_who_attached(recording: Proxy, users: Users, options: list[str]) -> None:
    begin = len(recording.records())
    script = "echo one; echo two >&2; sleep 0.2; echo three"
    assert_done(recording.docker(users.alice, "run", "--rm", *options, "busybox", "sh", "-c", script))
    rid, said = only(recording, begin)
    lines = (recording.log / "sessions" / f"{rid}.cast").read_text().splitlines()[1:]
    text = "".join(json.loads(line)[2] for line in lines)
    assert sorted(text.split()) == ["one", "three", "two"]
    assert "\0" not in text  # a frame's head
    assert ("\r\n" in text) == bool(options)
    assert "left_out" not in said


def test_a_terminal_is_played_without_harm(recording: Proxy, users: Users, box: str) -> None:
    begin = len(recording.records())
    with Terminal(recording, users.alice, "exec", "-it", box, "sh", rows=33, columns=111) as shell:
        shell.type("until [ \"$(stty size)\" = '33 111' ]; do sleep 0.05; done\n")
        shell.type(f"printf '{EVIL}'; exit\n")
        assert shell.wait() == 0
    rid, _ = only(recording, begin)
    assert (
        '"r", "111x33"' in (recording.log / "sessions" / f"{rid}.cast").read_text()
        or '"width": 111' in (recording.log / "sessions" / f"{rid}.cast").read_text()
    )
    seen, drawn = audit(recording, "play", rid).stdout, audit(recording, "play", rid, "--terminal", "--speed", "99")
    assert "\x1b" not in seen
    assert r"\x1b]52;c;aGVsbG8=\x07\x1b[31mred" in seen
    assert "\x1b[31mred\x1b[0m" in drawn.stdout
    assert "]52" not in drawn.stdout.replace("\\033]52", "")  # as it was typed, and echoed
    assert "\x1b[6n" not in drawn.stdout


def test_no_byte_is_lost_and_the_recording_is_bounded(recording: Proxy, users: Users, box: str) -> None:
    begin = len(recording.records())
    script = "dd if=/dev/urandom of=/file bs=1M count=16 2>/dev/null; cat /file"
    done = recording.docker(users.alice, "exec", box, "sh", "-c", script, text=False)
    told = assert_done(recording.docker(users.bob, "version"))  # others go on meanwhile
    assert told
    summed = recording.docker(users.alice, "exec", box, "sha256sum", "/file").stdout.split()[0]
    assert hashlib.sha256(done.stdout).hexdigest() == summed
    eventually(lambda: len(sessions(recording, begin)) == 2, "outcomes")
    said = sessions(recording, begin)[0]["recording"]
    events = (recording.log / "sessions" / f"{sessions(recording, begin)[0]['rid']}.cast").read_text().splitlines()[1:]
    kept = b"".join(base64.b64decode(text) for _, kind, text in map(json.loads, events) if kind == "b")
    assert kept == done.stdout[:LIMIT]  # hardly any of it is text
    assert isinstance(said, dict)
    assert said["left_out"] == (16 << 20) - LIMIT
    assert LIMIT // 2 < said["bytes"] < 10 * LIMIT


def test_one_user_can_not_have_all_recordings(recording: Proxy, users: Users, box: str) -> None:
    attach = f"{API}/containers/{box}/attach?stream=1&stdout=1"
    headers = {"Connection": "Upgrade", "Upgrade": "tcp"}
    with ExitStack() as stack:
        opened = [stack.enter_context(Connection(recording.listen, users.alice)) for _ in range(MOST + 1)]
        answers = [connection.call("POST", attach, None, **headers) for connection in opened]
        assert [answer.status for answer in answers] == [101] * MOST + [503]
        assert "being recorded already" in answers[-1].message
        others = assert_done(recording.docker(users.bob, "run", "--rm", "busybox", "echo", "one"))
        assert others == "one\n"
    eventually(lambda: call(recording.listen, "POST", attach, None, users.alice, **headers).status == 101, "room again")


def test_what_can_not_be_recorded_is_refused(recording: Proxy, users: Users, box: str) -> None:
    headers = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec_WebSocket_Version": "13"}
    headers["Sec_WebSocket_Key"] = "dGhlIHNhbXBsZSBub25jZQ=="
    target = f"{API}/containers/{box}/attach/ws?stream=1&stdout=1"
    answer = call(recording.listen, "GET", target, None, users.alice, **headers)
    assert answer.status == 403
    assert "can't be recorded" in answer.message
    assert "sockproxy.yaml" in answer.message


@pytest.mark.parametrize("on_full", ["refuse", "continue"])
def test_a_session_whose_recording_ends(recording: Proxy, users: Users, box: str, on_full: str) -> None:
    """The writer is killed in the middle: the session ends, or goes on unrecorded, as the policy says."""
    recording.reload(default_policy(users) + ROLE + f"audit: {{on_full: {on_full}}}\n")
    begin = len(recording.records())
    command = ["exec", "-i", box, "sh", "-c", "echo ready; while read x; do echo $x; done"]
    with Running(recording, users.alice, *command, stdin=subprocess.PIPE) as session:
        session.out.until("ready")
        assert session.process.stdin
        before = recording.processes["audit"]
        os.kill(before, signal.SIGKILL)
        eventually(lambda: recording.processes.get("audit", before) != before, "a new writer")
        session.process.stdin.write(b"more\n")
        session.process.stdin.flush()
        if on_full == "continue":
            session.out.until("more")
            session.process.stdin.close()
            assert session.wait() == 0
        else:
            session.wait()
            assert "more" not in session.out.text
    rid, said = only(recording, begin)
    assert said["error"] == "this session is to be recorded, and can't be"
    assert "not whole" in audit(recording, "show", rid).stdout


def test_pruned_files_take_their_recordings_along(recording: Proxy, users: Users, box: str) -> None:
    """Closed files go, on the record; what is left is sound, and whoever deletes without saying so is found out."""
    command = ["exec", "-i", box, "sh", "-c", "echo ready; cat"]
    with Running(recording, users.alice, *command, stdin=subprocess.PIPE) as session:
        session.out.until("ready")
        os.kill(recording.processes["lifecycle"], signal.SIGKILL)  # there will be no outcome
        session.wait()
    assert {path.stem for path in (recording.log / "sessions").iterdir()} - {
        one["rid"] for one in sessions(recording, 0)
    }
    begin = len(recording.records())
    assert_done(recording.docker(users.alice, "exec", box, "echo", "old"))
    old, _ = only(recording, begin)
    assert recording.stop() == 0
    log, sealer = Log(str(recording.log)), Sealer(str(recording.log))
    log.append([sealer.seal()])  # as the writer does after 64 MB, or a day
    assert sealer.forget(log.seq, log.head)
    name = log.rotate()
    os.chown(log.path, *(getattr(os.stat(recording.log), key) for key in ("st_uid", "st_gid")))
    os.chown(recording.log / "seal.key", *(getattr(os.stat(recording.log), key) for key in ("st_uid", "st_gid")))
    log.close()
    recording.restart()
    begin = len(recording.records())
    assert_done(recording.docker(users.alice, "exec", box, "echo", "new"))
    new, _ = only(recording, begin)
    dry = audit(recording, "prune", "--before", "0s", "--dry-run")
    assert (dry.returncode, name in dry.stdout) == (0, True)
    assert (recording.log / f"{name}.gz").exists() or (recording.log / name).exists()
    eventually(lambda: (recording.log / f"{name}.gz").exists(), "compressed")
    kept = (recording.log / f"{name}.gz").read_bytes()
    identity = ["setpriv", f"--reuid={users.carol.uid}", f"--regid={users.carol.gid}", "--clear-groups"]
    command = [sys.executable, "-m", "sockproxy", "audit", "prune", "--before", "0s", "--log-dir", str(recording.log)]
    command += ["--runtime-dir", str(recording.runtime)]
    assert subprocess.run([*identity, *command], capture_output=True, cwd="/").returncode == 2
    assert (recording.log / f"{name}.gz").read_bytes() == kept
    pruned = audit(recording, "prune", "--before", "0s")
    assert (pruned.returncode, "on the record" in pruned.stdout) == (0, True)
    assert not (recording.log / f"{name}.gz").exists()
    assert [path.stem for path in (recording.log / "sessions").iterdir()] == [new]
    assert old != new
    proved = audit(recording, "verify")
    assert (proved.returncode, "were deleted by `prune`" in proved.stdout) == (0, True), proved.stdout
    assert "retention" in {one["ev"] for one in recording.records()}


def test_a_disk_that_is_nearly_full_has_room_for_the_record_alone(engine28: Engine, users: Users, folder: Path) -> None:
    place = Path(tempfile.mkdtemp(prefix="full", dir=folder))
    place.chmod(0o755)
    (place / "log").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=30m", "tmpfs", place / "log"], check=True)
    try:
        proxy = Proxy(engine28, place, default_policy(users) + ROLE)
        try:
            box = assert_done(proxy.docker(users.alice, "run", "-d", "busybox", "sleep", "1000")).strip()
            begin = len(proxy.records())
            ended = proxy.docker(
                users.alice, "exec", box, "sh", "-c", "echo one; sleep 1; echo two; sleep 1; echo three"
            )
            assert "three" not in ended.stdout
            _, said = only(proxy, begin)
            assert (said["error"], said["bytes"]) == ("the disk of the record is nearly full", 0)
            assert_done(proxy.docker(users.alice, "kill", box))
        finally:
            proxy.stop()
        assert verify(str(proxy.log)).findings == []
    finally:
        subprocess.run(["umount", place / "log"], check=True)
        engine28.clean()
