"""What buildx 0.13 and 0.29, compose 2.26 and 2.40 do with BuildKit, from one engine through sockproxy."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.integration.test_buildkit import folder
from tests.support import engines
from tests.support.cli import MEBIBYTE, Running, assert_done, handlers, write_random
from tests.support.engines import Engine
from tests.support.proxy import Proxy, eventually
from tests.support.users import User, Users

pytestmark = [pytest.mark.daemon, pytest.mark.root, pytest.mark.parametrize("version", engines.CLIENTS)]

OUTPUT = """FROM busybox AS build
COPY --from=other /word /word
COPY --from=other /ssh /ssh
RUN --mount=type=ssh /ssh/ld* --library-path /ssh /ssh/ssh-add -L >/key; cat /word >/out # VERSION
FROM scratch
COPY --from=build /out /key /
"""


def environment(proxy: Proxy, user: User, version: str) -> dict[str, str]:
    """Give a user's environment with the docker CLI and the plugins of a version."""
    config, client = user.home / f".docker{version}", engines.client(version)
    if not config.exists():
        (config / "cli-plugins").mkdir(parents=True)
        for plugin in client.plugins.iterdir():
            (config / "cli-plugins" / plugin.name).symlink_to(plugin)
        subprocess.run(["chown", "-R", f"{user.uid}:{user.gid}", config], check=True)
    path = f"{client.docker.parent}:/usr/local/bin:/usr/bin:/bin"
    return proxy.environment(user) | {"DOCKER_CONFIG": str(config), "PATH": path}


def test_a_token_is_enough_for_a_build(proxy28: Proxy, users: Users, version: str) -> None:
    """buildx makes connections of its own, which carry none: mallory, who has no role, logs in as alice."""
    mallory = users.mallory
    subprocess.run(["chpasswd"], input=f"{users.alice.name}:correct horse 9", text=True, check=True)
    env = environment(proxy28, mallory, version)
    context = folder(mallory, "token", {"Dockerfile": "FROM busybox\nRUN echo built >/word\n"})
    sockproxy = [sys.executable, "-I", "-m", "sockproxy"]
    logged_in = proxy28.run(
        mallory,
        [*sockproxy, "login", "--user", users.alice.name, "--password-stdin"],
        env=env,
        input="correct horse 9\n",
    )
    assert logged_in.returncode == 0, logged_in.stderr
    tag, build = f"by-token{version}", ["docker", "buildx", "build", "-t", f"by-token{version}", str(context)]
    assert "no binding matches" in proxy28.run(mallory, build, env=env).stderr
    assert_done(proxy28.run(mallory, [*sockproxy, "with-token", *build], env=env))
    ran = proxy28.run(mallory, [*sockproxy, "with-token", "docker", "run", "--rm", tag, "cat", "/word"], env=env)
    assert (ran.returncode, ran.stdout) == (0, "built\n"), ran.stderr
    assert proxy28.run(mallory, [*sockproxy, "with-token", "sh", "-c", "exit 7"], env=env).returncode == 7
    assert proxy28.run(mallory, [*sockproxy, "logout"], env=env).returncode == 0
    assert proxy28.run(mallory, [*sockproxy, "with-token", *build], env=env).returncode == 2
    assert proxy28.engine.docker("inspect", "-f", '{{index .Config.Labels "io.sockproxy.owner"}}', tag).stdout == (
        f"{users.alice.uid}\n"
    )


