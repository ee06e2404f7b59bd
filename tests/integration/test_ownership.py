"""Another's things do not exist: whatever names them, in whatever spelling, is answered as for a name that nothing has.

Judged by the engine: after all attempts everything of Alice's is as it was.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.integration.conftest import People
from tests.support.belongings import SLEEP, Person, numberless, tar, words
from tests.support.proxy import Proxy
from tests.support.users import Users

pytestmark = [pytest.mark.daemon, pytest.mark.root]

NOBODYS = "0123456789abcdef" * 4
READS = [
    "/containers/REF/json",
    "/containers/REF/json?size=1",
    "/containers/REF/top",
    "/containers/REF/logs?stdout=1",
    "/containers/REF/changes",
    "/containers/REF/stats?stream=0",
    '/containers/json?all=1&filters={"before":["REF"]}',
    '/containers/json?all=1&filters={"since":{"REF":true}}',
    "/v1.24/containers/REF/json",
]
CONTAINER: list[tuple[str, str, object]] = [
    *(("GET", target, None) for target in READS),
    *(
        ("POST", f"/containers/REF/{verb}", None)
        for verb in ("start", "stop?t=0", "restart?t=0", "kill", "pause", "unpause", "rename?name=new", "wait")
    ),
    ("POST", "/v1.24/containers/REF/kill", None),
    ("POST", "/containers/REF/resize?h=1&w=1", None),
    ("POST", "/containers/REF/attach?stream=1&stdout=1", None),
    ("GET", "/containers/REF/attach/ws?stream=1", None),
    ("POST", "/containers/REF/update", {"CpuShares": 7}),
    ("POST", "/containers/REF/exec", {"Cmd": ["touch", "/bob"]}),
    ("DELETE", "/containers/REF?force=1&v=1", None),
    ("DELETE", "/containers/REF?link=1", None),
    ("GET", "/containers/REF/archive?path=/etc", None),
    ("HEAD", "/containers/REF/archive?path=/etc", None),
    ("PUT", "/containers/REF/archive?path=/", tar(bob="x")),
    ("GET", "/containers/REF/export", None),
    ("POST", "/commit?container=REF&repo=stolen", None),
    ("POST", "/networks/bridge/connect", {"Container": "REF"}),
    ("POST", "/networks/bridge/disconnect", {"Container": "REF", "Force": True}),
    ("POST", "/networks/bobs/connect", {"Container": "REF"}),
    *(
        ("POST", "/containers/create", {"Image": "busybox", "HostConfig": {field: value}})
        for field, value in (
            ("PidMode", "container:REF"),
            ("IpcMode", "container:REF"),
            ("NetworkMode", "container:REF"),
            ("VolumesFrom", ["REF"]),
            ("VolumesFrom", ["REF:ro"]),
            ("Links", ["REF:db"]),
            ("Links", ["/REF:/x/db"]),
            ("Links", ["REF"]),
        )
    ),
    ("POST", "/build?networkmode=container:REF", tar(Dockerfile="FROM busybox\nRUN true\n")),
]
NETWORK: list[tuple[str, str, object]] = [
    ("GET", "/networks/REF", None),
    ("GET", "/networks/REF?verbose=1&scope=local", None),
    ("GET", "/v1.24/networks/REF", None),
    ("DELETE", "/networks/REF", None),
    ("POST", "/networks/REF/connect", {"Container": "bob"}),
    ("POST", "/networks/REF/disconnect", {"Container": "bob", "Force": True}),
    ("POST", "/containers/create", {"Image": "busybox", "HostConfig": {"NetworkMode": "REF"}}),
    ("POST", "/containers/create", {"Image": "busybox", "NetworkingConfig": {"EndpointsConfig": {"REF": {}}}}),
    ("POST", "/build?networkmode=REF", tar(Dockerfile="FROM busybox\nRUN true\n")),
]
EXEC: list[tuple[str, str, object]] = [
    ("GET", "/exec/REF/json", None),
    ("POST", "/exec/REF/start", {"Detach": True}),
    ("POST", "/exec/REF/start", {"Detach": False, "Tty": False}),
    ("POST", "/exec/REF/resize?h=1&w=1", None),
]
VOLUME: list[tuple[str, str, object]] = [
    ("GET", "/volumes/REF", None),
    ("DELETE", "/volumes/REF", None),
    ("DELETE", "/volumes/REF?force=1", None),
]


def put(value: Any, reference: str) -> Any:
    """Put a reference where REF stands."""
    if value is None or isinstance(value, bytes):
        return value
    return json.loads(json.dumps(value).replace("REF", reference))


def assert_nothing_there(who: Person, requests: list[tuple[str, str, object]], theirs: str, nothing: str) -> None:
    for method, target, body in requests:
        target = target.replace('"', "%22")
        asked = who.ask(method, put(target, theirs), put(body, theirs))
        expected = who.ask(method, put(target, nothing), put(body, nothing))
        assert words(asked, theirs) == words(expected, nothing), (method, target, body)
        create = target.startswith("/containers/create")  # where 404 would tell the CLI to pull the image
        joins_shared = target == "/networks/bridge/connect"  # refused whatever is to be connected
        assert asked.status == (400 if create else 403 if joins_shared else 404), (method, target, asked.body)
        if joins_shared:
            assert "may not join the network bridge, which all share" in asked.message


class Theirs:
    """What Alice has: a container that runs, with an exec, on a network, with a volume and an anonymous one."""

    def __init__(self, people: People) -> None:
        alice = people.alice
        self.network, self.volume = alice.network("alices"), alice.volume("alices-data")
        config = {"NetworkMode": "alices", "Binds": ["alices-data:/data", "/anonymous"], "IpcMode": "shareable"}
        self.container = alice.run("alices-db", HostConfig=config, Env=["SECRET=s3cret"])
        self.exec = alice.exec(self.container, "touch", "/by-exec")
        self.anonymous = next(name for name in people.root.volumes() if name != self.volume)
        self.bob = people.bob.run("bob")
        people.bob.network("bobs")


def spellings(name: str, identity: str) -> list[tuple[str, str]]:
    """List references to an object, each with one of the same kind that nothing has."""
    return [(name, "nothing"), (identity, NOBODYS), (identity[:12], NOBODYS[:12]), (identity[:6], NOBODYS[:6])]


def test_references_to_what_is_anothers(people: People) -> None:
    theirs = Theirs(people)
    before = people.root.state()
    for reference, nothing in spellings("alices-db", theirs.container):
        assert_nothing_there(people.bob, CONTAINER, reference, nothing)
        assert_nothing_there(people.carol, [("GET", target, None) for target in READS], reference, nothing)
    for reference, nothing in spellings("alices", theirs.network):
        assert_nothing_there(people.bob, NETWORK, reference, nothing)
        assert_nothing_there(people.carol, NETWORK[:3], reference, nothing)
    assert_nothing_there(people.bob, EXEC, theirs.exec, NOBODYS)
    for volume in (theirs.volume, theirs.anonymous):
        assert_nothing_there(people.bob, VOLUME, volume, "nothing")
        assert_nothing_there(people.carol, VOLUME[:1], volume, "nothing")
    assert people.root.state() == before


def test_the_same_for_who_owns_them(people: People) -> None:
    """What is refused above works for Alice, else it would prove nothing."""
    theirs = Theirs(people)
    alice, removing = people.alice, ("DELETE", "wait", "kill", "stop", "restart", "pause", "attach", "rename", "ws")
    for reference, _ in spellings("alices-db", theirs.container):
        for method, target, body in CONTAINER:
            if any(word in method + target for word in removing) or "bobs" in target or "disconnect" in target:
                continue
            if "commit" in target or "build" in target or "Links" in str(body) or "connect" in target:
                continue
            target = target.replace('"', "%22")
            assert alice.ask(method, put(target, reference), put(body, reference)).status < 400, (target, body)
    assert alice.ask("POST", f"/exec/{theirs.exec}/start", {"Detach": True}).status == 200
    assert alice.ask("GET", f"/volumes/{theirs.anonymous}").status == 200
    for reference, _ in spellings("alices", theirs.network):
        assert alice.ask("GET", f"/networks/{reference}").status == 200


def test_through_the_cli(people: People, proxy: Proxy, users: Users) -> None:
    theirs = Theirs(people)
    before = people.root.state()
    container, network, volume = ("alices-db", "nothing"), ("alices", "nothing"), ("alices-data", "nothing")
    for command, (reference, nothing) in (
        (["inspect", "REF"], container),
        (["logs", "REF"], container),
        (["exec", "REF", "true"], container),
        (["rm", "-f", "REF"], container),
        (["cp", "REF:/etc/passwd", "-"], container),
        (["attach", "REF"], container),
        (["run", "--rm", "--pid", "container:REF", "busybox", "true"], container),
        (["run", "--rm", "--link", "REF:db", "busybox", "env"], container),
        (["run", "--rm", "--volumes-from", "REF", "busybox", "ls", "/data"], container),
        (["commit", "REF", "stolen"], container),
        (["network", "inspect", "REF"], network),
        (["network", "rm", "REF"], network),
        (["network", "connect", "REF", "bob"], network),
        (["run", "--rm", "--network", "REF", "busybox", "true"], network),
        (["volume", "inspect", "REF"], volume),
        (["volume", "rm", "REF"], volume),
    ):
        found = [
            proxy.docker(users.bob, *(word.replace("REF", name) for word in command)) for name in (reference, nothing)
        ]
        shown = [
            (done.returncode, done.stdout.replace(name, "REF"), numberless(done.stderr).replace(name, "REF"))
            for done, name in zip(found, (reference, nothing), strict=True)
        ]
        assert shown[0] == shown[1], command
        assert shown[0][0] != 0 or command[0] == "rm", command
    assert people.root.state() == before
    assert theirs.container in before["containers"]


def test_anothers_volume_can_not_be_mounted(people: People) -> None:
    theirs = Theirs(people)
    before = people.root.state()
    for volume in (theirs.volume, theirs.anonymous):
        for config in (
            {"Binds": [f"{volume}:/x"]},
            {"Binds": [f"{volume}:/x:ro"]},
            {"Mounts": [{"Type": "volume", "Source": volume, "Target": "/x"}]},
        ):
            wish = {"Image": "busybox", "HostConfig": config}
            for version in ("", "/v1.24", "/v1.40"):
                answer = people.bob.ask("POST", version + "/containers/create", wish)
                assert answer.status == 403
                assert f"the volume name {volume} is taken: choose another" in answer.message
        answer = people.bob.ask("POST", "/volumes/create", {"Name": volume, "Labels": {"a": "b"}})
        assert answer.status == 403
        assert "taken" in answer.message
    assert people.root.state() == before


def test_names_of_others_are_taken(people: People) -> None:
    """That a name is taken can't be hidden; whose it is, and what its ID is, can."""
    theirs = Theirs(people)
    before = people.root.state()
    for method, target, body in (
        ("POST", "/containers/create?name=alices-db", {"Image": "busybox"}),
        ("POST", "/containers/create?name=/alices-db", {"Image": "busybox"}),
        ("POST", "/containers/bob/rename?name=alices-db", None),
        ("POST", "/networks/create", {"Name": "alices"}),
    ):
        answer = people.bob.ask(method, target, body)
        assert answer.status == 403, target
        assert "name is taken" in answer.message.replace("alices-db ", "").replace("alices ", "")
        assert theirs.container not in answer.message
        assert theirs.network not in answer.message
    assert people.root.state() == before


