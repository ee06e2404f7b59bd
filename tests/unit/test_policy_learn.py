"""`sockproxy policy diff` and `learn`: recorded calls, judged again by the code that serves calls."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sockproxy import cli
from sockproxy.authoring.learn import UNTOLD
from sockproxy.explain.judge import judge
from sockproxy.policy.compile import compile_text, dump
from sockproxy.policy.schema import RULES
from sockproxy_helpers.judge.policy import Policy
from tests.support.explaining import CORPUS
from tests.support.judging import KIM, OPERATIONS
from tests.support.recording import Recording

BOUND = "version: 1\nbindings: [{user: kim, role: r}]\n"


@pytest.fixture
def recording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recording:
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    return Recording(tmp_path)


@pytest.fixture
def run(recording: Recording, capsys: pytest.CaptureFixture[str]) -> Any:
    def run(*arguments: str) -> tuple[int, str, str]:
        folder = str(recording.folder)
        code = cli.main(["policy", *arguments, "--log-dir", folder, "--runtime-dir", folder])
        out, err = capsys.readouterr()
        return code, out, err

    return run


def policy(folder: Path, name: str, text: str) -> str:
    (folder / name).write_text(BOUND + text)
    return str(folder / name)


def test_diff(recording: Recording, run: Any) -> None:
    recording.call("ContainerCreate", {"Image": "a", "HostConfig": {"Memory": 4 << 30}})
    recording.call("ContainerCreate", {"Image": "a", "HostConfig": {"Memory": 4 << 30}})
    recording.call("ContainerCreate", {"Image": "a", "HostConfig": {"Memory": 1 << 30}})
    recording.call("ContainerList")
    old = policy(recording.folder, "old.yaml", "roles: {r: {extends: developer}}")
    new = policy(recording.folder, "new.yaml", "roles:\n  r:\n    extends: developer\n    limits: {memory: 2g}\n")
    code, out, err = run("diff", old, new)
    lines = out.splitlines()
    assert code == 1
    assert lines[0] == "refused  kim ContainerCreate a: 2 calls"
    assert (
        f"HostConfig.Memory: role r may not use memory 4294967296 (allowed: up to 2147483648): rule {new}:6" in lines[1]
    )
    assert lines[2] == f"2 calls of 4 calls would be decided otherwise by {new}"
    assert "names and owners of objects are not looked up" in err
    assert run("diff", new, old)[1].startswith("allowed  kim ContainerCreate a: 2 calls")
    assert run("diff", old, old)[0] == 0
    assert run("diff", old, new, "--operation", "ContainerList")[0] == 0


def test_diff_tells_what_cannot_be_told(recording: Recording, run: Any) -> None:
    recording.call("VolumeCreate", {"Name": "v", "DriverOpts": {"device": "/x"}})
    old = policy(recording.folder, "old.yaml", "roles: {r: {extends: developer, driver_options: true}}")
    new = policy(recording.folder, "new.yaml", "roles: {r: {extends: developer}}")
    code, out, _ = run("diff", old, new)
    assert code == 0
    assert out.splitlines()[1].startswith("cannot be told: VolumeCreate: DriverOpts was not kept [")


IN_CONTAINER = {
    "uid": 65534,
    "user": "",
    "groups": [],
    "via": "container",
    "container": {"id": "0d" * 32, "name": "proxy"},
}


def test_a_container_that_is_nobodys_is_known_by_its_name(recording: Recording, run: Any) -> None:
    recording.call("ContainerList", who=IN_CONTAINER)
    code, out, err = run("learn")
    assert (code, err) == (0, "")
    assert '  - {container: {name: "proxy"}, role: learned}' in out
    assert "the record has neither their labels nor their images" in out
    old = recording.folder / "old.yaml"
    old.write_text("version: 1\nbindings: [{container: {name: proxy}, role: viewer}]\n")
    for selector, verdict in (("name: proxy", 0), ("image: proxy", 1)):
        new = recording.folder / "new.yaml"
        new.write_text(out.replace('name: "proxy"', selector))
        code, out_of_diff, err = run("diff", str(old), str(new))
        assert code == verdict, out_of_diff
        assert "bindings by label or image are passed over" in err


def learned(run: Any, *options: str) -> tuple[str, dict[str, Any]]:
    code, out, err = run("learn", *options)
    assert (code, "no role allows" in err) == (0, False), err
    return out, dict(compile_text(out.encode(), "learned.yaml")["roles"]["learned"])


# What is asked, and the rule that it needs, with the least value that will do.
NEEDS = {
    "privileged": ({"Privileged": True}, True),
    "capabilities": ({"CapAdd": ["CAP_NET_ADMIN"]}, "NET_ADMIN"),
    "host_namespaces": ({"PidMode": "host"}, ["pid"]),
    "devices": ({"Devices": [{"PathOnHost": "/dev/fuse"}]}, True),
    "security_options": ({"SecurityOpt": ["seccomp=unconfined"]}, True),
    "sysctls": ({"Sysctls": {"net.core.somaxconn": "9"}}, ["net.core.somaxconn"]),
    "runtimes": ({"Runtime": "runsc"}, ["runsc"]),
    "binds": (
        {"Binds": ["/srv/a:/a:ro", "/srv/b/:/b"]},
        [{"path": "/srv/a", "mode": "ro"}, {"path": "/srv/b", "mode": "rw"}],
    ),
    "ports": (
        {"PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}]}},
        {"min": 8080, "addresses": ["127.0.0.1"]},
    ),
    "limits": ({"Memory": 12 << 30}, 12 << 30),
    "ulimits": ({"Ulimits": [{"Name": "nofile", "Soft": 9, "Hard": 9}]}, None),
}  # fmt: skip


@pytest.mark.parametrize("rule", NEEDS)
def test_the_least_of_each_rule(recording: Recording, run: Any, rule: str) -> None:
    host, least = NEEDS[rule]
    recording.call("ContainerCreate", {"Image": "a", "HostConfig": host})
    text, role = learned(run)
    value = role["rules"][rule][0]
    if rule == "capabilities":
        assert least in value
    elif rule == "limits":
        assert value["memory"] == least
    elif rule == "ulimits":
        assert list(value) == ["nofile"]
    else:
        assert value == least
    changed = {name for name, (value, _) in role["rules"].items() if value != RULES[name].default}
    assert changed - set(UNTOLD) <= {rule, "via"}, text
    assert set(role["operations"]) == {"ContainerCreate", "SystemOptions", "SystemPing", "SystemPingHead"}


def test_which_registries_were_used(recording: Recording, run: Any) -> None:
    recording.call("ImageCreate", query={"fromImage": "busybox", "tag": "1"})
    recording.call("ImageCreate", query={"fromImage": "docker.io/library/busybox", "tag": "2"})
    recording.call("DistributionInspect")
    role = learned(run)[1]
    assert role["rules"]["registries"][0] == ["docker.io/library/busybox", "docker.io/library/x1"]
    recording.call("ImageBuild", query={})
    assert "the images that a build begins with are not on record" in learned(run)[0]


def test_which_ranges_were_taken(recording: Recording, run: Any) -> None:
    wanted = [{"Subnet": "10.5.0.0/16", "Gateway": "10.5.0.1", "IPRange": "10.5.1.0/24"}, {"Subnet": "fd07::/64"}]
    recording.call("NetworkCreate", {"Name": "n", "IPAM": {"Config": wanted}})
    assert learned(run)[1]["rules"]["subnets"][0] == ["10.5.0.0/16", "fd07::/64"]


# What stands elsewhere in a request, and would allow what it asks and more.
MISLEADING: dict[str, tuple[dict[str, object], dict[str, object], object]] = {
    "binds": ({"Binds": ["/srv/a:/a"]}, {"WorkingDir": "/"}, [{"path": "/srv/a", "mode": "rw"}]),
    "sysctls": ({"Sysctls": {"net.core.somaxconn": "9"}}, {"User": "net."}, ["net.core.somaxconn"]),
    "runtimes": ({"Runtime": "runsc"}, {"User": "ALL"}, ["runsc"]),
    "ports": (
        {"PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}]}},
        {"User": "ALL", "WorkingDir": "1", "StopTimeout": 1},
        {"min": 8080, "addresses": ["127.0.0.1"]},
    ),
}


@pytest.mark.parametrize("rule", MISLEADING)
def test_words_that_would_mislead(recording: Recording, run: Any, rule: str) -> None:
    host, more, least = MISLEADING[rule]
    recording.call("ContainerCreate", {"Image": "a", **more, "HostConfig": host})
    assert learned(run)[1]["rules"][rule][0] == least


ODD = 'a"]}\nbindings: [{user: eve, role: admin}]\n#\u2028\x85: {'


def test_odd_bytes_are_no_policy(recording: Recording, run: Any) -> None:
    """Names and commands are chosen by who calls: none of them ends a line of the file, or begins a rule."""
    body = {"Image": "a", "Cmd": [ODD], "User": ODD, "Labels": {ODD: ODD}, "HostConfig": {"Binds": ["/srv/{home}:/a"]}}
    recording.call("ContainerCreate", body, name=ODD)
    recording.call("ContainerStop", objects=[{"kind": "container", "id": "a" * 64, "name": ODD, "owner": KIM.uid}])
    text, role = learned(run)
    assert "user: eve" not in text.replace("\\n", "")
    compiled = compile_text(text.encode(), "learned.yaml")
    assert compiled["users"].keys() == {"root", "kim"}
    assert role["rules"]["binds"][0] == [{"path": "/srv/{home}", "mode": "rw"}]


def test_others_things(recording: Recording, run: Any) -> None:
    recording.call("ContainerStop", objects=[{"kind": "container", "id": "b0" * 32, "owner": 1001}])
    assert learned(run)[1]["rules"]["sees_all"][0] is True


@pytest.mark.parametrize("corpus", ["docker-28.2.2.json", "docker-py-7.2.0.json"])
def test_what_real_clients_did_is_allowed_by_what_is_learned_of_it(recording: Recording, run: Any, corpus: str) -> None:
    requests = json.loads((CORPUS / corpus).read_text())
    for request in requests:
        query = dict(reversed([(key, value) for key, value in request["query"]]))
        recording.call(request["operation"], request["body"], query)
    text, _ = learned(run)
    found = Policy(dump(compile_text(text.encode(), "learned.yaml")))
    for request in requests:
        row = OPERATIONS[request["operation"]]
        names = {part[1:-1]: "x1" for part in row.segments if part.startswith("{")}
        target = row.target("v1.41", names, [(key, value) for key, value in request["query"]])
        body = json.dumps(request["body"]).encode() if request["body"] is not None else b""
        assert judge(found, KIM, row.method, target, body).refusal is None


def test_nothing_to_learn_from(recording: Recording, run: Any) -> None:
    recording.call("ContainerCreate", {"Image": "a"}, status=409)
    assert run("learn")[0] == 1


def test_what_no_role_allows_is_said(recording: Recording, run: Any) -> None:
    recording.call("ContainerList")
    recording.call("ContainerCreate", {"Image": "a", "NoSuchField": 1})
    code, out, err = run("learn")
    assert code == 1
    assert "no role allows it: ContainerCreate: refused: NoSuchField" in err
    assert "ContainerList" in out