def test_outputs_contexts_and_ssh(proxy28: Proxy, users: Users, version: str) -> None:
    alice = users.alice
    context = folder(
        alice,
        "outputs",
        {"Dockerfile": OUTPUT.replace("VERSION", version), "other/word": "the word\n", "other/ssh/x": ""},
    )
    listed = subprocess.run(["ldd", "/usr/bin/ssh-add"], capture_output=True, text=True, check=True).stdout
    for file in ["/usr/bin/ssh-add", *(word for word in listed.split() if word.startswith("/"))]:
        shutil.copy(file, context / "other" / "ssh")  # for the step, which asks the agent as anybody would
    env = environment(proxy28, alice, version) | {"SSH_AUTH_SOCK": str(alice.home / f"agent{version}")}
    key = alice.home / f"key{version}"
    proxy28.run(alice, ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    with proxy28.start(alice, ["ssh-agent", "-D", "-a", env["SSH_AUTH_SOCK"]], stdout=subprocess.DEVNULL) as agent:
        eventually(lambda: proxy28.run(alice, ["ssh-add", "-q", str(key)], env=env).returncode == 0, "the agent has it")
        for output in ("type=local,dest=local", "type=tar,dest=out.tar"):
            words = ["buildx", "build", "--ssh", "default", "--build-context", "other=outputs/other"]
            assert_done(proxy28.docker(alice, *words, "--output", output, str(context), env=env))
        agent.terminate()
    assert (alice.home / "local" / "out").read_text() == "the word\n"
    assert (alice.home / "local" / "key").read_text().split()[1] == key.with_suffix(".pub").read_text().split()[1]
    assert (alice.home / "local" / "out").stat().st_uid == alice.uid
    with tarfile.open(alice.home / "out.tar") as tar:
        assert sorted(tar.getnames()) == ["key", "out"]


BAKE = """
group "default" {{ targets = ["base", "app"] }}
target "base" {{
  context = "base"
  tags = ["bakedbase:{0}"]
}}
target "app" {{
  context = "app"
  contexts = {{ base = "target:base" }}
  tags = ["baked:{0}"]
}}
"""
BASE = """FROM busybox
ENV FROM_BASE=yes
COPY --chown=0:7 word /word
RUN --mount=type=cache,target=/c,id=linked echo x >>/c/n; cat /c/n >/n; cat /proc/sys/kernel/random/uuid >/uuid
"""


def test_baked_targets_that_build_on_one_another(proxy28: Proxy, users: Users, version: str) -> None:
    alice, env = users.alice, environment(proxy28, users.alice, version)
    app = "FROM base\nRUN --network=none test $FROM_BASE = yes && echo app >/app\n"
    files = {
        "docker-bake.hcl": BAKE.format(version),
        "base/Dockerfile": BASE,
        "base/word": "w\n",
        "app/Dockerfile": app,
    }
    context = folder(alice, f"bake{version}", files)
    assert_done(proxy28.docker(alice, "buildx", "bake", "--no-cache", env=env, cwd=context))
    run = ["run", "--rm", f"baked:{version}"]
    assert proxy28.docker(alice, *run, "cat", "/app", "/n").stdout == "app\nx\n"
    assert proxy28.docker(alice, *run, "stat", "-c", "%u:%g", "/word").stdout == "0:7\n"
    made = [
        proxy28.docker(alice, "run", "--rm", f"{name}:{version}", "cat", "/uuid") for name in ("bakedbase", "baked")
    ]
    assert made[0].stdout == made[1].stdout != "", "the base was built once"


def test_from_a_pipe_by_name_and_with_the_cache_of_an_image(proxy28: Proxy, users: Users, version: str) -> None:
    alice, env = users.alice, environment(proxy28, users.alice, version)
    text = f"FROM busybox\nRUN echo {version} >/version\n"
    first = ["build", "-t", f"cached:{version}", "--build-arg", "BUILDKIT_INLINE_CACHE=1", "-"]
    assert_done(proxy28.docker(alice, *first, env=env, input=text))
    second = ["build", "--progress=plain", "--cache-from", f"cached:{version}", "-t", f"again:{version}", "-"]
    assert "CACHED" in proxy28.docker(alice, *second, env=env, input=text).stderr
    context = folder(alice, "piped", {"Dockerfile": text, "f": "x"})
    tar = subprocess.run(["tar", "-C", context, "-c", "."], capture_output=True, check=True).stdout
    done = proxy28.docker(alice, "build", "-q", "-", env=env, input=tar, text=False)
    assert done.returncode == 0, done.stderr  # type: ignore[comparison-overlap]


def test_compose_builds(proxy28: Proxy, users: Users, version: str) -> None:
    alice, env = users.alice, environment(proxy28, users.alice, version)
    project = f"name: kit{version}\nservices:\n  web: {{build: .}}\n  two: {{build: {{context: ., target: two}}}}\n"
    text = "FROM busybox AS one\nRUN echo one >/a\nFROM one AS two\nRUN echo two >/b\n"
    context = folder(alice, f"compose{version}", {"compose.yaml": project, "Dockerfile": text})
    assert_done(proxy28.docker(alice, "compose", "build", env=env, cwd=context))
    for service in ("web", "two"):
        done = proxy28.docker(alice, "run", "--rm", f"kit{version}-{service}", "cat", "/a", "/b")
        assert done.stdout == "one\ntwo\n"


def test_a_build_that_is_cancelled_ends_at_the_daemon(
    proxy28: Proxy, users: Users, engine28: Engine, version: str
) -> None:
    alice = users.alice
    context = folder(alice, "sleeping", {"Dockerfile": f"FROM busybox\nRUN echo slee''ping; sleep 77{version}\n"})
    arguments = ["build", "--progress", "plain", "--no-cache", str(context)]
    env = environment(proxy28, alice, version)
    with Running(proxy28, alice, *arguments, env=env, together=True) as building:
        building.out.until(" sleeping\n")
        eventually(lambda: sleeping(version), "the step sleeps")
        (step,) = sleeping(version)
        assert f"/{alice.uid}/builds/buildkit/" in Path(f"/proc/{step}/cgroup").read_text()
        building.process.send_signal(signal.SIGKILL)
        eventually(lambda: not sleeping(version), "the step ended")
    eventually(lambda: not handlers(engine28, "grpc"), "the daemon's connections ended")


def sleeping(version: str) -> list[str]:
    """Find the process of the build's step."""
    return subprocess.run(["pgrep", "-fx", f"sleep 77{version}"], capture_output=True, text=True).stdout.split()


def test_a_large_context(proxy28: Proxy, users: Users, version: str) -> None:
    alice = users.alice
    context = folder(alice, "large", {"Dockerfile": "FROM busybox\nCOPY big /\nRUN md5sum big >/sum\n"})
    write_random(Path(context, "big"), 40 * MEBIBYTE, alice)
    env = environment(proxy28, alice, version)
    assert_done(proxy28.docker(alice, "build", "-t", "large", str(context), env=env))
    expected = subprocess.run(["md5sum", context / "big"], capture_output=True, text=True).stdout.split()[0]
    assert proxy28.docker(alice, "run", "--rm", "large", "cat", "/sum").stdout.split()[0] == expected