@pytest.mark.parametrize("kind", ["container", "network"])
def test_names_that_look_like_ids(people: People, kind: str) -> None:
    """A name wins over the beginning of an ID: whoever is called like Alice's ID would get what is meant for it."""
    theirs = Theirs(people)
    identity = getattr(theirs, kind)
    bob, alice = people.bob, people.alice
    create = {
        "container": lambda name: bob.ask("POST", f"/containers/create?name={name}", {"Image": "busybox"}),
        "network": lambda name: bob.ask("POST", "/networks/create", {"Name": name}),
    }[kind]
    for name in (identity, identity[:12]):
        answer = create(name)
        assert answer.status == 403
        assert "looks like an ID" in answer.message
        if kind == "container":
            assert bob.ask("POST", f"/containers/bob/rename?name={name}").status == 403
    for name in (identity[:6], identity[:16]):
        assert create(name).status == 201
        target = f"/containers/{name}/json" if kind == "container" else f"/networks/{name}"
        assert alice.get("GET", target)["Id"] == identity  # and still reaches her own
        assert bob.get("GET", target)["Id"] != identity


def test_a_beginning_that_others_share_is_not_ambiguous(people: People) -> None:
    for _ in range(17):  # of 16 first digits, two are the same
        people.alice.create()
    own = people.bob.create()
    assert people.bob.get("GET", f"/containers/{own[0]}/json")["Id"] == own
    for digit in "0123456789abcdef":
        answer = people.bob.ask("GET", f"/containers/{digit}/json")
        assert (answer.status == 200) == (digit == own[0]), digit
        if answer.status != 200:
            assert (answer.status, answer.message) == (404, f"No such container: {digit}")


