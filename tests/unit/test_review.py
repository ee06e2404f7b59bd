"""The commands that read the record: what they find, what they say, and that nobody's words harm the reader."""

from __future__ import annotations

import csv
import html.parser
import io
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sockproxy import cli, review
from sockproxy.audit.log import NAME, Entry, Log, encode
from sockproxy.review.commands import completion, export
from sockproxy.review.text import cell, markup, plain

Told = Callable[..., tuple[int, str]]
EVIL = "</td><script>x</script>\x1b[2J\x9b1m\u202e=1+1\n\u200b\u2028"
BOX, OTHER = "b0" * 32, "c0" * 32
EXEC = "e0" * 32
DIGEST = f"sha256:{'d' * 64}"


def intent(rid: str, op: str, **more: object) -> dict[str, object]:
    method = "GET" if op.endswith(("List", "Inspect")) else "POST"
    record: dict[str, object] = {
        "v": 1,
        "ev": "intent",
        "rid": rid * 4,
        "who": {"uid": 1000, "user": "alice", "groups": ["alice", "dev"], "pid": 7, "via": "peer", "comm": "docker"},
        "req": {"method": method, "path": f"/v1.47/{op}", "op": op, "query": more.pop("query", {})},
        "decision": {"verdict": "allow", "role": "developer", "at": "roles.yaml:30", "policy": "a" * 64},
        "via": {"helper": "lifecycle"},
        "objects": more.pop("objects", []),
    }
    return record | more


def outcome(rid: str, status: int = 200, **more: object) -> dict[str, object]:
    out = {"status": status, "error": more.pop("error", ""), "ms": 1.5, "bytes_in": 0, "bytes_out": 9}
    out |= {"exit": more.pop("exit")} if "exit" in more else {}
    return {"v": 1, "ev": "outcome", "rid": rid * 4, "via": {"helper": "lifecycle"}, "out": out, **more}


def deny(rid: str, op: str, why: str, **more: object) -> dict[str, object]:
    record = intent(rid, op, **more)
    return {**record, "ev": "deny", "decision": {"verdict": "deny", "role": "viewer", "at": "p.yaml:7", "why": why}}


def box(name: str) -> list[dict[str, object]]:
    more = {"image": "redis:7", "image_id": f"sha256:{'1' * 64}"}
    return [{"kind": "container", "id": BOX, "name": name, "owner": 1000, **more}]


RECORDS = [
    {"v": 1, "ev": "start", "source": "built in"},
    intent("000a", "ContainerCreate", query={"name": "web"}, objects=[
        {"kind": "image", "id": f"sha256:{'1' * 64}", "name": "docker.io/library/redis:7", "digest": DIGEST}
    ]),
    outcome("000a", 201, made=[{"kind": "container", "id": BOX}], change=[{"field": "HostConfig.Memory", "sent": 5}]),
    intent("000b", "ContainerStart", objects=box("web")),
    outcome("000b", 204),
    intent("000c", "ContainerRename", objects=box("web"), query={"name": "shop"}),
    outcome("000c", 204),
    intent("000d", "ContainerExec", objects=box("shop")),
    outcome("000d", 201, made=[{"kind": "exec", "id": EXEC}]),
    intent("000e", "ExecStart", objects=[{"kind": "exec", "id": EXEC, "name": "", "owner": 1000, "container": BOX}]),
    outcome("000e", 101),
    intent("000f", "ContainerInspect", objects=box("shop")),
    outcome("000f", 200),
    intent("001a", "ContainerCreate", query={"name": "web"}),
    outcome("001a", 409, error='Conflict. The container name "/web" is in use'),
    deny("001b", "ContainerCreate", "HostConfig.Privileged: role viewer may not", who={"uid": 1001, "user": "bob"}),
    deny("001c", "ContainerKill", EVIL, who={"uid": 1002, "user": EVIL, "reason": EVIL}, objects=[
        {"kind": "container", "id": OTHER, "name": EVIL}
    ]),
    intent("001d", "ImageCreate", query={"fromImage": "busybox", "tag": "1"}),
    intent("001e", "ContainerWait", objects=box("shop")),
    outcome("001e", 200, exit=137),
    {"v": 1, "ev": "gap", "why": "no room", "lost": {"intent": 2}},
]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    log = Log(str(tmp_path), segment=2500)
    for record in RECORDS:
        log.append([Entry(encode(record), 0, 1)])
        if log.due():
            log.rotate()
    forged = intent("001f", "ContainerKill", who={"uid": 0, "user": "root"})
    log.append([Entry(encode(forged), 998, 1)])  # by the front, which can't speak for a helper
    log.append([Entry(encode(outcome("001d", 200)), 998, 1)])
    log.close()
    return tmp_path


@pytest.fixture
def tell(folder: Path, capsys: pytest.CaptureFixture[str]) -> Told:
    def run(*arguments: str) -> tuple[int, str]:
        code = review.main([*arguments, "--log-dir", str(folder), "--runtime-dir", str(folder)])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return code, captured.out

    return run


