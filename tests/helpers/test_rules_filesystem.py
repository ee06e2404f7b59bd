"""What of the host's files a container may see, and what builds, images and volumes may do."""

from __future__ import annotations

import json

import pytest

from sockproxy_helpers.errors import Malformed, Refused
from sockproxy_helpers.system.caller import Caller
from tests.support.judging import ADMIN, DEVELOPER, KIM, OWNED, create, judge


def mount(**fields: object) -> dict[str, object]:
    return {"Mounts": [{"Type": "bind", "Source": "/home/kim/a", "Target": "/a", **fields}]}


@pytest.mark.parametrize(
    ("bind", "sent"),
    [
        ("/home/kim:/a", "/home/kim:/a"),
        ("/home/kim/:/a:rw", "/home/kim:/a:rw"),
        ("/home//kim/./b/:/a:ro", "/home/kim/b:/a:ro"),
        ("/srv/data:/a:ro", "/srv/data:/a:ro"),
        ("/srv/data/x:/a:rprivate,ro", "/srv/data/x:/a:rprivate,ro"),
        ("vol:/a", "vol:/a"),
        ("vol_1.x-y:/a:nocopy", "vol_1.x-y:/a:nocopy"),
        ("/anonymous", "/anonymous"),
        ("/home/kim/a b\u00e9:/a:cached", "/home/kim/a b\u00e9:/a:cached"),
    ],
)
def test_binds(bind: str, sent: str) -> None:
    assert create({"Binds": [bind]})["Binds"] == [sent]


@pytest.mark.parametrize(
    ("bind", "rule"),
    [
        ("/:/h", "binds"),
        ("/etc:/h:ro", "binds"),
        ("/home:/h", "binds"),
        ("/home/kim2:/h", "binds"),
        ("/home/kimono/x:/h", "binds"),
        ("/srv/data:/h", "binds"),
        ("/srv/data:/h:rw", "binds"),
        ("/srv/data:/h:cached", "binds"),
        ("/home/kim:/a:z", "security_options"),
        ("/home/kim:/a:ro,Z", "security_options"),
        ("/home/kim:/a:rshared", "security_options"),
        ("/home/kim:/a:slave", "security_options"),
        ("vol:/a:z", "security_options"),
    ],
)
def test_binds_refused(bind: str, rule: str) -> None:
    with pytest.raises(Refused, match=r"HostConfig\.Binds\[1\]: .*allowed: ") as refusal:
        create({"Binds": ["vol:/x", bind]})
    assert refusal.value.rule == rule
    create({"Binds": [bind]}, ADMIN)


@pytest.mark.parametrize(
    "bind",
    [
        "a:b",
        "./x:/a",
        "~:/a",
        "..:/a",
        "x",
        "",
        ":/a",
        "a:/b:ro:z",
        "/home/kim/\n:/a",
        "/a:",
        "a/b:/c",
    ],
)
def test_odd_binds(bind: str) -> None:
    with pytest.raises(Malformed):
        create({"Binds": [bind]}, ADMIN)


@pytest.mark.parametrize("path", ["/home/kim/..", "/home/kim/../../etc", "/srv/data/../../home/kim/../root"])
def test_paths_that_climb_are_judged_by_where_they_lead(path: str) -> None:
    for host in ({"Binds": [f"{path}:/a"]}, mount(Source=path)):
        with pytest.raises(Refused, match="allowed: "):
            create(host)


def test_paths_are_sent_cleaned() -> None:
    """The daemon cleans them by their text too (Go's filepath.Clean): what was judged is what is bound."""
    assert create({"Binds": ["/home/kim/a/../b/./c//:/x"]})["Binds"] == ["/home/kim/b/c:/x"]
    assert create(mount(Source="/home/kim/a/.."))["Mounts"][0]["Source"] == "/home/kim"  # type: ignore[index]


