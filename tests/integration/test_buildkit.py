"""BuildKit through sockproxy: docker build, buildx and what they need; who may see and touch what of whose."""

from __future__ import annotations

import base64
import json
import subprocess
from pathlib import Path

import pytest

from tests.support.cli import assert_done
from tests.support.engines import Engine
from tests.support.proxy import Proxy
from tests.support.users import User, Users

pytestmark = [pytest.mark.daemon, pytest.mark.root]
engines = pytest.mark.parametrize("engine", ["26", "28"], indirect=True)  # what the engine enforces
newest = pytest.mark.parametrize("engine", ["28"], indirect=True)

SIMPLE = """# syntax=docker/dockerfile:1
FROM busybox AS one
ARG WHO=nobody
COPY file /file
RUN echo "for $WHO" >/who; hostname >/host
FROM busybox
LABEL a=b
COPY --from=one /file /who /host /
CMD ["cat", "/who", "/file"]
"""


def folder(user: User, name: str, files: dict[str, str]) -> Path:
    """Lay out a folder of a user's."""
    path = user.home / name
    for file, text in files.items():
        (path / file).parent.mkdir(parents=True, exist_ok=True)
        (path / file).write_text(text)
    subprocess.run(["chown", "-R", f"{user.uid}:{user.gid}", path], check=True)
    return path


