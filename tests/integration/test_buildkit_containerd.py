"""BuildKit of an engine that keeps images in containerd: caches that come back, OCI layouts, platforms."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.integration.test_buildkit import build
from tests.integration.test_buildkit import folder as lay_out
from tests.support.cli import assert_done
from tests.support.engines import Engine
from tests.support.proxy import Proxy, default_policy
from tests.support.users import Users

pytestmark = [pytest.mark.daemon, pytest.mark.root]
ONCE = "FROM busybox\nRUN cat /proc/sys/kernel/random/uuid >/uuid\n"


def test_caches_layouts_and_platforms(containerd: Engine, users: Users, start_proxy: Callable[..., Proxy]) -> None:
    alice, registry = users.alice, containerd.registry()
    rules = "roles:\n  developer: {extends: developer, cache_imports: true}\n"
    proxy = start_proxy(containerd, default_policy(users) + rules)
    context = str(lay_out(alice, "once", {"Dockerfile": ONCE}))

    def made(*arguments: str) -> str:
        assert_done(build(proxy, alice, "-t", "made", *arguments, context))
        return proxy.docker(alice, "run", "--rm", "made", "cat", "/uuid").stdout

    first = made("--provenance=true")
    for to, push, from_ in (
        (f"type=registry,ref={registry}/cache", [], f"type=registry,ref={registry}/cache"),
        (f"type=local,dest={alice.home}/cache", [], f"type=local,src={alice.home}/cache"),
        ("type=inline", ["-t", f"{registry}/inline", "--push"], f"{registry}/inline"),
    ):
        assert_done(build(proxy, alice, "--cache-to", to, *push, context))
        containerd.docker("builder", "prune", "-af")
        assert made("--cache-from", from_) == first
    layout = f"{alice.home}/layout"
    assert_done(proxy.docker(alice, "buildx", "build", "--output", f"type=oci,tar=false,dest={layout}", context))
    upon = str(lay_out(alice, "upon", {"Dockerfile": "FROM base\nRUN cp /uuid /again\n"}))
    assert_done(build(proxy, alice, "-t", "upon", "--build-context", f"base=oci-layout://{layout}", upon))
    assert proxy.docker(alice, "run", "--rm", "upon", "cat", "/again").stdout == first
    plain = str(lay_out(alice, "plain", {"Dockerfile": "FROM scratch\nCOPY Dockerfile /\n"}))
    assert_done(build(proxy, alice, "-t", "both", "--platform", "linux/amd64,linux/arm64", plain))
    of_hers = containerd.docker("image", "ls", "--filter", f"label=io.sockproxy.owner={alice.uid}").stdout
    assert all(f"{name} " in of_hers for name in ("made", "upon", "both")), of_hers
    done = build(proxy, users.bob, str(lay_out(users.bob, "plain", {"Dockerfile": "FROM made\n"})))
    assert (done.returncode, "denied by policy" in done.stderr) == (1, True), done.stderr[-500:]