@pytest.mark.parametrize("image", ["moby/buildkit", "moby/buildkit:buildx-stable-1", "docker.io/moby/buildkit:v1"])
def test_buildkit_in_a_container_is_told_apart(image: str) -> None:
    with pytest.raises(Refused, match="docker buildx use default"):
        judge("ImageCreate", query=[("fromImage", image)])
    judge("ImageCreate", query=[("fromImage", image)], rules=ADMIN)
    judge("ImageCreate", query=[("fromImage", "xmoby/buildkit2")])


@pytest.mark.parametrize("home", ["", "/", "//", "relative", "/home/../etc"])
def test_no_home_of_ones_own(home: str) -> None:
    nobody = Caller(7, 7, 1, "daemon", [], home)
    with pytest.raises(Refused, match="allowed: /srv/data ro"):
        judge("ContainerCreate", {"HostConfig": {"Binds": ["/etc:/h"]}}, caller=nobody)


def test_no_binds() -> None:
    with pytest.raises(Refused, match="no host paths, named volumes"):
        create({"Binds": ["/home/kim:/h"]}, DEVELOPER | {"binds": []})
    with pytest.raises(Refused):
        judge(
            "ContainerCreate",
            {"HostConfig": {"Binds": ["/home/kim:/h"]}},
            rules=DEVELOPER | {"binds": None},
            caller=KIM,
        )


def test_mounts() -> None:
    host = create(mount(Source="/home/kim//a/", BindOptions={"Propagation": "rprivate", "CreateMountpoint": True}))
    assert host["Mounts"] == [
        {
            "Type": "bind",
            "Source": "/home/kim/a",
            "Target": "/a",
            "BindOptions": {"Propagation": "rprivate", "CreateMountpoint": True},
        }
    ]
    for fields in (
        {
            "Type": "volume",
            "Source": "v",
            "VolumeOptions": {"NoCopy": True, "DriverConfig": {}, "Subpath": "x", "Labels": {"a": "b"}},
        },
        {"Type": "volume", "Source": ""},
        {"Type": "volume", "VolumeOptions": {"DriverConfig": {"Name": "local", "Options": {}}}, "Source": "v"},
        {
            "Type": "tmpfs",
            "Source": "",
            "TmpfsOptions": {"SizeBytes": 1, "Mode": 511, "Options": [["exec"], ["uid", "1"]]},
        },
        {"Type": "image", "Source": "busybox", "ImageOptions": {"Subpath": "a"}},
        {"Source": "/srv/data", "ReadOnly": True},
    ):
        create(mount(**fields))


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({"Source": "/etc", "ReadOnly": True}, "binds"),
        ({"Source": "/srv/data"}, "binds"),
        ({"Source": "/srv/data", "ReadOnly": False}, "binds"),
        ({"Source": "/srv/data", "ReadOnly": True, "BindOptions": {"ReadOnlyNonRecursive": True}}, "binds"),
        ({"BindOptions": {"Propagation": "rshared"}}, "security_options"),
        ({"Type": "npipe"}, ""),
        ({"Type": "cluster"}, ""),
        ({"Type": "BIND"}, ""),
        ({"Type": ""}, ""),
        (
            {"Type": "volume", "Source": "v", "VolumeOptions": {"DriverConfig": {"Options": {"type": "none"}}}},
            "driver_options",
        ),
        ({"Type": "volume", "Source": "v", "VolumeOptions": {"DriverConfig": {"Name": "nfs"}}}, "driver_options"),
        ({"ClusterOptions": {"a": 1}}, ""),
    ],
)
def test_mounts_refused(fields: dict[str, object], rule: str) -> None:
    with pytest.raises(Refused, match=r"HostConfig\.Mounts") as refusal:
        create(mount(**fields))
    assert refusal.value.rule == rule


@pytest.mark.parametrize(
    "fields",
    [
        {"Source": ""},
        {"Source": "home"},
        {"Type": "volume", "Source": "/etc"},
        {"Type": "tmpfs"},
        {"Source": "/a\x01"},
    ],
)
def test_odd_mounts(fields: dict[str, object]) -> None:
    with pytest.raises(Malformed):
        create(mount(**fields), ADMIN)


