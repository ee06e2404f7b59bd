"""What the docker CLI did is on the record: intent and outcome of each call, a denial for each refusal, no secret."""

from __future__ import annotations

import base64
import grp
import json
import subprocess
import sys

import pytest

from sockproxy.review.verify import verify
from tests.support.cli import assert_done, assert_refused
from tests.support.containers import API
from tests.support.proxy import Proxy, eventually
from tests.support.raw import Connection
from tests.support.recording import documented
from tests.support.users import User, Users

pytestmark = [pytest.mark.daemon, pytest.mark.root]

SECRET = "hush7c1f"
BUILD = "FROM busybox\nARG TOKEN\nRUN test -n $TOKEN\n"


def _records(proxy: Proxy, user: User, event: str, after: int) -> dict[str, dict[str, object]]:
    """Give a user's records of an event by request id; those of outcomes have no user."""
    return {
        str(one["rid"]): one
        for one in proxy.records()[after:]
        if one["ev"] == event and (event == "outcome" or one["who"]["uid"] == user.uid)  # type: ignore[index]
    }


def test_the_record_has_its_documented_form_and_is_sound(proxy: Proxy, users: Users) -> None:
    """Whatever the tests before this one did is in it, too."""
    config = proxy.folder / "config"
    config.mkdir(exist_ok=True)
    (config / "config.json").write_text('{"HttpHeaders": {"X-Sockproxy-Why": "INC-7, a reason"}}')
    environment = proxy.environment(users.alice) | {"DOCKER_CONFIG": str(config)}
    assert_done(proxy.docker(users.alice, "run", "--rm", "--name", "why", "busybox", "true", env=environment))
    assert_refused(proxy.docker(users.alice, "run", "--privileged", "busybox"), 125)
    records = proxy.records()
    documented(records)
    created = next(one for one in reversed(records) if one["ev"] == "intent" and "ContainerCreate" in str(one))
    assert created["who"]["reason"] == "INC-7, a reason"  # type: ignore[index]
    assert verify(str(proxy.log)).findings == []


def test_a_story_is_told_from_the_command_line(proxy: Proxy, users: Users) -> None:
    """Which container it was, what its end was, and who read the record."""
    assert proxy.docker(users.alice, "run", "--name", "first", "busybox", "sh", "-c", "exit 3").returncode == 3
    assert_done(proxy.docker(users.alice, "rename", "first", "second"))
    assert_done(proxy.docker(users.alice, "rm", "second"))

    def told(*arguments: str) -> str:
        command = [sys.executable, "-m", "sockproxy", "audit", *arguments]
        command += ["--log-dir", proxy.log, "--runtime-dir", proxy.runtime]
        done = subprocess.run(command, capture_output=True, text=True, cwd="/")
        assert done.stderr == ""
        return done.stdout

    eventually(lambda: "ContainerDelete" in told("trail", "first"), "trail")
    trail = told("trail", "second")
    assert trail == told("trail", "first")
    assert "names     first second" in trail
    for operation in ("ContainerCreate", "ContainerStart", "ContainerWait", "ContainerRename", "ContainerDelete"):
        assert operation in trail
    assert "exit 3" in trail
    request = next(line for line in trail.splitlines() if "ContainerCreate" in line).rpartition("[")[2].rstrip("]")
    story = told("show", request)
    image = proxy.docker(users.alice, "inspect", "-f", "{{.Id}}", "busybox").stdout.strip()
    assert f"object     image docker.io/library/busybox:latest {image}" in story
    assert request in told("find", "--image", image)
    assert "ContainerRename" in told("find", "--image", image)
    for words in (users.alice.name, "body Image = busybox", "changed    HostConfig.", "outcome    201"):
        assert words in story
    reads = [one for one in proxy.records() if one["ev"] == "read"]
    assert any(str(one["what"]).startswith(f"show {request}") for one in reads)
    assert reads[-1]["peer"]["uid"] == 0  # type: ignore[index]


def test_auditors_read_without_being_root_and_others_do_not(proxy: Proxy, users: Users) -> None:
    """Who is in the group `sockproxy-audit` reads, which is recorded under the own uid; nobody writes, or sees keys."""
    command = [sys.executable, "-I", "-m", "sockproxy", "audit", "find", "--last", "1"]
    command += ["--log-dir", str(proxy.log), "--runtime-dir", str(proxy.runtime)]
    assert_done(proxy.docker(users.alice, "version"))
    refused = proxy.run(users.carol, command)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "Permission denied" in refused.stderr
    group = str(grp.getgrnam("sockproxy-audit").gr_gid)
    identity = ["setpriv", f"--reuid={users.carol.uid}", f"--regid={users.carol.gid}", f"--groups={group}"]
    done = subprocess.run([*identity, "--inh-caps=-all", *command], capture_output=True, text=True, cwd="/")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout

    def readers() -> list[object]:
        told = [record for record in proxy.records() if record.get("what") == " ".join(command[5:])]
        return [record["peer"]["uid"] for record in told]  # type: ignore[index]

    eventually(lambda: readers() == [users.carol.uid], "the reading on the record")
    for attempt in (f"cat {proxy.log}/seal.key", f"echo >> {proxy.log}/audit.jsonl", f"rm -f {proxy.log}/audit.jsonl"):
        assert subprocess.run([*identity, "--inh-caps=-all", "sh", "-c", attempt], capture_output=True).returncode