def test_an_endpoint_can_not_lead_to_anothers_network(people: People) -> None:
    """The daemon believes an endpoint's NetworkID more than the name it stands under."""
    theirs, bob = Theirs(people), people.bob
    for reference in (theirs.network, "alices"):
        endpoint = {"NetworkID": reference}
        for name in ("bobs", "bridge"):
            config = {"HostConfig": {"NetworkMode": name}, "NetworkingConfig": {"EndpointsConfig": {name: endpoint}}}
            bob.run(f"by-create-{name}-{len(reference)}", **config)
            connect = {"Container": "bob", "EndpointConfig": endpoint}
            bob.ask("POST", f"/networks/{name}/connect", connect)
            bob.ask("POST", f"/networks/{name}/disconnect", {"Container": "bob", "Force": True})
    stopped = bob.create("stopped")
    bob.ask("POST", "/networks/bobs/connect", {"Container": stopped, "EndpointConfig": {"NetworkID": theirs.network}})
    bob.get("POST", f"/containers/{stopped}/start")
    assert people.root.names(theirs.network) == {"alices-db"}
    assert "stopped" in people.root.names("bobs")


@pytest.mark.parametrize("by", ["create", "connect"])
def test_a_name_that_changes_hands_before_the_start(people: People, by: str) -> None:
    bob = people.bob
    network = bob.network("swapped")
    container = bob.create("late", HostConfig={"NetworkMode": "swapped" if by == "create" else "none"})
    if by == "connect":
        container = bob.create("later")
        bob.get("POST", "/networks/swapped/connect", {"Container": container})
    bob.get("DELETE", f"/networks/{network}")
    theirs = people.alice.network("swapped")
    assert bob.ask("POST", f"/containers/{container}/start").status in (400, 404, 500)
    assert people.root.names(theirs) == set()


