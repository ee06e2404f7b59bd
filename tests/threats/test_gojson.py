"""Our reading of how Go reads JSON is the daemon's: odd bodies are sent to bare daemons, and looked at there."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sockproxy_helpers.judge import model
from tests.property.test_go_reads import without_rules
from tests.support.engines import Engines
from tests.support.gojson import GoError, read
from tests.support.raw import call

pytestmark = [pytest.mark.daemon, pytest.mark.root]

FIELDS = without_rules(*(table["ContainerCreate"].body for table in model.TABLES.values()))
MOUNT = '{"Type":"tmpfs","Target":"/a","TmpfsOptions":{"SizeBytes":4096}}'
# The rest of a body that names image and command; what the daemon then shows is compared for the fields that are read.
BODIES = [
    '"Env":["A=1"],"Env":["B=2"]',
    '"Env":["A=1","B=2"],"Env":["C=3"]',
    '"env":["A=1"]',
    '"\\u0045nv":["A=1"]',
    '"Env":["A=1"],"ENV":null',
    '"OnBuild":["A",null]',
    '"Labels":{"a":"1","b":"2"},"Labels":{"b":"3","c":"4"}',
    '"Labels":{"a":"1"},"Labels":null',
    '"Labels":{"a":"1","A":"2"}',
    '"Label\u017f":{"a":"1"}',
    '"Labels":{"a":null}',
    '"Labels":{"a":"1","a":null}',
    '"User":"a","User":null',
    '"User":"a","user":"b"',
    '"User":1',
    '"User":"\\ud800"',
    '"User":"\\ud83d\\ude00"',
    '"User":"a\x01"',
    '"Tty":"true"',
    '"Tty":1',
    '"Entrypoint":"one"',
    '"Entrypoint":["one"],"Entrypoint":["two","three"]',
    '"Entrypoint":["one"],"Entrypoint":null',
    '"StopTimeout":5,"StopTimeout":null',
    '"StopTimeout":5.0',
    '"StopTimeout":1e1',
    '"StopTimeout":99999999999999999999',
    '"StopTimeout":-0',
    '"StopTimeout":05',
    '"Healthcheck":{"Test":["CMD","a"],"Retries":3},"Healthcheck":{"Retries":4}',
    '"Healthcheck":{"Test":["CMD","a"]},"Healthcheck":null',
    '"HostConfig":{"Memory":67108864},"HostConfig":{"CpuShares":7}',
    '"HostConfig":{"Memory":67108864},"HostConfig":{"Memory":null}',
    '"HostConfig":{"Memory":67108864},"HostConfig":null',
    '"HostConfig":{"memory":67108864,"MEMORY":134217728}',
    '"hostCONFIG":{"\u212aernelMemory":0,"CpuShare\u017f":9}',
    '"HostConfig":{"CapAdd":"CHOWN"}',
    '"HostConfig":{"CapAdd":["CHOWN","KILL"],"CapAdd":"FOWNER"}',
    '"HostConfig":{"Init":true,"Init":null}',
    '"HostConfig":{"Init":true},"HostConfig":{"Init":false}',
    '"HostConfig":{"ReadonlyPaths":["/a"],"ReadonlyPaths":[]}',
    '"HostConfig":{"MaskedPaths":null}',
    '"HostConfig":{"DnsSearch":["a","b"],"DnsSearch":["c"]}',
    f'"HostConfig":{{"Mounts":[{MOUNT}]}}',
    f'"HostConfig":{{"Mounts":[{MOUNT}],"Mounts":[{{"TmpfsOptions":{{"Mode":511}}}}]}}',
    f'"HostConfig":{{"Mounts":[{MOUNT}],"Mounts":[{{"TmpfsOptions":null}}]}}',
    '"HostConfig":{"RestartPolicy":{"Name":"on-failure"},"restartpolicy":{"MaximumRetryCount":3}}',
    '"HostConfig":{"LogConfig":{"Type":"local","Config":{"max-size":"1m"}},"LogConfig":{"Config":{"max-file":"2"}}}',
    '"HostConfig":{"PortBindings":{"80/tcp":[{"HostPort":"8080","HostIp":"127.0.0.1"}],"80/tcp":[{"HostPort":"8081"}]}}',
    '"HostConfig":{"Sysctls":{"net.core.somaxconn":"9"},"Sysctls":{}}',
    '"HostConfig":[]',
    '"HostConfig":{"Binds":"/a:/b"}',
    '"HostConfig":{"Binds":[["/a:/b"]]}',
    '"X":1,"":2,"\\u0000":3',
    '"Image ":"x"',
]


@pytest.mark.parametrize("version", ["20", "28"])
@pytest.mark.parametrize("rest", BODIES)
def test_read_as_the_daemon_reads(engines: Engines, version: str, rest: str) -> None:
    engine = engines.get(version)
    text = f'{{"Image":"busybox","Cmd":["true"],{rest}}}'.encode()
    made = call(engine.socket, "POST", "/containers/create", text, Content_Type="application/json")
    try:
        expected = read(FIELDS, text)
    except GoError:
        assert made.status >= 400, made.body
        return
    assert made.status == 201, made.body
    found = call(engine.socket, "GET", f"/containers/{made.json['Id']}/json").json
    call(engine.socket, "DELETE", f"/containers/{made.json['Id']}?force=1&v=1")
    host = expected.pop("HostConfig", {})
    del expected["Image"]
    assert shown(found["Config"], expected) == expected
    assert shown(found["HostConfig"], host) == host
    for fields, given in ((FIELDS, found["Config"]), (FIELDS["HostConfig"].children, found["HostConfig"])):
        for name in ("Labels", "Env", "User", "Entrypoint", "StopTimeout", "Healthcheck", "Memory", "Init", "Mounts"):
            if name in fields and name not in (expected if given is found["Config"] else host):
                assert not (given.get(name) or None) or name == "Env", (name, given[name])  # type: ignore[attr-defined]


def shown(value: Any, like: Any) -> Any:
    """Take of what the daemon shows what was read; it adds fields of its own, and images' variables."""
    if isinstance(like, dict):
        return {key: shown(value.get(key), item) for key, item in like.items()}
    if isinstance(like, list) and isinstance(value, list):
        value = [item for item in value if item != "PATH=/bin"]
        return [shown(item, other) for item, other in zip(value, like, strict=True)]
    return type(like)() if value is None and not isinstance(like, bool) else value


@pytest.mark.parametrize(("version", "status"), [("20", 201), ("28", 400)])
def test_what_stands_behind_the_end(engines: Engines, version: str, status: int) -> None:
    text = b'{"Image":"busybox","Cmd":["true"]} {"Image":"other"}'
    made = call(engines.get(version).socket, "POST", "/containers/create", text, Content_Type="application/json")
    assert made.status == status
    assert read(FIELDS, text, trailing=True)["Image"] == "busybox"
    with pytest.raises(GoError):
        read(FIELDS, text)
    if status == 201:
        call(engines.get(version).socket, "DELETE", f"/containers/{json.loads(made.body)['Id']}")
