"""Lists, events and sums tell of one's own things; prunes touch nothing else; no filter widens either."""

from __future__ import annotations

import json
import time
from typing import Any
from urllib.parse import quote

import pytest

from tests.integration.conftest import People
from tests.support.belongings import OWNER, Person
from tests.support.proxy import Proxy
from tests.support.raw import Connection
from tests.support.users import Users

pytestmark = [pytest.mark.daemon, pytest.mark.root]

LISTS = {
    "/containers/json?all=1": "Id",
    "/volumes": "Name",
    "/networks": "Id",
    "/system/df": "Id",
}
SHARED = {"bridge", "host", "none"}


def belongings(who: Person, name: str) -> dict[str, str]:
    """Make one of each kind."""
    return {
        "container": who.create(f"{name}-c"),
        "volume": who.volume(f"{name}-v"),
        "network": who.network(f"{name}-n"),
    }


def hostile(who: Person) -> list[dict[str, Any]]:
    """List filters that try to reach another's things."""
    label = f"{OWNER}={who.user.uid}"
    return [
        {"label": [label]},
        {"label": [label, OWNER]},
        {"label": {label: True}},
        {"label": {label: False}},
        {"label": [""]},
        {"label!": [f"{OWNER}=0"]},
        {"label!": {OWNER: True}},
        {"label": [OWNER], "label!": ["x"]},
        {"label": [f"{OWNER}={who.user.uid}"] * 3, "until": ["1h"]},
        {"Label": [label]},
        {"name": [".*"]},
        {"name": ["^"], "label": [OWNER.upper()]},
        {"id": [""]},
    ]


MALFORMED = ["[]", '"x"', "{", "null", '{"label":"x"}', '{"label":[1]}', '{"label":null}', '{"label":["a"],"label":[]}']


def names(answer: Any) -> set[str]:
    """List what an answer of a list names."""
    items = answer["Volumes"] or [] if isinstance(answer, dict) else answer
    return {item.get("Name") or item["Names"][0].removeprefix("/") for item in items}


def with_filters(target: str, filters: object) -> str:
    text = filters if isinstance(filters, str) else json.dumps(filters)
    return f"{target}{'&' if '?' in target else '?'}filters={quote(text)}"


def test_lists_show_ones_own(people: People) -> None:
    belongings(people.alice, "alice")
    belongings(people.bob, "bob")
    networks = {"bob-n", people.bob.bridge, *SHARED}
    for version in ("", "/v1.24", "/v1.30", "/v1.41"):
        assert names(people.bob.get("GET", f"{version}/containers/json?all=1")) == {"bob-c"}
        assert names(people.bob.get("GET", f"{version}/volumes")) == {"bob-v"}
        assert names(people.bob.get("GET", f"{version}/networks")) == networks
        assert names(people.carol.get("GET", f"{version}/containers/json?all=1")) == set()
        assert names(people.carol.get("GET", f"{version}/volumes")) == set()
        assert names(people.carol.get("GET", f"{version}/networks")) == SHARED
    assert names(people.bob.get("GET", "/networks/")) == networks
    for target in ("/containers/json?all=1", "/volumes", "/networks"):
        assert names(people.admin.get("GET", target)) >= {f"{name}-{target[1]}" for name in ("alice", "bob")}
    assert names(people.admin.get("GET", "/networks")) >= {people.alice.bridge, people.bob.bridge}


def test_no_filter_widens_a_list(people: People) -> None:
    belongings(people.alice, "alice")
    belongings(people.bob, "bob")
    own = {"bob-c", "bob-v", "bob-n", people.bob.bridge, *SHARED}
    for target in ("/containers/json?all=1", "/volumes", "/networks", "/v1.24/containers/json?all=1&size=1&limit=9"):
        for filters in [*hostile(people.alice), *MALFORMED]:
            answer = people.bob.ask("GET", with_filters(target, filters))
            if answer.status == 200:
                assert names(json.loads(answer.body)) <= own, filters
            else:
                assert answer.status in (400, 500), (filters, answer.body)
            assert b"alice-" not in answer.body
            assert people.alice.bridge.encode() not in answer.body


def test_prunes_touch_ones_own(people: People) -> None:
    theirs = belongings(people.alice, "alice")
    bob = people.bob
    before = people.root.state()
    for kind in ("containers", "volumes", "networks", "images"):
        for version in ("", "/v1.30", "/v1.41"):
            for filters in [*hostile(people.alice), {"dangling": ["0"]}, {"all": ["1"]}, *MALFORMED]:
                bob.ask("POST", with_filters(f"{version}/{kind}/prune", filters))
            bob.get("POST", f"{version}/{kind}/prune")
            form = f"filters={quote(json.dumps({'label': [f'{OWNER}={people.alice.user.uid}']}))}".encode()
            bob.ask("POST", f"{version}/{kind}/prune", form, Content_Type="application/x-www-form-urlencoded")
    assert people.root.state() == before
    own = belongings(bob, "bob")
    bob.get("POST", "/containers/prune")
    bob.get("POST", "/networks/prune")
    bob.get("POST", "/v1.41/volumes/prune")
    bob.ask("POST", with_filters("/volumes/prune", {"all": ["1"]}))
    assert people.root.state() == before
    assert people.alice.bridge in names(people.root.get("GET", "/networks"))
    assert own["container"] not in before["containers"]
    assert theirs["container"] in before["containers"]


