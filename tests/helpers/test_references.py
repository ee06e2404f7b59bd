"""Every field that names an object: it is resolved to an ID of the caller's own, or the call ends."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from sockproxy_helpers.api.fields import Field
from sockproxy_helpers.calls.approve import Approval
from sockproxy_helpers.channel.loop import Loop
from sockproxy_helpers.content import access, references
from sockproxy_helpers.content.ledger import Ledger
from sockproxy_helpers.content.references import Reference, Resolution, pin
from sockproxy_helpers.errors import Malformed, NotFound, Refused
from sockproxy_helpers.judge import model
from sockproxy_helpers.totals.cgroupfs import Cgroups
from sockproxy_helpers.totals.shares import Shares
from sockproxy_helpers.upstream import marks
from sockproxy_helpers.upstream.marks import GIVEN
from sockproxy_helpers.upstream.objects import OWNER, Ambiguous, Objects
from tests.helpers.asked import KIM, LEE, Asked, finish, identity
from tests.support.judging import ADMIN, DEVELOPER, OPERATIONS, context

ROWS = [
    pytest.param(operation, row, id=f"{operation}:{row.field}")
    for operation, rows in references.TABLE.items()
    for row in rows
    if row.kind not in ("image", "tag")  # see test_naming.py
]
FORMS = {
    "plain": "{}",
    "mode": "container:{}",
    "network": "{}",
    "suffix": "{}:ro",
    "link": "{}:db",
    "keys": "{}",
    "filters": "{}",
}
NAMESPACES = ("", "private", "shareable", "none", "host")


def daemon() -> Asked:
    """Kim's and Lee's things, each the other's namesake, and what is shared."""
    asked = Asked()
    for owner, letter in ((KIM, 0xA), (LEE, 0xB)):
        name = {KIM: "mine", LEE: "theirs"}[owner]
        asked.exec(letter * 16 + 1, asked.container(letter * 16, name, owner))
        asked.network(letter * 16, name, owner)
        asked.volume(name, owner)
    asked.network(0xC0, "bridge", None)
    return asked


def ids(kind: str, owner: int) -> str:
    if kind == "volume":
        return {KIM: "mine", LEE: "theirs"}[owner]
    return identity({KIM: 0xA0, LEE: 0xB0}[owner] + (kind == "exec"))


def given(operation: str, row: Reference, text: str) -> tuple[dict[str, str], list[tuple[str, str]], dict[str, Any]]:
    """Form a request that has this text where the row says: (variables, query, body)."""
    if row.field.startswith("{"):
        return {row.field[1:-1]: text}, [], {}
    paths = _paths(operation)
    if row.form == "filters":
        return paths, [("filters", json.dumps({row.field.rpartition(".")[2]: [text], "label": ["a"]}))], {}
    if row.field.startswith("?"):
        return paths, [("a", "theirs"), (row.field[1:], text)], {}
    body: Any = {text: {"Aliases": ["theirs"]}} if row.form == "keys" else text
    for step in reversed(row.field.split(".")):
        body = {step.removesuffix("[]"): [body] if step.endswith("[]") else body}
    return paths, [], body


def _paths(operation: str) -> dict[str, str]:
    rows = references.TABLE[operation]
    return {row.field[1:-1]: ids(row.kind, KIM) for row in rows if row.field.startswith("{")}


def resolve(
    operation: str, variables: dict[str, str], query: Any, body: Any, asked: Asked, rules: dict[str, object] = DEVELOPER
) -> Any:
    resolution = Resolution(Objects(), Ledger("/nonexistent"), asked, context(rules, operation))  # type: ignore[arg-type]
    return variables, finish(resolution.run(variables, query, body)), body


def test_operations_that_name_an_object_in_their_path_have_a_row() -> None:
    for operation in OPERATIONS.values():
        if operation.tag in ("Container", "Exec", "Volume", "Network", "Checkpoint", "Image"):
            named = {segment for segment in operation.segments if segment in ("{id}", "{name}")}
            assert named <= {row.field for row in references.TABLE.get(operation.name, ())}, operation.name


def test_what_an_operations_tag_says_is_what_its_path_names() -> None:
    for name, rows in references.TABLE.items():
        for row in rows:
            if row.field.startswith("{") and row.kind != "tag":
                tag = OPERATIONS[name].tag.replace("Checkpoint", "Container").lower()
                assert row.kind == (tag if name != "ContainerExec" else "container"), name