def test_each_call_has_an_intent_and_an_outcome(proxy: Proxy, users: Users) -> None:
    begin = len(proxy.records())
    commands: list[list[str]] = [
        ["run", "--rm", "busybox", "true"],
        ["run", "-d", "--name", "box", "busybox", "sleep", "9"],
    ]
    commands += [["exec", "box", "true"], ["cp", "box:/etc/passwd", "-"], ["rm", "-f", "box"], ["network", "ls"]]
    for command in commands:
        assert_done(proxy.docker(users.alice, *command))
    wanted = {"ContainerCreate", "ContainerAttach", "ContainerWait", "ContainerStart", "ContainerExec", "ExecStart"}
    wanted |= {"ExecInspect", "ContainerArchive", "ContainerDelete", "NetworkList", "ContainerInspect"}

    def operations() -> set[str]:
        return {str(one["req"]["op"]) for one in _records(proxy, users.alice, "intent", begin).values()}  # type: ignore[index]

    eventually(lambda: wanted <= operations(), "intents")  # of reads they come soon
    intents = _records(proxy, users.alice, "intent", begin)
    eventually(lambda: intents.keys() <= _records(proxy, users.alice, "outcome", begin).keys(), "outcomes")
    outcomes = _records(proxy, users.alice, "outcome", begin)
    for rid, intent in intents.items():
        assert intent["decision"]["role"] == "developer"  # type: ignore[index]
        assert intent["who"]["user"] == users.alice.name  # type: ignore[index]
        if intent["req"]["op"] == "ContainerCreate":  # type: ignore[index]
            assert outcomes[rid]["out"]["status"] == 201  # type: ignore[index]


def test_each_refusal_is_denied_and_nothing_else(proxy: Proxy, users: Users) -> None:
    begin = len(proxy.records())
    refusals = {
        assert_refused(proxy.docker(users.carol, "volume", "create", "v")): ("carol", "VolumeCreate"),
        assert_refused(proxy.docker(users.mallory, "ps")): ("mallory", "/containers/json"),
        assert_refused(proxy.docker(users.alice, "run", "--privileged", "busybox"), 125): ("alice", "ContainerCreate"),
        assert_refused(proxy.docker(users.alice, "volume", "create", "-o", "a=b", "v")): ("alice", "VolumeCreate"),
        assert_refused(proxy.docker(users.alice, "network", "create", "-d", "host", "n")): ("alice", "NetworkCreate"),
    }
    records = proxy.records()[begin:]
    for rid, (name, what) in refusals.items():
        found = [one for one in records if one.get("rid") == rid]
        assert [one["ev"] for one in found] == ["deny"]
        assert found[0]["who"]["uid"] == getattr(users, name).uid  # type: ignore[index]
        assert found[0]["decision"]["verdict"] == "deny"  # type: ignore[index]
        assert found[0]["decision"]["why"]  # type: ignore[index]
        assert what in str(found[0])


def test_no_secret_is_on_the_record(proxy: Proxy, users: Users) -> None:
    """Nor in what any process of sockproxy writes to its stderr."""
    environment = proxy.environment(users.alice) | {"DOCKER_BUILDKIT": "0"}
    commands = [
        ["run", "-d", "--name", "box", "-e", f"A={SECRET}", "-l", f"l={SECRET}", "busybox", "sleep", "1000"],
        ["exec", "-e", f"A={SECRET}", "box", "echo", SECRET],
        ["build", "-q", "--build-arg", f"TOKEN={SECRET}", "-t", "secret-build", "-"],
        ["commit", "-m", SECRET, "-c", f"ENV A={SECRET}", "box", "secret-build"],
        ["rmi", "secret-build"],
        ["ps", "--filter", f"label=l={SECRET}"],
    ]
    for command in commands:
        assert_done(proxy.docker(users.alice, *command, input=BUILD, env=environment))
    for command in (
        ["run", "-e", f"A={SECRET}", "--privileged", "busybox"],
        ["run", "-e", f"A={SECRET}", "-v", "/etc:/x", "busybox"],
        ["build", "--build-arg", f"TOKEN={SECRET}", "--network", "host", "-"],
    ):
        assert_refused(
            proxy.docker(users.alice, *command, input=BUILD, env=environment), 125 if command[0] == "run" else 1
        )
    assert SECRET not in (proxy.log / "audit.jsonl").read_text()
    assert SECRET not in proxy.errors()


def encoded(value: object) -> str:
    return base64.b64encode(json.dumps(value).encode()).decode()