@pytest.mark.parametrize(
    ("host", "rule"),
    [
        ({"VolumeDriver": "nfs"}, "driver_options"),
        ({"StorageOpt": {"dm.x": "1"}}, "driver_options"),
    ],
)
def test_other_mounts(host: dict[str, object], rule: str) -> None:
    with pytest.raises(Refused) as refusal:
        create(host)
    assert refusal.value.rule == rule
    create(host, ADMIN)


def test_free_mounts() -> None:
    create({"VolumeDriver": "local", "StorageOpt": {"size": "1g"}, "Tmpfs": {"/run": "size=1m"}}, Volumes={"/data": {}})
    with pytest.raises(Malformed):
        judge("ContainerCreate", {"Volumes": {"a:/b": {}}})
    with pytest.raises(Malformed):
        create({"Tmpfs": {"run": ""}})


@pytest.mark.parametrize(
    "body",
    [{"Driver": "nfs"}, {"DriverOpts": {"type": "none", "o": "bind", "device": "/etc"}}],
)
def test_volumes(body: dict[str, object]) -> None:
    with pytest.raises(Refused) as refusal:
        judge("VolumeCreate", {"Name": "v", **body})
    assert refusal.value.rule == "driver_options"
    judge("VolumeCreate", {"Name": "v", **body}, rules=ADMIN)
    for name in ("../x", "a b", "/etc"):
        with pytest.raises(Malformed):
            judge("VolumeCreate", {"Name": name})
    assert judge("VolumeCreate", {"Name": "", "Driver": "local", "DriverOpts": {}})


@pytest.mark.parametrize("term", ["nginx", "library/nginx", "some_one/x.y", "a/b/c", "127.0.0.1:80", "localhost"])
def test_searches(term: str) -> None:
    assert ("term", term) in judge("ImageSearch", query=[("term", term)])[0]


@pytest.mark.parametrize(
    "host", ["127.0.0.1:80", "localhost", "169.254.169.254", "[::1]", "a.b", "http:", "", "A", "é"]
)
def test_searches_elsewhere(host: str) -> None:
    query = [("term", f"{host}/x")]
    with pytest.raises(Refused, match="search at other hosts") as refusal:
        judge("ImageSearch", query=query)
    assert (refusal.value.rule, refusal.value.field) == ("fetch", "?term")
    assert judge("ImageSearch", query=query, rules=ADMIN)[0]


@pytest.mark.parametrize(
    ("key", "value", "rule"),
    [
        ("remote", "http://127.0.0.1/", "fetch"),
        ("networkmode", "host", "host_namespaces"),
        ("cgroupparent", "/a", "cgroup_parent"),
        ("securityopt", "seccomp=unconfined", "security_options"),
        ("isolation", "hyperv", "driver_options"),
        ("memory", "99999999999", "limits"),
        ("memswap", "-1", "limits"),
        ("cpuquota", "-1", "limits"),
        ("cpuquota", "400001", "limits"),
        ("shmsize", "99999999999", "limits"),
    ],
)
def test_builds(key: str, value: str, rule: str) -> None:
    with pytest.raises(Refused) as refusal:
        judge("ImageBuild", query=[(key, value)])
    assert refusal.value.rule == rule
    assert refusal.value.field == "?" + key
    assert (key, value) in judge("ImageBuild", query=[(key, value)], rules=ADMIN)[0]


@pytest.mark.parametrize(
    ("key", "value"), [("version", "2"), ("session", "a"), ("buildid", "a"), ("outputs", '[{"Type":"local"}]')]
)
def test_no_buildkit_by_way_of_build(key: str, value: str) -> None:
    with pytest.raises(Refused, match="docker buildx build" if key == "version" else "shared daemon"):
        judge("ImageBuild", query=[(key, value)], rules=ADMIN)


CGROUP = ("cgroupparent", "/sockproxy/1000")