@pytest.mark.parametrize(("operation", "row"), ROWS)
def test_row_names_what_exists(operation: str, row: Reference) -> None:
    assert operation in OPERATIONS
    assert row.kind in ("container", "exec", "network", "volume")
    assert row.access in ("own", "mine", "end", "remove", "use", "join", "new")
    assert row.form in FORMS
    if row.field.startswith("{"):
        assert row.field in OPERATIONS[operation].segments
        return
    tables = [table[operation] for table in model.TABLES.values() if operation in table]
    if row.field.startswith("?"):
        name = row.field[1:].partition(".")[0]
        assert any(name in table.query for table in tables)
        return
    assert any(_has(table.body, row.field.replace("[]", "").split(".")) for table in tables)


def _has(fields: dict[str, Field], steps: list[str]) -> bool:
    return steps[0] in fields and (len(steps) == 1 or _has(fields[steps[0]].children, steps[1:]))


@pytest.mark.parametrize(("operation", "row"), ROWS)
def test_ones_own_becomes_its_id(operation: str, row: Reference) -> None:
    full = ids(row.kind, KIM)
    spellings = ["mine", full, full[:12], "a"] if row.kind in ("container", "network") else [full]
    for spelling in spellings:
        if row.access == "new" and spelling == full[:12] != full:
            continue  # refused, see below
        if row.access == "new":
            expected = given(operation, row, FORMS[row.form].format(spelling))
        else:
            expected = given(operation, row, FORMS[row.form].format(full))
        found = resolve(operation, *given(operation, row, FORMS[row.form].format(spelling)), daemon())
        assert json.dumps(found).replace(" ", "") == json.dumps(expected).replace(" ", "")


@pytest.mark.parametrize(("operation", "row"), ROWS)
def test_anothers_does_not_exist(operation: str, row: Reference) -> None:
    full = ids(row.kind, LEE)
    for spelling in ["theirs", full, full[:12], "b"] if row.kind in ("container", "network") else [full]:
        text, nothing = FORMS[row.form].format(spelling), FORMS[row.form].format("nothing")
        if row.access == "new":
            if spelling == full[:12] != full:
                continue  # refused, see below
            if spelling == "theirs":
                with pytest.raises(Refused, match="theirs is taken: choose another"):
                    resolve(operation, *given(operation, row, text), daemon())
            else:  # rules.name refuses what looks like a whole ID
                resolve(operation, *given(operation, row, text), daemon())
            resolve(operation, *given(operation, row, nothing), daemon())
            continue
        with pytest.raises(NotFound) as theirs:
            resolve(operation, *given(operation, row, text), daemon())
        with pytest.raises(NotFound) as none:
            resolve(operation, *given(operation, row, nothing), daemon())
        assert str(theirs.value) == str(none.value).replace("nothing", spelling)
        found = resolve(operation, *given(operation, row, text), daemon(), ADMIN)
        assert ids(row.kind, LEE) in json.dumps(found)


@pytest.mark.parametrize(("operation", "row"), ROWS)
def test_who_shares_may_use_and_not_remove(operation: str, row: Reference) -> None:
    ctx = context(DEVELOPER, operation)
    ctx.mates = lambda uid: uid == LEE
    variables, query, body = given(operation, row, FORMS[row.form].format(ids(row.kind, LEE)))
    resolution = Resolution(Objects(), Ledger("/nonexistent"), daemon(), ctx)  # type: ignore[arg-type]
    why = r"may use the .* theirs, not remove or change it" if row.access in ("mine", "remove") else ""
    if (operation, row.field) == ("NetworkConnect", "Container"):
        why = "may not connect the container theirs to the network mine"
    if why:
        with pytest.raises(Refused, match=why) as refusal:
            finish(resolution.run(variables, query, body))
        assert refusal.value.rule == "share"
    else:
        finish(resolution.run(variables, query, body))