def test_system_prune_through_the_cli(people: People, proxy: Proxy, users: Users) -> None:
    belongings(people.alice, "alice")
    before = people.root.state()
    belongings(people.bob, "bob")
    done = proxy.docker(users.bob, "system", "prune", "-af", "--volumes")
    assert done.returncode == 0, done.stderr
    after = people.root.state()
    after["volumes"].pop("bob-v", None)  # named: the CLI asks for anonymous ones, as of API 1.42
    assert after == before
    assert people.alice.bridge in names(people.root.get("GET", "/networks"))


def test_the_build_cache_is_nobodys_to_prune(people: People) -> None:
    people.alice.build("FROM busybox\nRUN true\n", "rm=1")
    before = people.root.state()
    for query in ("", "all=1", "all=1&filters=" + quote(json.dumps({"id": [""], "until": ["1s"]}))):
        people.bob.ask("POST", f"/build/prune?{query}")
    assert people.root.state() == before


def test_disk_usage_and_info(people: People) -> None:
    belongings(people.alice, "alice")
    belongings(people.bob, "bob")
    people.alice.build("FROM busybox\nLABEL alices=secret\nRUN echo alices-step\n", "t=alices-image")
    for version in ("", "/v1.30", "/v1.41"):
        answer = people.bob.ask("GET", f"{version}/system/df?type=container&type=volume&type=image")
        assert b"alice" not in answer.body
        assert b"bob-c" in answer.body
        found = json.loads(people.bob.ask("GET", f"{version}/system/df").body)
        assert [item["Names"] for item in found["Containers"]] == [["/bob-c"]]
        assert [item["Name"] for item in found["Volumes"]] == ["bob-v"]
        assert [item["RepoTags"] for item in found["Images"]] == [["busybox:latest"]]
    assert people.bob.get("GET", "/info")["Containers"] == 0
    assert people.admin.get("GET", "/info")["Containers"] == 2
    assert b"alice" not in people.bob.ask("GET", "/images/json?all=1&digests=1").body
    assert b"alices-image" in people.alice.ask("GET", "/images/json?all=1").body


def test_a_shared_network_does_not_tell_who_is_on_it(people: People) -> None:
    secret = people.alice.run("alices-secret")
    people.root.get("POST", "/networks/bridge/connect", {"Container": secret})  # as from before there were own bridges
    people.bob.run("bob")
    for target in (
        "/networks/bridge",
        "/networks/bridge?verbose=1",
        "/networks",
        "/v1.24/networks",
        "/v1.24/networks/",
        f"/networks/{people.alice.bridge}",
    ):
        for who in (people.bob, people.carol):
            assert b"alices-secret" not in who.ask("GET", target).body
    for network in ("bridge", people.alice.bridge):
        assert b"alices-secret" in people.admin.ask("GET", f"/networks/{network}").body


def events(who: Person, filters: object, since: int, until: int) -> tuple[int, bytes]:
    """Read the events that were; the daemon ends the stream at `until`, at once when that is over."""
    target = with_filters(f"/events?since={since}&until={until}", filters)
    with Connection(who.proxy.listen, who.user) as connection:
        answer = connection.call("GET", target)
    return answer.status, answer.body


@pytest.mark.parametrize("engine", ["28"], indirect=True)
def test_others_can_not_fill_ones_lists(people: People, proxy: Proxy) -> None:
    """More than fits in a message, made past sockproxy, or before it had bounds: the daemon tells all of it."""
    labels = [f"--label={OWNER}={people.bob.user.uid}", *(f"--label=k{n}={'x' * 120_000}" for n in range(10))]
    for count in range(8):
        proxy.engine.docker("network", "create", *labels, f"large{count}")
    people.alice.network("small")
    answer = people.alice.ask("GET", "/networks")
    assert answer.status == 200
    assert {item["Name"] for item in json.loads(answer.body)} == {"small", *SHARED}


def test_events_tell_of_ones_own(people: People) -> None:
    since = int(time.time())
    for who, name in ((people.alice, "alice"), (people.bob, "bob")):
        identity = who.run(f"{name}-c", Env=["A=b"])
        who.exec(identity, "echo", f"{name}-secret")
        belongings(who, f"{name}-2")
        who.build(f"FROM busybox\nLABEL by={name}\n", f"t={name}-image")
        who.get("POST", f"/containers/{identity}/rename?name={name}-renamed")
    until = int(time.time()) + 1
    for filters in (
        {},
        {"type": ["container"]},
        {"type": ["network", "volume", "image", "daemon"]},
        {"container": ["alice-renamed"]},
        {"image": ["alice-image"]},
        {"volume": ["alice-2-v"]},
        {"network": ["alice-2-n"]},
        {"event": ["create"], "scope": ["local"]},
        *hostile(people.alice),
    ):
        for who in (people.bob, people.carol):
            status, body = events(who, filters, since, until)
            assert b"alice" not in body, (filters, body)
            assert status == 200 or b"invalid filter" in body.lower(), (filters, status, body)
    _, body = events(people.bob, {}, since, until)
    assert b"bob-secret" in body
    assert b"bob-renamed" in body
    assert b"alice-secret" in events(people.admin, {}, since, until)[1]
