"""Whatever a developer makes has its owner's label from the first moment, and only sockproxy writes that label."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest

from tests.integration.conftest import People
from tests.support.belongings import OWNER, SLEEP, tar
from tests.support.proxy import Proxy
from tests.support.users import Users

pytestmark = [pytest.mark.daemon, pytest.mark.root]

WITH_VOLUMES = 'FROM busybox\nVOLUME /data/\nVOLUME ["/more", "/third"]\n'


def test_everything_made_is_labelled(people: People) -> None:
    bob, root = people.bob, people.root
    mounts = [
        {"Type": "volume", "Target": "/c"},
        {"Type": "volume", "Source": "inline", "Target": "/d", "VolumeOptions": {"Labels": {"a": "b"}}},
    ]
    config = {"Binds": ["named:/a", "/b"], "Mounts": mounts}
    container = bob.run("bob", HostConfig=config, Volumes={"/e": {}}, Labels={"mine": "1"})
    assert root.get("GET", f"/containers/{container}/json")["Config"]["Labels"] == {"mine": "1", **bob.label}
    bob.volume("made")
    assert bob.get("POST", "/volumes/create", {})["Labels"].items() >= bob.label.items()
    assert bob.get("POST", "/volumes/create", {"Name": ""})["Labels"].items() >= bob.label.items()
    volumes = root.volumes()
    assert len(volumes) == 8
    assert volumes["inline"] == {"a": "b", **bob.label}
    assert all(labels.items() >= bob.label.items() for labels in volumes.values()), volumes
    network = bob.network("bobs")
    assert root.get("GET", f"/networks/{network}")["Labels"] == bob.label


def test_volumes_of_an_image_are_labelled(people: People, proxy: Proxy, users: Users) -> None:
    bob, root = people.bob, people.root
    bob.build(WITH_VOLUMES, "t=volumes")
    for number, arguments in enumerate(
        (
            [],
            ["-v", "kept:/data"],
            ["--mount", "type=volume,src=kept,dst=/data/"],
            ["--mount", "type=tmpfs,dst=/data"],
            ["-v", "/more/", "-v", "/other"],
            ["--volumes-from", "run0"],
        )
    ):
        done = proxy.docker(users.bob, "run", "--name", f"run{number}", *arguments, "volumes", "ls", "/data", "/more")
        assert done.returncode == 0, done.stderr
    assert all(labels == bob.label for labels in root.volumes().values()), root.volumes()
    assert len(root.volumes()) == 3 + 1 + 2 + 2 + 2 + 4
    proxy.docker(users.bob, "rm", "-v", *(f"run{number}" for number in range(6)))
    assert root.volumes() == {"kept": bob.label}
    assert proxy.docker(users.bob, "run", "--rm", "volumes", "touch", "/data/x").returncode == 0
    assert root.volumes() == {"kept": bob.label}


def test_no_volume_is_left_by_a_create_that_fails(people: People, proxy: Proxy, users: Users) -> None:
    for arguments in (["no-such-image"], ["--privileged", "busybox"], ["--network", "nothing", "busybox"]):
        done = proxy.docker(users.bob, "create", "--pull", "never", "-v", "new:/x", "-v", "/y", *arguments)
        assert done.returncode != 0
        assert people.root.volumes() == {}


def test_images_are_labelled(people: People) -> None:
    bob = people.bob
    dockerfile = f"FROM busybox\nLABEL {OWNER}={people.alice.user.uid} a=b\n"
    trigger, second = f"FROM first\nONBUILD LABEL {OWNER}=0\n", "FROM first\nRUN true\n"
    for name, text in (("first", dockerfile), ("second", second), ("third", "FROM busybox\n"), ("trigger", trigger)):
        assert b"Successfully built" in bob.build(text, f"t={name}").body
        assert people.root.get("GET", f"/images/{name}/json")["Config"]["Labels"][OWNER] == str(bob.user.uid)
    answer = bob.build("FROM trigger\n", "t=triggered")  # its steps would be root's before they are bob's
    assert (answer.status, "are sockproxy's own" in answer.message) == (403, True)
    container = bob.create("bob", Image="first")
    bob.get("POST", f"/commit?container={container}&repo=committed")
    bob.get("POST", f"/commit?container={container}&repo=changed&changes=LABEL%20x=y", {"Labels": {"z": "1"}})
    for name in ("committed", "changed"):
        assert people.root.get("GET", f"/images/{name}/json")["Config"]["Labels"][OWNER] == str(bob.user.uid)


def test_a_container_does_not_inherit_its_images_owner(people: People) -> None:
    alice, bob = people.alice, people.bob
    people.admin.build("FROM busybox\n", "t=the-admins")
    container = bob.create("bob", Image="the-admins")
    assert people.root.get("GET", f"/containers/{container}/json")["Config"]["Labels"] == bob.label
    assert alice.ask("GET", f"/containers/{container}/json").status == 404
    bob.get("POST", f"/commit?container={container}&repo=of-hers")
    assert people.root.get("GET", "/images/of-hers/json")["Config"]["Labels"] == bob.label


@pytest.mark.parametrize("key", [OWNER, OWNER.upper(), "io.sockproxy", "io.sockproxy.other", "IO.sockproxy.Owner"])
def test_reserved_labels_are_refused(people: People, key: str) -> None:
    bob, labels = people.bob, {key: "0"}
    container = bob.create("bob")
    before = people.root.state()
    mount = {"Type": "volume", "Target": "/a", "VolumeOptions": {"Labels": labels}}
    spelled = quote(json.dumps(labels))
    changes = [f"LABEL {key}=0", f'LABEL "{key}"="0"', f"LABEL {key} 0", f"LABEL a=b {key}=0", f"ONBUILD LABEL {key}=0"]
    for target, body in (
        ("/containers/create", {"Image": "busybox", "Labels": labels}),
        ("/containers/create", {"Image": "busybox", "HostConfig": {"Mounts": [mount]}}),
        ("/volumes/create", {"Name": "v", "Labels": labels}),
        ("/networks/create", {"Name": "n", "Labels": labels}),
        (f"/build?labels={spelled}", tar(Dockerfile="FROM busybox\n")),
        (f"/commit?container={container}", {"Labels": labels}),
        *((f"/commit?container={container}&changes={quote(change)}", None) for change in changes),
        (f"/images/create?fromSrc=-&repo=i&changes={quote(changes[0])}", tar(file="x")),
    ):
        answer = bob.ask("POST", target, body)
        assert answer.status == 403, (target, body, answer.body)
        assert "labels that begin with io.sockproxy are sockproxy's own" in answer.message
    assert people.root.state() == before


def test_a_line_of_changes_ends_where_it_does_for_the_daemon(people: People) -> None:
    """Its control characters end lines for Python: what is behind one was no LABEL to us, and a label to the daemon."""
    change = quote(f"LABEL a=b\x1cENV {OWNER}=0")
    target = f"/commit?container={people.bob.create('bob')}&repo=forged&changes={change}"
    assert people.root.ask("POST", target).status == 201
    assert people.root.get("GET", "/images/forged/json")["Config"]["Labels"][OWNER] == "0"
    people.root.get("DELETE", "/images/forged")
    for who in (people.bob, people.admin):
        answer = who.ask("POST", target)
        assert answer.status == 400  # by the front; what a hostile one would let through: see `test_rules_filesystem`


def test_a_container_is_made_anew_from_what_inspect_shows(people: People) -> None:
    """As watchtower does, and interfaces that have a button for it."""
    bob = people.bob
    shown = bob.get("GET", f"/containers/{bob.run('bob')}/json")
    networks = {"EndpointsConfig": shown["NetworkSettings"]["Networks"]}
    for field in ("CgroupnsMode", "CgroupParent"):  # "host" by itself with cgroups of version 1; the tests' own name
        del shown["HostConfig"][field]
    body = {**shown["Config"], "HostConfig": shown["HostConfig"], "NetworkingConfig": networks}
    renewed = bob.get("GET", f"/containers/{bob.get('POST', '/containers/create', body)['Id']}/json")
    assert renewed["Config"]["Labels"] == shown["Config"]["Labels"]
    assert renewed["HostConfig"].items() >= shown["HostConfig"].items()


def test_an_update_does_not_change_labels(people: People) -> None:
    container = people.bob.run("bob")
    assert people.bob.ask("POST", f"/containers/{container}/update", {"Labels": {OWNER: "0"}}).status == 403
    assert people.root.get("GET", f"/containers/{container}/json")["Config"]["Labels"] == people.bob.label


def test_what_was_there_before_is_the_admins(people: People) -> None:
    root = people.root
    wish = {"Image": "busybox", "Cmd": SLEEP}
    container = root.get("POST", "/containers/create?name=old", wish)["Id"]
    root.get("POST", "/volumes/create", {"Name": "old"})
    network = root.get("POST", "/networks/create", {"Name": "old", "CheckDuplicate": True})["Id"]
    for path in (f"/containers/{container}/json", f"/networks/{network}", "/volumes/old"):
        assert people.bob.ask("GET", path).status == 404
        assert people.admin.ask("GET", path).status == 200
    assert people.bob.get("GET", "/containers/json?all=1") == []
    assert not people.bob.get("GET", "/volumes")["Volumes"]


def test_an_admins_driver_options_reach_the_volume(people: People, proxy: Proxy, users: Users) -> None:
    mount = "type=volume,src=fast,dst=/t,volume-driver=local,volume-opt=type=tmpfs,volume-opt=device=tmpfs"
    done = proxy.docker(users.root, "run", "--rm", "--mount", mount, "busybox", "mount")
    assert "tmpfs on /t type tmpfs" in done.stdout
    assert people.root.volumes() == {"fast": people.admin.label}