@pytest.mark.parametrize(("operation", "row"), [one for one in ROWS if one.values[1].kind in ("container", "exec")])  # type: ignore[union-attr]
def test_who_was_given_what_is_anothers_may_end_it_only_when_they_share_no_more(operation: str, row: Reference) -> None:
    """By each row of the table; and those whose things they are may remove it."""
    if row.access == "new":
        return
    asked = daemon()
    for item, others in (("containers", LEE), ("containers", KIM)):
        number = {LEE: 0, KIM: 1}[others]
        asked._objects[item][number]["HostConfig"]["ContainerIDFile"] += f" {GIVEN}={others}"
    text = FORMS[row.form].format(ids(row.kind, KIM))
    for shares in (True, False):
        ctx = context(DEVELOPER, operation)
        ctx.mates = lambda uid, shares=shares: shares and uid == LEE  # type: ignore[misc]
        resolution = Resolution(Objects(), Ledger("/nonexistent"), asked, ctx)  # type: ignore[arg-type]
        variables, query, body = given(operation, row, text)
        if shares or row.access in ("end", "remove"):
            finish(resolution.run(variables, query, body))
        else:
            with pytest.raises(Refused, match="which was given what is uid 1001's, who shares nothing with you now"):
                finish(resolution.run(variables, query, body))
    theirs = given(operation, row, FORMS[row.form].format(ids(row.kind, LEE)))
    if row.access == "remove":
        resolve(operation, *theirs, asked)
    else:
        with pytest.raises(NotFound):
            resolve(operation, *theirs, asked)


def test_a_container_is_connected_to_what_it_was_given() -> None:
    for mark, ok in (("", False), (f" {GIVEN}=1002", False), (f" {GIVEN}=1001", True), (f" {GIVEN}=1001,x", False)):
        asked = daemon()
        asked._objects["containers"][0]["HostConfig"]["ContainerIDFile"] += mark
        ctx = context(DEVELOPER, "NetworkConnect")
        ctx.mates = lambda uid: uid in (LEE, 1002)
        resolution = Resolution(Objects(), Ledger("/nonexistent"), asked, ctx)  # type: ignore[arg-type]
        with nullcontext() if ok else pytest.raises(Refused, match="may not connect the container mine"):
            finish(resolution.run({"id": "theirs"}, [], {"Container": "mine"}))


def test_what_is_given_is_written_where_no_image_can() -> None:
    ctx = context(DEVELOPER, "ContainerCreate")
    ctx.mates = lambda uid: uid in (LEE, 1002)
    asked = daemon()
    asked._objects["containers"][1]["HostConfig"]["ContainerIDFile"] += f" {GIVEN}=1000,1002"
    body = {"HostConfig": {"VolumesFrom": ["theirs"]}}
    finish(Resolution(Objects(), Ledger("/nonexistent"), asked, ctx).run({}, [], body))  # type: ignore[arg-type]
    assert access.given(ctx) == [1001, 1002]
    config: dict[str, Any] = {"HostConfig": {"ContainerIDFile": ""}, "Labels": {}}
    access.write(ctx, config, {1001, 1002})
    assert config["HostConfig"] == {"ContainerIDFile": f"{OWNER}=1000 {GIVEN}=1001,1002"}
    assert config["Labels"] == {GIVEN: "1001,1002"}
    assert (marks.mark_of(config, 1000), marks.mark_of(config, 1001)) == (True, False)
    assert marks.given_of(config) == {1001, 1002}


@pytest.mark.parametrize(("operation", "row"), ROWS)
def test_a_reference_is_a_name(operation: str, row: Reference) -> None:
    for text in ("../x", "a b", "-a", "\u212a", "a%2fb", "*"):
        with pytest.raises((Malformed, NotFound)):
            resolve(operation, *given(operation, row, FORMS[row.form].format(text)), daemon())


@pytest.mark.parametrize(("operation", "row"), ROWS)
def test_nothing_given_is_nothing_asked(operation: str, row: Reference) -> None:
    if row.field.startswith("{") or row.form in ("keys", "filters"):
        return
    asked, request = daemon(), given(operation, row, "")
    assert resolve(operation, *request, asked) == given(operation, row, "")
    assert len(asked.asked) <= len(_paths(operation))


@pytest.mark.parametrize("field", ["IpcMode", "PidMode", "NetworkMode"])
def test_modes_that_name_nothing(field: str) -> None:
    for mode in NAMESPACES if field != "NetworkMode" else ("", "default", "bridge", "host", "none"):
        body = {"HostConfig": {field: mode}}
        asked = daemon()
        assert resolve("ContainerCreate", {}, [], body, asked)[2] == {"HostConfig": {field: mode}}
        assert asked.asked == []


@pytest.mark.parametrize("text", ["container:mine", "container:mine:ro"])
@pytest.mark.parametrize("field", ["Links", "VolumesFrom"])
def test_a_container_that_is_called_container(field: str, text: str) -> None:
    """Only a mode has "container:" before a name; in a link it is a name itself."""
    asked = daemon()
    asked.container(0xD0, "container", LEE)
    with pytest.raises((NotFound, Malformed), match=r"No such container: container$|not NAME:ALIAS"):
        resolve("ContainerCreate", {}, [], {"HostConfig": {field: [text]}}, asked)