def rids(text: str) -> list[str]:
    return [line.rpartition("[")[2][:4] for line in text.splitlines()]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (["--user", "bob"], ["001b"]),
        (["--user", "uid:1001"], ["001b"]),
        (["--user", "nobody"], []),
        (["--operation", "ContainerCreate"], ["000a", "001a", "001b"]),
        (["--operation", "ContainerCreate", "--user", "alice"], ["000a", "001a"]),
        (["--verdict", "deny"], ["001b", "001c"]),
        (["--container", "shop"], ["000d", "000f", "001e"]),
        (["--container", BOX[:12]], ["000a", "000b", "000c", "000d", "000e", "000f", "001e"]),
        (["--image", "redis"], ["000a", "000b", "000c", "000d", "000f", "001e"]),
        (["--image", DIGEST], ["000a"]),
        (["--image", "1" * 12], ["000a", "000b", "000c", "000d", "000f", "001e"]),
        (["--image", "busybox"], ["001d"]),
        (["--image", "busybox:1"], ["001d"]),
        (["--rule", "p.yaml:7"], ["001b", "001c"]),
        (["Privileged"], ["001b"]),
        (["--since", "2099-01-01"], []),
        (["--until", "2020-01-01T10:00"], []),
        (["--since", "1h", "--verdict", "deny", "--last", "1"], ["001c"]),
    ],
)
def test_find(tell: Told, filters: list[str], expected: list[str]) -> None:
    code, text = tell("find", *filters)
    assert sorted(rids(text)) == expected
    assert code == (0 if expected else 1)


def test_find_tells_verdict_and_outcome(tell: Told) -> None:
    _, text = tell("find")
    assert "409: Conflict" in text
    assert "200 exit 137" in text
    assert "outcome unknown" in text  # of 001d: an outcome that the front made up is none
    assert "001f" not in text


def test_show_is_one_story(tell: Told) -> None:
    code, text = tell("show", "000a" * 4)
    assert code == 0
    words = ["alice (uid 1000; groups: alice, dev)", "ContainerCreate: POST", "query name = web", "role developer"]
    words += ["rule roles.yaml:30", "HostConfig.Memory: added 5", "outcome    201", BOX, "called docker"]
    assert [word for word in words if word not in text] == []
    assert tell("show", "000a")[1] == text  # the beginning is enough
    assert tell("show", "ffff" * 4) == (1, "")


def test_a_trail_goes_across_renames_and_execs(tell: Told) -> None:
    for name in ("web", "shop", BOX, BOX[:12]):
        code, text = tell("trail", name)
        assert code == 0
        assert f"container {BOX}" in text
        assert "names     web shop" in text
        lines = [line for line in text.splitlines() if line.endswith("]")]
        assert rids("\n".join(lines)) == ["000a", "000b", "000c", "000d", "000e", "001e"]
    assert "000f" in tell("trail", "web", "--all")[1]
    assert tell("trail", "nothing")[0] == 1


def test_today_is_one_screen(tell: Told) -> None:
    code, text = tell("today")
    assert code == 0
    for words in (
        "2 refused",
        "1 failed",
        "alice",
        "p.yaml:7",
        "never seen before: users alice, bob",
        "no room",
        "sound",
    ):
        assert words in text
    assert len(text.splitlines()) < 60


def test_what_is_damaged_is_told(tell: Told, folder: Path) -> None:
    path = folder / NAME
    path.write_bytes(path.read_bytes().replace(b'"uid":998', b'"uid":997', 1))
    code, text = tell("today")
    assert code == 1
    assert "EDITED" in text


def test_why_says_whether_it_would_still_be_so(tell: Told, folder: Path) -> None:
    log = Log(str(folder))
    body = {"HostConfig": {"Privileged": True}, "Image": "busybox"}
    req = {"method": "POST", "path": "/v1.47/containers/create", "op": "ContainerCreate", "query": {}, "body": body}
    who = {"uid": 0, "user": "root"}
    log.append([Entry(encode(deny("00ab", "x", "HostConfig.Privileged: no", req=req, who=who)), 0, 1)])
    log.close()
    policy = folder / "policy.yaml"
    policy.write_text("version: 1\nbindings: [{user: root, role: developer}]\n")
    code, text = tell("why", "00ab", "--config", str(policy))
    assert code == 0
    assert "then   refused: HostConfig.Privileged: no" in text
    assert "today  refused: HostConfig.Privileged: role developer" in text
    policy.write_text("version: 1\nbindings: [{user: root, role: admin}]\n")
    code, text = tell("why", "00ab", "--config", str(policy))
    assert code == 1
    assert "today  allowed" in text


def harmless(text: str) -> bool:
    return all(c.isprintable() or c == "\n" for c in text) and "\u202e" not in text and "\u200b" not in text


@pytest.mark.parametrize(
    "command",
    [["find"], ["find", "--format", "csv"], ["show", "001c"], ["trail", OTHER], ["today"], ["export"],
     ["export", "--format", "ocsf"], ["export", "--format", "csv"]],
    ids=" ".join,
)  # fmt: skip
def test_nobodys_words_reach_the_terminal(tell: Told, command: list[str]) -> None:
    assert harmless(tell(*command)[1].replace("\r\n", "\n"))


