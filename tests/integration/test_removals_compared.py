"""Images removed through sockproxy go as the daemon removes them: the same answers, and the same things left."""

from __future__ import annotations

import json
import re
from urllib.parse import quote

import pytest

from tests.integration.conftest import People
from tests.support.belongings import Person
from tests.support.proxy import Proxy

pytestmark = [pytest.mark.daemon, pytest.mark.root]

Told = list[tuple[int, object]]


@pytest.fixture
def proxy(proxy28: Proxy) -> Proxy:
    return proxy28


def story(root: Person, who: Person) -> Told:
    """Have somebody remove images in many states; tell the answers and what is left."""
    told: Told = []
    known: dict[str, str] = {}

    def plain(text: str) -> str:
        for place in re.findall("[0-9a-f]{64}", text):
            known.setdefault(place[:12], f"<{len(known)}>")
        text = re.sub("([0-9a-f]{12})[0-9a-f]{52}", lambda match: known[match[1]], text)
        return re.sub("[0-9a-f]{12}", lambda match: known.get(match[0], match[0]), re.sub(r" \(request .*\)", "", text))

    def remove(target: str) -> None:
        answer = who.ask("DELETE", f"/images/{target}")
        left = root.get("GET", "/images/json?all=1")
        told.append((answer.status, plain(answer.body.decode().replace("sockproxy: ", ""))))
        told.append((len(left), sorted(name for item in left for name in item["RepoTags"] or [])))

    def image(name: str, base: str = "busybox") -> str:
        box = str(root.get("POST", "/containers/create", {"Image": base, "Cmd": ["true"]})["Id"])
        made = str(root.get("POST", f"/commit?container={box}" + (f"&repo={name}" if name else ""))["Id"])
        root.get("DELETE", f"/containers/{box}")
        return made

    remove("nothing")
    one = image("one")
    root.get("POST", "/images/one/tag?repo=uno&tag=1")
    plain(one)
    remove(one)
    remove("one")
    remove(one[7:19])
    used = image("used")
    box = str(root.get("POST", "/containers/create", {"Image": "used", "Cmd": ["sleep", "600"]})["Id"])
    plain(used + box)
    remove("used")
    root.get("POST", f"/containers/{box}/start")
    remove("used")
    remove("used?force=1")
    root.get("DELETE", f"/containers/{box}?force=1")
    remove(used)
    parent = image("parent")
    plain(parent)
    child = image("child", "parent")
    plain(child)
    remove(parent + "?force=1")
    remove("parent")
    grandchild = image("", child)
    plain(grandchild)
    remove("child?noprune=1")
    remove(grandchild + "?noprune=1")
    remove(child)
    for text, query in {"one": "", "another": "?noprune=1"}.items():
        assert root.build(f"FROM busybox\nLABEL of={text}\nRUN echo {text} >/1\n", "t=built").status == 200
        remove("built" + query)
    return told


def test_removals(people: People) -> None:
    ours = story(people.root, people.admin)
    people.root.clean()
    assert ours == story(people.root, people.root)


PRUNES = [
    ("", {"dangling": ["true"], "label": ["x"]}),
    ("-a", {"dangling": ["0"], "label": ["x=1"], "label!": ["y"]}),
    ("-a", {"dangling": ["false"], "until": ["1h"]}),
    ("-a", {"dangling": ["false"], "until": ["-1h"], "label": ["x"]}),
    ("", {"dangling": ["maybe"]}),
    ("", {"reference": ["x"]}),
]


def test_prunes(people: People) -> None:
    """Of images with one name, two or none, in use or not, made by steps or not."""

    def story(who: Person) -> list[object]:
        root, told = people.root, list[object]()
        root.clean()
        for query, label in (
            ("t=one", "x=1"),
            ("t=two&t=zwei", "x=1"),
            ("", "x=2"),
            ("t=used", "x=1"),
            ("t=kept", "x=1 y="),
        ):
            step = f"RUN head -c {9000 + len(query)} /bin/busybox >/2\n" if query in ("t=one", "") else ""
            dockerfile = f"FROM busybox\nLABEL of={query}\n{step}LABEL {label}\n"
            assert root.build(dockerfile, query).status == 200
        root.create("user", Image="used")
        for _, filters in PRUNES:
            answer = who.ask("POST", f"/images/prune?filters={quote(json.dumps(filters))}")
            left = sorted(name for item in root.get("GET", "/images/json?all=1") for name in item["RepoTags"] or [])
            gone = [next(iter(one)) for one in answer.json.get("ImagesDeleted") or ()]  # type: ignore[attr-defined]
            told += [answer.status, sorted(gone), answer.json.get("SpaceReclaimed"), left]
        return told

    ours, theirs = story(people.admin), story(people.root)
    assert ours == theirs
    assert sum(one for one in theirs[2::4] if isinstance(one, int)) >= 9000