def test_a_container_that_is_called_container(people: People) -> None:
    """A link to it would inject its environment."""
    people.alice.run("container", Env=["SECRET=s3cret"], ExposedPorts={"80/tcp": {}})
    own = people.bob.run("own")
    for link in ("container:own", f"container:{own}", "/container:/x/own"):
        wish = {"Image": "busybox", "Cmd": ["env"], "HostConfig": {"Links": [link]}}
        answer = people.bob.ask("POST", "/containers/create", wish)
        assert (answer.status, numberless(answer.message)) == (400, "sockproxy: No such container: container")


def test_a_builds_steps_are_not_the_images_owners(people: People) -> None:
    """The label alone would let Alice into such a step; and Bob can't build from her image."""
    alice, bob = people.alice, people.bob
    assert b"Successfully built" in alice.build("FROM busybox\nRUN true\n", "t=alices-image").body
    done = bob.build("FROM alices-image\nRUN false\n", "rm=0&forcerm=0")
    assert b"No such image: alices-image" in done.body
    assert people.root.get("GET", "/containers/json?all=1") == []  # nothing is left of it
    label = people.alice.label
    step = people.root.get("POST", "/containers/create?name=step", {"Image": "busybox", "Cmd": SLEEP, "Labels": label})
    assert_nothing_there(alice, CONTAINER[:5], step["Id"], NOBODYS)
    assert_nothing_there(alice, CONTAINER[:5], "step", "nothing")