LOGIN = {"username": "kim", "password": SECRET, "identitytoken": SECRET, "serveraddress": "registry.invalid"}
CREDENTIALS = {"X_Registry_Auth": encoded(LOGIN), "X_Registry_Config": encoded({"registry.invalid": LOGIN})}
TASK = {"ContainerSpec": {"Image": "busybox", "Env": [f"A={SECRET}"], "Args": ["x", SECRET], "Labels": {"l": SECRET}}}
URL = f"https%3A%2F%2Fkim%3A{SECRET}%40h.invalid%2Fx%3Ftoken%3D{SECRET}"
BODY = {
    "Image": "busybox",
    "Cmd": ["sh", "-c", SECRET],
    "Env": [f"A={SECRET}"],
    "Labels": {"l": SECRET},
    "Healthcheck": {"Test": ["CMD", "x", SECRET]},
    "Entrypoint": ["x", SECRET],
    "HostConfig": {
        "LogConfig": {"Type": "syslog", "Config": {"tag": SECRET}},
        "StorageOpt": {"x": SECRET},
        "Annotations": {"a": SECRET},
        "Mounts": [
            {
                "Type": "volume",
                "Target": "/x",
                "VolumeOptions": {"Labels": {"l": SECRET}, "DriverConfig": {"Name": "local", "Options": {"o": SECRET}}},
            }
        ],
    },
}
CORPUS: list[tuple[str, object]] = [  # what is asked, by who may and by who may not
    ("/auth", LOGIN),
    (f"/images/create?fromSrc={URL}&changes=ENV%20A%3D{SECRET}&message={SECRET}", None),
    ("/images/create?fromImage=busybox&tag=1", None),
    (f"/build?remote={URL}&labels=%7B%22l%22%3A%22{SECRET}%22%7D&buildargs=%7B%22A%22%3A%22{SECRET}%22%7D", None),
    ("/images/registry.invalid/x/push?tag=1", None),
    ("/containers/create?name=x", BODY),
    ("/containers/create", {**BODY, "Unknown": SECRET}),
    ("/containers/create", {**BODY, "HostConfig": {"Privileged": True}}),
    ("/containers/x/exec", {"Cmd": ["x", SECRET], "Env": [f"A={SECRET}"], "AttachStdout": True}),
    ("/containers/x/update", {"RestartPolicy": {"Name": "no"}, "Unknown": SECRET}),
    (f"/commit?container=x&comment={SECRET}&author={SECRET}&changes=ENV%20A%3D{SECRET}", {"Env": [f"A={SECRET}"]}),
    ("/volumes/create", {"Name": "v", "DriverOpts": {"password": SECRET}, "Labels": {"l": SECRET}}),
    ("/networks/create", {"Name": "n", "Options": {"key": SECRET}, "Labels": {"l": SECRET}}),
    ("/secrets/create", {"Name": "s", "Data": SECRET, "Labels": {"l": SECRET}, "Driver": {"Options": {"o": SECRET}}}),
    ("/secrets/s/update?version=1", {"Name": "s", "Data": SECRET}),
    ("/configs/create", {"Name": "c", "Data": SECRET}),
    ("/swarm/init", {"ListenAddr": "x", "Spec": {"CAConfig": {"SigningCAKey": SECRET}}}),
    ("/swarm/join", {"RemoteAddrs": ["x"], "JoinToken": SECRET}),
    ("/swarm/unlock", {"UnlockKey": SECRET}),
    ("/services/create", {"Name": "s", "TaskTemplate": TASK}),
    ("/services/s/update?version=1", {"Name": "s", "TaskTemplate": TASK}),
    ("/plugins/p/set", [f"A={SECRET}"]),
    ("/plugins/pull?remote=x", [{"Name": "env", "Value": [SECRET]}]),
]  # fmt: skip


@pytest.mark.parametrize("commands", ["program", "all"])
def test_no_secret_of_a_corpus_is_on_the_record(noted: Proxy, users: Users, commands: str) -> None:
    """Whoever sends it, whatever becomes of it: done by the administrator, refused to others."""
    policy = noted.config.read_text()
    noted.reload(policy + f"audit: {{commands: {commands}}}\n")
    try:
        begin = len(noted.records())
        for user in (users.root, users.alice, users.mallory):
            for target, body in CORPUS:
                if commands == "all" and body is not None and "Cmd" in str(body):
                    body = json.loads(json.dumps(body).replace(f'"{SECRET}"]', f'"--password={SECRET}"]'))
                with Connection(noted.listen, user) as connection:
                    connection.call("POST", f"{API}{target}", body, X_Sockproxy_Login=SECRET, **CREDENTIALS)

        def told() -> list[dict[str, object]]:
            return [one for one in noted.records()[begin:] if one["ev"] in ("intent", "deny")]

        eventually(lambda: len(told()) >= 3 * len(CORPUS), "records")
        found = {str(one["req"]["path"]) for one in told()}  # type: ignore[index]
        assert len(found) > len(CORPUS) // 2
    finally:
        noted.reload(policy)
    record = (noted.log / "audit.jsonl").read_text()
    for text in (SECRET, *CREDENTIALS.values(), base64.b64encode(SECRET.encode()).decode()):
        assert text not in record
        assert text not in noted.errors()
