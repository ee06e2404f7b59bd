"""How many containers a user may have."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.engines import Engine
from tests.support.proxy import Proxy, default_policy
from tests.support.users import Users

pytestmark = pytest.mark.daemon

LIMITED = """roles:
  developer:
    extends: developer
    limits: {containers: 2}
"""


@pytest.mark.parametrize("engine", ["28"], indirect=True)
def test_number_of_containers(engine: Engine, users: Users, start_proxy: Callable[..., Proxy]) -> None:
    proxy = start_proxy(engine, policy=default_policy(users) + LIMITED)
    made = [proxy.run(users.alice, ["docker", "create", "busybox"], timeout=60) for _ in range(3)]
    assert [done.returncode for done in made] == [0, 0, 1]
    assert "role developer may have 2 containers, and you have 2 (2 stopped): " in made[2].stderr
    assert "sockproxy.yaml:" in made[2].stderr
    assert len(engine.docker("ps", "-aq").stdout.split()) == 2
    assert proxy.run(users.bob, ["docker", "create", "busybox"], timeout=60).returncode == 0
    assert proxy.run(users.alice, ["docker", "rm", made[0].stdout.strip()], timeout=60).returncode == 0
    assert proxy.run(users.alice, ["docker", "create", "busybox"], timeout=60).returncode == 0