def test_no_cell_is_a_formula(tell: Told) -> None:
    rows = list(csv.reader(io.StringIO(tell("export", "--format", "csv")[1])))
    assert rows[0] == list(export.COLUMNS)
    assert len(rows) == 12
    assert not [value for row in rows for value in row if value.startswith(("=", "+", "-", "@", "\t"))]
    for text in ("=1+1", "+1", "-1", "@x", "\t=1"):
        assert cell(text).startswith(("'", "\\"))


def test_exports_can_be_read(tell: Told) -> None:
    for form in ("jsonl", "ocsf"):
        records = [json.loads(line) for line in tell("export", "--format", form)[1].splitlines()]
        assert len(records) == 11
    denied = next(record for record in records if record["metadata"]["uid"] == "001b" * 4)
    assert (denied["class_uid"], denied["type_uid"], denied["action"]) == (6003, 600301, "Denied")
    assert denied["status"] == "Failure"


class Page(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs


def test_the_report_is_one_page_without_scripts(tell: Told, folder: Path) -> None:
    path = folder / "report.html"
    code, _ = tell("report", "--html", str(path))
    assert code == 0
    page, text = Page(), path.read_text()
    page.feed(text)
    assert "script" not in page.tags
    assert not [name for name, _ in page.attributes if name.startswith("on") or name in ("src", "href", "style")]
    assert "default-src 'none'" in text
    assert harmless(text)
    for words in ("sound", "p.yaml:7", "alice", "Calls by the hour"):
        assert words in text
    assert path.stat().st_mode & 0o777 == 0o600
    assert tell("report", "--html", str(path))[0] == 2  # nothing is overwritten


def test_text_is_escaped() -> None:
    assert plain("a\x1b[2J\x9b\u202eb\u200b\n\U000e0041") == "a\\x1b[2J\\x9b\\u202eb\\u200b\\x0a\\U000e0041"
    assert plain("café 漢字") == "café 漢字"
    assert markup("<a b='c'>\x1b") == "&lt;a b=&#x27;c&#x27;&gt;\\x1b"


def test_follow_tells_what_comes_also_in_the_next_file(folder: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "sockproxy", "audit", "follow", "--log-dir", folder, "--runtime-dir", folder],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout
    assert process.stderr
    assert "not on the record" in process.stderr.readline()
    log, done = Log(str(folder)), threading.Event()

    def write() -> None:
        number = 0
        while not done.is_set():
            number += 1
            log.append([Entry(encode(deny("00ff", "ContainerKill", f"number {number}")), 0, 1)])
            if number == 3:
                log.rotate()
            time.sleep(0.05)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        found = [process.stdout.readline() for _ in range(12)]
    finally:
        done.set()
        thread.join()
        process.kill()
        process.communicate()
        log.close()
    assert sum("ContainerKill" in line for line in found) >= 10


@pytest.mark.parametrize("command", ["find", "show", "trail", "today", "follow", "export", "report", "completion"])
def test_nothing_heavy_is_imported(command: str) -> None:
    code = f"""
import sys
from sockproxy import cli
import sockproxy.review.commands.{command}
heavy = ("trio", "cryptography", "yaml", "h11", "rich", "sqlite3", "asyncio", "logging", "docker")
print([name for name in heavy if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_completion_knows_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert review.main(["completion", "bash"]) == 0
    text = capsys.readouterr().out
    for words in (*review.COMMANDS, "--operation", "ContainerCreate", "--html"):
        assert words in text
    done = subprocess.run(["bash", "-c", text + """
COMP_WORDS=(sockproxy audit fi); COMP_CWORD=2; _sockproxy_audit; echo "${COMPREPLY[@]}"
COMP_WORDS=(sockproxy audit find --ver); COMP_CWORD=3; _sockproxy_audit; echo "${COMPREPLY[@]}"
COMP_WORDS=(sockproxy audit find --operation ContainerCr); COMP_CWORD=4; _sockproxy_audit; echo "${COMPREPLY[@]}"
"""], capture_output=True, text=True, check=True)  # fmt: skip
    assert done.stdout.split("\n")[:3] == ["find", "--verdict", "ContainerCreate"]
    assert completion.ZSH


@pytest.fixture
def usage(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def run(*arguments: str) -> str:
        with pytest.raises(SystemExit) as stop:
            review.main(list(arguments))
        assert stop.value.code == 2
        return capsys.readouterr().err

    return run


def test_usage(usage: Callable[..., str]) -> None:
    assert "COMMAND" in usage()
    assert "invalid choice" in usage("nothing")
    assert "is no time" in usage("find", "--since", "soon")


def test_a_folder_without_a_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert review.main(["find", "--log-dir", str(tmp_path / "none")]) == 2
    assert "No such file" in capsys.readouterr().err


@pytest.mark.parametrize("group", ["audit", "policy"])
def test_a_group_of_commands_tells_what_is_in_it(group: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main([group, "--help"])
    assert end.value.code == 0
    assert f"usage: sockproxy {group} [-h] COMMAND" in capsys.readouterr().out