def test_builds_are_bounded() -> None:
    swept = [("rm", "1"), ("forcerm", "1")]
    ours = ("labels", json.dumps(OWNED, separators=(",", ":")))
    assert judge("ImageBuild")[0] == [*swept, ("memory", str(8 << 30)), ("cpuquota", "400000"), CGROUP, ours]
    query = [
        ("t", "a"),
        ("t", "b"),
        ("memory", "5"),
        ("cpuperiod", "1000"),
        ("cpuquota", "4000"),
        ("buildargs", '{"A":null,"B":"1"}'),
    ]
    assert judge("ImageBuild", query=query)[0] == [*query[:2], *swept, *query[2:-1], CGROUP, query[-1], ours]
    assert judge("ImageBuild", query=[("version", "1"), ("outputs", "[]"), ("session", "")], rules=ADMIN)[0] == [
        ours,
        ("version", "1"),
    ]
    with pytest.raises(Malformed):
        judge("ImageBuild", query=[("version", "3")])


def test_import() -> None:
    judge("ImageCreate", query=[("fromSrc", "-"), ("changes", "CMD a"), ("changes", "ENV a=b")])
    judge("ImageCreate", query=[("fromImage", "busybox"), ("tag", "1")])
    with pytest.raises(Refused, match="URL"):
        judge("ImageCreate", query=[("fromSrc", "http://169.254.169.254/")])


@pytest.mark.parametrize(
    "change",
    [
        "LABEL a=b c=\"d e\" 'f'='$g'",
        "label a=$b",
        "LABEL a some words",
        'CMD ["a\\n"]',
        "ENV io.sockproxy.owner=0",
        "",
        "ENV a=b\nLABEL c=d\n",
        "ONBUILD RUN x",
        "CMD",
    ],
)
def test_changes(change: str) -> None:
    judge("ImageCommit", query=[("changes", change)])


@pytest.mark.parametrize(
    "change",
    [
        "LABEL io.sockproxy.owner=0",
        "label IO.sockproxy.x=0",
        'LABEL "io.sockproxy.owner"=0',
        "LABEL 'io.sockproxy.owner'=0",
        "LABEL a=b io.sockproxy.owner=0",
        "LABEL io.sockproxy.owner 0",
        "LABEL io.sock\\proxy.owner=0",
        "LABEL $X=0",
        "LABEL ${X}y=0",
        "  LABEL\tio.sockproxy.owner=0",
        "ONBUILD LABEL io.sockproxy.owner=0",
        "ENV a=b\nLABEL io.sockproxy.owner=0",
        'LABEL a="x\\" io.sockproxy.owner=0 "',
        'LABEL "io.sock"proxy.owner=0',
        "LABEL a=b $X",
        "LABEL",
        *(
            f"LABEL a=b{end}ENV io.sockproxy.owner=0" for end in "\x1c\x1d\x1e\x0b\x0c\x85\u2028\r"
        ),  # str.splitlines' ends
        *(f"LABEL a=b{end}io.sockproxy.owner=0" for end in "\x1c\x1f\x0b\x85\xa0\r"),
    ],
)
def test_changes_with_our_labels(change: str) -> None:
    for name in ("ImageCommit", "ImageCreate"):
        with pytest.raises(Refused):
            judge(name, query=[("changes", change)], rules=ADMIN)


@pytest.mark.parametrize("change", ["ENV a \\\nLABEL b=c", "# escape=`", "LABEL a=b `", "=", "LABEL a=b\\"])
def test_odd_changes(change: str) -> None:
    with pytest.raises(Malformed):
        judge("ImageCommit", query=[("changes", change)], rules=ADMIN)


def test_the_daemons_socket_may_be_asked_for_under_its_names() -> None:
    for path in ("/var/run/docker.sock", "/run//docker.sock"):
        create({"Binds": [f"{path}:/s:ro"]})
    with pytest.raises(Refused):
        create({"Binds": ["/var/run/docker.sock.real:/s"]})