def test_an_admin_sees_all(people: People) -> None:
    theirs, admin = Theirs(people), people.admin
    for reference, _ in spellings("alices-db", theirs.container):
        assert admin.get("GET", f"/containers/{reference}/json")["Id"] == theirs.container
    for reference, _ in spellings("alices", theirs.network):
        assert admin.get("GET", f"/networks/{reference}")["Id"] == theirs.network
    assert admin.ask("GET", "/containers/nothing/json").message == "No such container: nothing"
    listed = {item["Id"] for item in admin.get("GET", "/containers/json?all=1")}
    assert listed == {theirs.container, theirs.bob}
    assert {volume["Name"] for volume in admin.get("GET", "/volumes")["Volumes"]} == {theirs.volume, theirs.anonymous}
    assert admin.get("GET", f"/exec/{theirs.exec}/json")["ID"] == theirs.exec
    admin.get("POST", "/containers/create", {"Image": "busybox", "HostConfig": {"Binds": ["alices-data:/x"]}})
    admin.get("DELETE", f"/containers/{theirs.container}?force=1")
    assert people.alice.ask("GET", f"/containers/{theirs.container}/json").status == 404


def test_links_and_names_work_among_ones_own(people: People, proxy: Proxy, users: Users) -> None:
    bob = people.bob
    bob.network("bobs")
    bob.run("db", Env=["KEY=v"], HostConfig={"NetworkMode": "bridge"})
    bob.run("cache", HostConfig={"NetworkMode": "bobs"})
    links = ["--rm", "--link", "db", "--link", "db:other", "busybox"]
    for name in ("db", "other"):
        done = proxy.docker(users.bob, "run", *links, "nslookup", name)
        assert f"Name:\t{name}" in done.stdout, done.stdout + done.stderr
    linked = proxy.docker(users.bob, "run", *links, "env")
    assert linked.returncode == 0, linked.stderr
    assert "KEY=v" not in linked.stdout  # only links on the bridge that all share give the environment away
    options = ["--rm", "--network", "bobs", "--link", "cache:alias", "busybox", "nslookup"]
    for name in ("cache", "alias"):
        done = proxy.docker(users.bob, "run", *options, name)
        assert f"Name:\t{name}" in done.stdout, done.stdout + done.stderr
    inspected = bob.get("GET", "/containers/cache/json")["NetworkSettings"]["Networks"]
    assert list(inspected) == ["bobs"]
    assert proxy.docker(users.bob, "network", "disconnect", "bobs", "cache").returncode == 0
    assert proxy.docker(users.bob, "network", "connect", "--alias", "again", "bobs", "cache").returncode == 0
    assert "Name:\tagain" in proxy.docker(users.bob, "run", *options, "again").stdout