def build(proxy: Proxy, user: User, *arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    """Run docker build."""
    return proxy.docker(user, "build", "--progress", "plain", *arguments, **options)


def dockerfile(proxy: Proxy, user: User, text: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Build from a folder with nothing but a Dockerfile."""
    return build(proxy, user, *arguments, str(folder(user, "plain", {"Dockerfile": text})))


@engines
def test_building(proxy: Proxy, users: Users, engine: Engine) -> None:
    context = folder(users.alice, "context", {"Dockerfile": SIMPLE, "file": "content\n"})
    arguments = ["-t", "kit:1", "-t", "kit:2", "--build-arg", "WHO=me", "--label", "c=d", str(context)]
    assert_done(build(proxy, users.alice, *arguments))
    assert proxy.docker(users.alice, "run", "--rm", "kit:1").stdout == "for me\ncontent\n"
    found = json.loads(engine.docker("inspect", "-f", "{{json .Config.Labels}}", "kit:2").stdout)
    assert found == {"a": "b", "c": "d", "io.sockproxy.owner": str(users.alice.uid)}
    assert_done(proxy.docker(users.alice, "rmi", "kit:1", "kit:2"))


@newest
def test_what_is_recorded(proxy: Proxy, users: Users) -> None:
    before = len(proxy.records())
    text = "FROM busybox\nARG PASS\nRUN --mount=type=secret,id=s test -s /run/secrets/s\n"
    context = folder(users.alice, "context", {"Dockerfile": text, "secret": "very-hidden"})
    arguments = ["-t", "kit:1", "--build-arg", "PASS=hidden-too", "--secret", f"id=s,src={context / 'secret'}"]
    assert_done(build(proxy, users.alice, *arguments, str(context)))
    records = proxy.records()[before:]
    intents = [one for one in records if one["ev"] == "intent" and one.get("build", {}).get("tags")]  # type: ignore[attr-defined]
    assert [one["build"]["tags"] for one in intents] == [["kit:1"]]  # type: ignore[index]
    assert intents[0]["who"]["uid"] == users.alice.uid  # type: ignore[index]
    outcome = next(one for one in records if one["ev"] == "outcome" and one["rid"] == intents[0]["rid"])
    assert outcome["out"]["grpc_status"] == "0"  # type: ignore[index]
    image = proxy.docker(users.alice, "inspect", "-f", "{{.Id}}", "kit:1").stdout.strip()
    assert outcome["out"]["image"] == image  # type: ignore[index]
    steps = {one["rid"] for one in records if one["ev"] == "intent" and "build" in one}
    assert steps > {intents[0]["rid"]}  # what the frontend was asked for has an outcome, too
    assert steps <= {one["rid"] for one in records if one["ev"] == "outcome"}
    assert "hidden" not in (proxy.log / "audit.jsonl").read_text()


@engines
def test_what_a_developer_may_not(proxy: Proxy, users: Users, engine: Engine) -> None:
    refused = {
        ("--network", "host"): "host's network",
        ("--allow", "security.insecure"): "may not give a build",
        ("--cgroup-parent", "/other"): "parent cgroup",
        ("--label", "io.sockproxy.owner=0"): "sockproxy's own",
        ("--build-arg", "BUILDKIT_CACHE_MOUNT_NS=x"): "set by sockproxy",
        ("--build-arg", "BUILDKIT_SYNTAX=some/frontend"): "frontend",
    }
    images = set(engine.docker("images", "-aq").stdout.split())
    for arguments, why in refused.items():
        done = dockerfile(proxy, users.alice, "FROM busybox\nRUN true\n", *arguments, "-t", "not")
        assert (done.returncode, "sockproxy: " in done.stderr, why in done.stderr) == (1, True, True), done.stderr[
            -2000:
        ]
    for line in ("RUN --network=host true", "ADD http://127.0.0.1:1/x /x", "ADD https://localhost/x.git /x"):
        done = dockerfile(proxy, users.alice, f"FROM busybox\n{line}\n", "-t", "not")
        assert done.returncode == 1, line
        assert "not allowed" in done.stderr or "denied by policy" in done.stderr, done.stderr[-2000:]
    assert set(engine.docker("images", "-aq").stdout.split()) == images


@newest
def test_a_viewer_may_not_build(proxy: Proxy, users: Users) -> None:
    done = dockerfile(proxy, users.carol, "FROM busybox\n")
    assert (done.returncode, "role viewer does not allow" in done.stderr) == (1, True), done.stderr


@engines
def test_nobody_sees_others_builds_and_images(proxy: Proxy, users: Users) -> None:
    text = "FROM busybox\nRUN echo alices >/alices\n"
    assert_done(build(proxy, users.alice, "-t", "alices:1", str(folder(users.alice, "hers", {"Dockerfile": text}))))
    for line in ("FROM alices:1", "FROM busybox\nCOPY --from=alices:1 /alices /"):
        done = dockerfile(proxy, users.bob, f"{line}\n")
        assert (done.returncode, "denied by policy" in done.stderr) == (1, True), done.stderr[-2000:]
    assert_done(dockerfile(proxy, users.alice, "FROM alices:1\n"))
    listed = [proxy.docker(user, "buildx", "history", "ls") for user in (users.alice, users.bob)]
    if "unknown command" not in listed[0].stderr:
        assert [" hers " in assert_done(one) for one in listed] == [True, False]


@engines
def test_cache_mounts_and_steps_are_apart(proxy: Proxy, users: Users) -> None:
    text = "FROM busybox\nRUN --mount=type=cache,target=/c,id={} echo $(cat /c/who) >/was; id -u; echo {} >/c/who\n"
    for identity in ("shared", "../sockproxy-0/shared"):
        for user in (users.alice, users.bob):
            assert_done(dockerfile(proxy, user, text.format(identity, user.name), "-t", f"of{user.uid}"))
            was = proxy.docker(user, "run", "--rm", f"of{user.uid}", "cat", "/was").stdout
            assert was == "\n"
    again = text.format("shared", "again")
    assert_done(dockerfile(proxy, users.alice, again, "-t", "same-cache"))
    assert proxy.docker(users.alice, "run", "--rm", "same-cache", "cat", "/was").stdout == f"{users.alice.name}\n"
    once = "FROM busybox\nRUN cat /proc/sys/kernel/random/uuid >/uuid\n"
    found = []
    for user in (users.alice, users.alice, users.bob):
        assert_done(dockerfile(proxy, user, once, "-t", f"once{user.uid}"))
        found.append(proxy.docker(user, "run", "--rm", f"once{user.uid}", "cat", "/uuid").stdout)
    assert found[0] == found[1] != found[2]


@newest
def test_a_git_repository_as_a_context(proxy: Proxy, users: Users) -> None:
    alice = users.alice
    context = folder(alice, "repository", {"Dockerfile": "FROM busybox\nCOPY . /all\n"})
    for words in ("init -q", "add .", "-c user.name=a -c user.email=a@example.org commit -q -m one"):
        proxy.run(alice, ["git", *words.split()], cwd=context, check=True)
    head = proxy.run(alice, ["git", "rev-parse", "HEAD"], cwd=context).stdout.strip()
    env = proxy.environment(alice) | {"BUILDX_GIT_LABELS": "full"}
    assert_done(build(proxy, alice, "-t", "git", str(context), env=env))
    labels = json.loads(proxy.docker(alice, "inspect", "-f", "{{json .Config.Labels}}", "git").stdout)
    assert labels["org.opencontainers.image.revision"] == head
    assert labels["io.sockproxy.owner"] == str(alice.uid)


@newest
def test_an_error_is_shown_with_its_line(proxy: Proxy, users: Users) -> None:
    text = "FROM busybox\n" + f"# {'x' * 78}\n" * 1000 + "RUN echo why; exit 4\n"
    done = dockerfile(proxy, users.alice, text)
    assert (done.returncode, "exit code: 4" in done.stderr) == (1, True), done.stderr[-1000:]
    assert ">>> RUN echo why; exit 4" in done.stderr, done.stderr[-1000:]


@newest
def test_no_secret_of_a_build_is_on_the_record(proxy: Proxy, users: Users, engine: Engine) -> None:
    """Arguments, secrets, registry credentials, URLs of contexts: of builds that are done, and of what is refused."""
    secret = "hush7c1f"
    text = (
        'FROM busybox\nARG TOKEN\nLABEL l="$TOKEN"\nENV E="$TOKEN"\nRUN --mount=type=secret,id=s test -s /run/secrets/s'
    )
    path = folder(users.alice, "secrets", {"Dockerfile": text, "s": secret, "config/config.json": ""})
    auth = base64.b64encode(f"user:{secret}".encode()).decode()
    (path / "config" / "config.json").write_text(json.dumps({"auths": {"registry.invalid": {"auth": auth}}}))
    (path / "config" / "cli-plugins").symlink_to(users.alice.home / ".docker" / "cli-plugins")
    environment = proxy.environment(users.alice) | {"DOCKER_CONFIG": str(path / "config"), "S": secret}
    common = ["--build-arg", f"TOKEN={secret}", "--label", f"a={secret}", "--secret", f"id=s,src={path}/s"]
    common += ["--secret", "id=e,env=S", "--add-host", f"{secret}:1.2.3.4"]
    assert_done(build(proxy, users.alice, *common, "-t", "kit:secret", str(path), env=environment))
    for more in (
        ["--network", "host", str(path)],
        ["--build-context", f"x=https://user:{secret}@example.invalid/y?token={secret}", str(path)],
        [f"https://user:{secret}@example.invalid/repository.git?token={secret}"],
        ["--cache-from", f"type=s3,secret_access_key={secret},bucket=b,region=r", str(path)],
        ["--cache-to", f"type=s3,secret_access_key={secret},bucket=b,region=r", str(path)],
        ["--output", f"type=image,name=registry.invalid/x,push=true,annotation.a={secret}", str(path)],
    ):
        build(proxy, users.alice, *common, *more, env=environment)
    record = (proxy.log / "audit.jsonl").read_text()
    assert '"op":"BuildKitSolve"' in record
    assert secret not in record
    assert auth not in record
    assert secret not in proxy.errors()
    engine.docker("rmi", "-f", "kit:secret")
