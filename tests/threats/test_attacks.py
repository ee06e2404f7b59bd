"""Each row of the table of attacks: on the bare daemon it succeeds, through sockproxy as a developer it fails.

The same judge says so both times, and looks at the daemon, at the host or at what the attacker was told.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.engines import Engines
from tests.support.fake_daemon import FakeDaemon
from tests.support.proxy import Proxy, default_policy
from tests.support.raw import call
from tests.support.users import Users
from tests.threats.attacks import ATTACKS, OPEN, UNSHOWN
from tests.threats.elsewhere import ELSEWHERE
from tests.threats.stage import Attack, Stage

pytestmark = [pytest.mark.daemon, pytest.mark.root]


@pytest.fixture(scope="module")
def stages(engines: Engines, users: Users, folder: Path) -> Iterator[Callable[[str], Stage]]:
    """Give the stage on an engine."""
    running: dict[str, Stage] = {}

    def get(version: str) -> Stage:
        if version not in running:
            engine = engines.get(version)
            users.add_plugins(engine.plugins)
            place = folder / f"stage{version}"
            place.mkdir()
            running[version] = Stage(Proxy(engine, place, default_policy(users)), users)
        return running[version]

    yield get
    for stage in running.values():
        stage.close()
        stage.proxy.stop()


def test_names_are_unique() -> None:
    assert len({(row.engine, row.threat, row.name) for row in ATTACKS + OPEN}) == len(ATTACKS + OPEN)


@pytest.mark.parametrize("name", sorted({name for names in ELSEWHERE.values() for name in names}))
def test_what_is_tried_elsewhere_is(name: str) -> None:
    path, _, function = name.partition("::")
    tree = ast.parse((Path(__file__).parents[1] / path).read_text())
    assert function in [node.name for node in tree.body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda row: f"{row.engine}-{row.name}")
def test_attack(stages: Callable[[str], Stage], attack: Attack) -> None:
    stage = stages(attack.engine)
    stage.set()
    stage.play(attack, stage.root)
    assert attack.judge(stage), f"does not work on the bare daemon: {stage.answers}"
    stage.set()
    stage.play(attack, stage.alice)
    assert not attack.judge(stage), f"works through sockproxy: {stage.answers}"


@pytest.mark.parametrize("attack", OPEN, ids=lambda row: f"{row.engine}-{row.name}")
def test_what_is_still_open(stages: Callable[[str], Stage], attack: Attack) -> None:
    """What a filter of the API can't stop, see the reasons in the table. A row that fails here belongs above."""
    stage = stages(attack.engine)
    stage.set()
    stage.play(attack, stage.alice)
    assert attack.judge(stage), stage.answers


@pytest.mark.parametrize(("method", "target", "body"), UNSHOWN, ids=lambda value: str(value)[:60])
def test_what_no_daemon_here_can_show(
    noted: Proxy, fake_daemon: FakeDaemon, users: Users, method: str, target: str, body: Any
) -> None:
    answer = call(noted.listen, method, target.replace("{OWN}", "own"), body, users.alice)
    assert answer.status in (403, 404)
    assert answer.message.startswith("sockproxy: ")
    assert fake_daemon.received == b""