@pytest.mark.parametrize(
    ("link", "alias"),
    [
        ("mine", "mine"),
        ("mine:db", "db"),
        ("/mine:/other/db", "db"),
        ("a0", "a0"),
        ("mine:", "mine"),
        ("mine:../x", "x"),
    ],
)
def test_a_link_keeps_its_alias(link: str, alias: str) -> None:
    body = {"HostConfig": {"Links": [link]}}
    resolve("ContainerCreate", {}, [], body, daemon())
    assert body["HostConfig"]["Links"] == [f"{identity(0xA0)}:{alias}"]


@pytest.mark.parametrize("alias", ["..", ".", "../..", "a b", "a:b"])
def test_an_alias_is_no_path(alias: str) -> None:
    """The daemon joins it to the container's name, and registers what comes out as a name."""
    with pytest.raises(Malformed):
        resolve("ContainerCreate", {}, [], {"HostConfig": {"Links": [f"mine:{alias}"]}}, daemon())


def test_networks_of_all_may_be_used_and_not_removed() -> None:
    asked, bridge = daemon(), identity(0xC0)
    assert resolve("NetworkInspect", {"id": "bridge"}, [], None, asked)[0] == {"id": bridge}
    connect = {"Container": "mine"}
    with pytest.raises(Refused, match="may not join the network bridge, which all share"):
        resolve("NetworkConnect", {"id": bridge[:12]}, [], connect, asked)
    found = resolve("NetworkConnect", {"id": bridge[:12]}, [], connect, asked, {**DEVELOPER, "default_bridge": True})
    assert found[0] == {"id": bridge}
    assert connect == {"Container": identity(0xA0)}
    for reference in ("bridge", bridge, "c"):
        with pytest.raises(NotFound, match=f"network {reference} not found"):
            resolve("NetworkDelete", {"id": reference}, [], None, asked)


@pytest.mark.parametrize("name", ["bridge", "host", "none"])
def test_networks_of_all_are_joined_by_their_names_only(name: str) -> None:
    """The rules judge names; whoever gave an ID was on the bridge that all share."""
    asked, full = daemon(), identity(0xE0)
    asked.remove("networks", identity(0xC0))
    asked.network(0xE0, name, None)
    for reference in (full, full[:12], "e0"):
        for body in (
            {"HostConfig": {"NetworkMode": reference}},
            {"NetworkingConfig": {"EndpointsConfig": {reference: {}}}},
        ):
            with pytest.raises(Refused, match=f"may not join the network {name}, which all share"):
                resolve("ContainerCreate", {}, [], json.loads(json.dumps(body)), asked)
            rules = {**DEVELOPER, "default_bridge": True}
            if name == "bridge":
                assert full in str(resolve("ContainerCreate", {}, [], body, asked, rules))
            else:
                with pytest.raises(Refused):
                    resolve("ContainerCreate", {}, [], body, asked, rules)


@pytest.mark.parametrize("kind", ["container", "network"])
def test_what_others_call_theirs_does_not_hide_ones_own(kind: str) -> None:
    asked = daemon()
    getattr(asked, kind)(0xD1, "a0", LEE)  # called as Kim's begins
    getattr(asked, kind)(0xAF, "other", LEE)  # begins as Kim's
    operation = {"container": "ContainerInspect", "network": "NetworkInspect"}[kind]
    for reference in ("a0", "a"):
        assert resolve(operation, {"id": reference}, [], None, asked)[0] == {"id": identity(0xA0)}
    getattr(asked, kind)(0xA1, "second", KIM)
    with pytest.raises(Malformed, match=r"^a is ambiguous"):
        resolve(operation, {"id": "a"}, [], None, asked)
    for reference in ("d", "b", "other", "af"):
        with pytest.raises(NotFound):
            resolve(operation, {"id": reference}, [], None, asked)
    with pytest.raises(Ambiguous):
        resolve(operation, {"id": "a"}, [], None, asked, ADMIN)


def test_two_networks_of_one_name() -> None:
    """Engine 20 lets them be."""
    asked = daemon()
    asked.network(0xD1, "mine", LEE)
    assert resolve("NetworkInspect", {"id": "mine"}, [], None, asked)[0] == {"id": identity(0xA0)}


def test_filters_keep_the_others() -> None:
    filters = {"status": ["running"], "before": ["mine"], "since": []}
    _, query, _ = resolve("ContainerList", {}, [("all", "1"), ("filters", json.dumps(filters))], None, daemon())
    assert query[0] == ("all", "1")
    assert json.loads(query[1][1]) == {"status": ["running"], "before": [identity(0xA0)]}


@pytest.mark.parametrize("field", ["Name", "?name"])
def test_taken_names(field: str) -> None:
    for operation in ("ContainerCreate", "ContainerRename") if field == "?name" else ("VolumeCreate", "NetworkCreate"):
        variables = {"id": "mine"} if operation == "ContainerRename" else {}
        query = [("name", "{}")] if field == "?name" else []
        for name, ok in (("new", True), ("mine", True), ("b", True), ("theirs", False)):
            body = None if query else {"Name": name}
            asked = [(key, value.format(name)) for key, value in query]
            if ok:
                assert resolve(operation, dict(variables), asked, body, daemon())[1:] == (asked, body)
            else:
                with pytest.raises(Refused, match="taken"):
                    resolve(operation, dict(variables), asked, body, daemon())


@pytest.mark.parametrize("operation", ["ContainerCreate", "ContainerRename", "NetworkCreate"])
def test_a_name_like_an_id_is_free_where_no_id_begins_so(operation: str) -> None:
    """testcontainers for node calls its networks by twelve hexadecimal digits."""
    for name, ok in (("0123456789ab", True), (identity(0xB0)[:12], False), (identity(0xA0)[:12], False)):
        query, body = ([], {"Name": name}) if operation == "NetworkCreate" else ([("name", name)], None)
        variables = {"id": "mine"} if operation == "ContainerRename" else {}
        if ok:
            assert resolve(operation, variables, query, body, daemon())[1:] == (query, body)
        else:
            with pytest.raises(Refused, match="looks like an ID, and one begins so"):
                resolve(operation, variables, query, body, daemon())


def test_endpoints_are_pinned_to_the_network_itself() -> None:
    mine, other = identity(1), identity(2)
    body: dict[str, Any] = {"HostConfig": {"NetworkMode": mine}}
    pin("ContainerCreate", {}, body)
    assert body["NetworkingConfig"] == {"EndpointsConfig": {mine: {"NetworkID": mine}}}
    body["NetworkingConfig"] = {"EndpointsConfig": {other: {"Aliases": ["a"]}, "bridge": {}}}
    pin("ContainerCreate", {}, body)
    assert body["NetworkingConfig"]["EndpointsConfig"] == {
        other: {"Aliases": ["a"], "NetworkID": other},
        "bridge": {},
        mine: {"NetworkID": mine},
    }
    for mode in ("", "bridge", "none", "container:" + mine):
        body = {"HostConfig": {"NetworkMode": mode}}
        pin("ContainerCreate", {}, body)
        assert body == {"HostConfig": {"NetworkMode": mode}}
    body = {"Container": "x"}
    pin("NetworkConnect", {"id": mine}, body)
    assert body == {"Container": "x", "EndpointConfig": {"NetworkID": mine}}
    pin("ContainerStart", {"id": mine}, None)


@pytest.mark.parametrize("operation", ["NetworkConnect", "ContainerCreate"])
def test_the_clients_network_id_goes_nowhere(operation: str) -> None:
    endpoint = {"NetworkID": identity(0xB0), "Aliases": ["a"]}
    if operation == "NetworkConnect":
        body: dict[str, Any] = {"Container": "mine", "EndpointConfig": endpoint}
    else:
        body = {"NetworkingConfig": {"EndpointsConfig": {"mine": endpoint}}}
    _, built = model.approve("network", operation, [], body, context(ADMIN, operation))
    assert identity(0xB0) not in json.dumps(built)


def test_what_a_configuration_names_and_is_not_there_is_malformed(tmp_path: Path) -> None:
    """Not 404, which means a missing image: the CLI would pull it and try again."""
    environment = dict.fromkeys((f"SOCKPROXY_{key}" for key in ("RUNTIME", "STATE", "DOCKER_SOCKET")), str(tmp_path))
    approval = Approval("lifecycle", Loop(), environment, Shares(Loop(), Cgroups("sockproxy", 0, [])))
    ctx = context(DEVELOPER, "ContainerCreate")
    with pytest.raises(Malformed, match="No such container: nothing"):
        finish(approval._resolve(Asked(), ctx, [], {"HostConfig": {"PidMode": "container:nothing"}}))  # type: ignore[arg-type]
