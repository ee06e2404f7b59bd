"""What the guides of docker, compose, docker-py and testcontainers do works for a developer, or is told what would."""

from __future__ import annotations

import os
import shutil
import sys
from contextlib import closing
from pathlib import Path

import docker
import pytest

from tests.support.cli import REFUSAL, assert_done
from tests.support.proxy import Proxy, eventually
from tests.support.raw import acting_as
from tests.support.users import User, Users

pytestmark = [
    pytest.mark.daemon,
    pytest.mark.root,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # docker-py leaves connections to the collector
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
ORDINARY = Path(__file__).parent / "ordinary"

# The guides at docs.docker.com, with busybox for the images they name: a command, and what it prints.
COMMANDS = [
    ("docker run -d -p 8080:80 --name welcome busybox sleep 600", ""),
    ("docker ps --format {{.Names}}", "welcome"),
    ("docker port welcome", "80/tcp -> 0.0.0.0:8080"),
    ("docker exec welcome sh -c 'echo $HOSTNAME | wc -c'", "13"),
    ("docker stats --no-stream --format {{.Name}} welcome", "welcome"),
    ("docker top welcome", "sleep 600"),
    ("docker top welcome -o pid,comm", "sleep"),
    ("docker update --memory 64m --memory-swap 64m --restart on-failure:3 welcome", "welcome"),
    ("docker rename welcome hello", ""),
    ("docker pause hello", "hello"),
    ("docker unpause hello", "hello"),
    ("docker restart -t 0 hello", "hello"),
    ("docker logs --tail 10 --timestamps hello", ""),
    ("docker cp hello:/etc/passwd copied", ""),
    ("docker cp copied hello:/tmp/copied", ""),
    ("docker diff hello", "A /tmp/copied"),
    ('docker commit -m message -c \'CMD ["cat","/tmp/copied"]\' hello snapshot:1', "sha256:"),
    ("docker run --rm snapshot:1", "root:x:0"),
    ("docker image inspect -f {{.Config.Cmd}} snapshot:1", "[cat /tmp/copied]"),
    ("docker history snapshot:1 --format {{.Comment}}", "message"),
    ("docker image tag snapshot:1 snapshot:2", ""),
    ("docker image rm snapshot:2 snapshot:1", "Untagged: snapshot:1"),
    ("docker rm -f hello", "hello"),
    ("docker volume create todo-db", "todo-db"),
    ("docker run --rm --mount type=volume,src=todo-db,target=/etc/todos busybox sh -c 'echo x >/etc/todos/db'", ""),
    ("docker run --rm -v todo-db:/etc/todos:ro busybox cat /etc/todos/db", "x"),
    ("docker volume inspect -f {{.Name}} todo-db", "todo-db"),
    ("docker volume rm todo-db", "todo-db"),
    ("docker run --rm -v $PWD:/app -w /app busybox ls copied", "copied"),
    ("docker run --rm --mount type=bind,src=$PWD,target=/app,readonly busybox cat /app/copied", "root:x:0"),
    ("docker create --name bound -v $PWD:/app busybox true", ""),
    ("docker cp copied bound:/app/again", ""),
    ("cmp copied again && docker rm bound", "bound"),
    ("docker network create todo-app", ""),
    ("docker run -d --network todo-app --network-alias mysql --name db busybox nc -ll -p 3306 -e echo up", ""),
    ("docker run --rm --network todo-app busybox nc -w 2 mysql 3306", "up"),
    ("docker run --rm --network container:db busybox nc -w 2 127.0.0.1 3306", "up"),
    ("docker run --rm --pid container:db busybox ps", "nc -ll"),
    ("docker network connect --alias again todo-app db", "already"),
    ("docker rm -fv db", "db"),
    ("docker network rm todo-app", "todo-app"),
    ("docker run --rm -e A=b --env-file env busybox env", "C=d"),
    ("docker run --rm --read-only --tmpfs /run:rw,size=1m busybox touch /run/x", ""),
    ("docker run --rm --cpus .5 --memory 64m --pids-limit 50 --shm-size 32m busybox true", ""),
    ("docker run --rm --add-host host.docker.internal:host-gateway busybox cat /etc/hosts", "host.docker.internal"),
    ("docker run --rm --init --hostname me --dns 10.0.0.1 --stop-signal INT busybox hostname", "me"),
    ("docker run --rm --ulimit nofile=100:200 busybox sh -c 'ulimit -n'", "100"),
    ("docker run --rm --cap-drop ALL --cap-add NET_BIND_SERVICE --security-opt no-new-privileges busybox true", ""),
    ("docker run --rm --log-driver local --log-opt max-size=1m --label com.example=x busybox true", ""),
    ("docker run --rm --user 1000:1000 --group-add 2000 busybox id -G", "1000 2000"),
    ("docker run --rm --health-cmd true --health-interval 5s --restart no busybox true", ""),
    ("docker run --rm --sysctl net.ipv4.ip_unprivileged_port_start=0 busybox true", ""),
    ("docker run --rm --ipc private --shm-size 1m -P --expose 80 busybox true", ""),
    ("docker create --name kept -v /data busybox sh -c 'echo y >/data/f'", ""),
    ("docker start -a kept", ""),
    ("docker run --rm --volumes-from kept busybox cat /data/f", "y"),
    ("docker wait kept", "0"),
    ("docker export -o exported kept", ""),
    ("docker import exported imported:1", "sha256:"),
    ("docker save -o saved imported:1", ""),
    ("docker rmi imported:1", "Untagged"),
    ("docker load -i saved", "imported:1"),
    ("docker image prune -f", "Total reclaimed space"),
    ("docker rmi -f imported:1", ""),
    ("docker system df", "Local Volumes"),
    ("docker events --since 1m --until 0s --filter container=kept", "create"),
    ("docker container prune -f", "Deleted Containers"),
    ("docker volume prune -f", "Total reclaimed space"),
    ("docker network prune -f", ""),
    ("docker system prune -f", "Total reclaimed space"),
    ("docker info --format {{.Containers}}", "0"),
    ("docker version --format {{.Server.Os}}", "linux"),
]


def shell(proxy: Proxy, user: User, line: str) -> str:
    done = proxy.run(user, ["sh", "-c", line])
    assert REFUSAL.search(done.stderr) is None, (line, done.stderr)
    assert done.returncode == 0 or "already" in done.stderr, (line, done.stdout, done.stderr)
    return done.stdout + done.stderr


def test_the_guides_of_docker(proxy28: Proxy, users: Users) -> None:
    (users.alice.home / "env").write_text("C=d\n")
    for line, expected in COMMANDS:
        assert expected in shell(proxy28, users.alice, line), line


# What the guides do that a shared daemon can't allow: the refusal says what would be.
REFUSED = [
    ("docker run --rm -p 80:80 busybox true", "allowed: 1024 and above"),
    ("docker run --rm --privileged busybox true", "allowed: leave it out"),
    ("docker run --rm --network host busybox true", "allowed: leave it out, bridge, none, the name of a network"),
    ("docker run --rm --pid host busybox true", "allowed: leave it out"),
    ("docker run --rm --cap-add SYS_PTRACE busybox true", "allowed: AUDIT_WRITE, CHOWN"),
    ("docker run --rm --device /dev/snd busybox true", "allowed: leave it out"),
    ("docker run --rm --gpus all busybox true", "allowed: leave it out"),
    ("docker run --rm --security-opt seccomp=unconfined busybox true", "allowed: no-new-privileges, seccomp=builtin"),
    ("docker run --rm --memory 100g busybox true", "allowed: up to"),
    ("docker run --rm --sysctl kernel.shmmax=1 busybox true", "allowed: net.core.somaxconn"),
    ("docker run --rm --log-driver syslog busybox true", "allowed: none given, json-file, local, none"),
    ("docker run --rm -v /etc:/x:ro busybox true", "allowed: "),
    ("docker run --rm -v $PWD:/x:z busybox true", "allowed: rw, ro"),
    ("docker run --rm --ulimit rtprio=99 busybox true", "allowed: core, "),
    ("docker run --rm --log-opt max-size=1g busybox true", "allowed: together up to"),
    ("docker network create -d macvlan -o parent=eth0 x", "allowed: none given, bridge"),
    ("docker network create --subnet 8.8.8.0/24 x", "within 172.16.0.0/12, 192.168.0.0/16, fd00::/8"),
    ("docker network connect bridge none-such", "allowed: networks of your own"),
    ("docker volume create -o type=nfs -o device=:/x -o o=addr=10.0.0.1 x", "allowed: leave it out"),
    ("docker build - </dev/null --network host", "allowed: leave it out, bridge, none"),
]


def test_what_the_guides_do_that_is_refused_says_what_is_allowed(proxy28: Proxy, users: Users) -> None:
    for line, words in REFUSED:
        environment = proxy28.environment(users.alice) | {"DOCKER_BUILDKIT": "0"}
        done = proxy28.run(users.alice, ["sh", "-c", line], env=environment)
        assert done.returncode != 0, line
        assert REFUSAL.search(done.stderr), (line, done.stderr)
        assert words in done.stderr, (line, done.stderr)


@pytest.fixture
def project(users: Users) -> Path:
    """The project of tests/integration/ordinary, in Alice's home."""
    folder = users.alice.home / "ordinary"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "site").mkdir(parents=True)
    shutil.copy(ORDINARY / "compose.yaml", folder)
    files = {
        "Dockerfile": "FROM busybox AS base\nFROM base AS final\nARG GREETING\nRUN echo $GREETING >/greeting\n",
        "web.env": "FROM_FILE=1\n",
        "app.conf": "debug=0\n",
        "password": "pass\n",
        "site/index.html": "a page\n",
    }
    for name, text in files.items():
        (folder / name).write_text(text)
    for path in (folder, *folder.rglob("*")):
        os.chown(path, users.alice.uid, users.alice.gid)
    return folder


def test_a_project_of_compose(proxy28: Proxy, users: Users, project: Path) -> None:
    def compose(*arguments: str) -> str:
        environment = proxy28.environment(users.alice) | {"DOCKER_BUILDKIT": "0"}
        return assert_done(
            proxy28.docker(users.alice, "compose", *arguments, cwd=project, env=environment, timeout=120)
        )

    assert "ordinary" in compose("config")
    try:
        compose("build")
        compose("--profile", "debug", "up", "-d", "--wait")
        names = compose("ps", "-a", "--format", "{{.Name}}").split()
        assert len(names) == 6, names
        page = proxy28.engine.exec(["curl", "-fsm", "10", "http://127.0.0.1:18100/"], capture_output=True)
        assert page.stdout == "a page\n"
        inside = "cat /greeting /etc/app.conf /run/secrets/password; echo $FROM_FILE $FROM_SHELL $DB; nslookup www"
        said = compose("exec", "-T", "web", "sh", "-c", inside)
        assert said.startswith("hello\ndebug=0\npass\n1 default db:5432\n"), said
        assert compose("port", "web", "8002").strip()
        assert compose("exec", "-T", "debug", "ps").count("httpd") >= 1
        eventually(lambda: "pong" in compose("logs", "db") or "db" in compose("logs", "migrate"), "the job's output")
        compose("up", "-d", "--scale", "cache=1")
        compose("restart", "cache")
        compose("stop", "-t", "0", "debug")
        compose("top")
        compose("cp", "web:/greeting", "greeting")
        assert (project / "greeting").read_text() == "hello\n"
        compose("run", "--rm", "-T", "--no-deps", "cache", "true")
    finally:
        compose("--profile", "debug", "down", "-v", "-t", "0", "--rmi", "local", "--remove-orphans")


def test_the_examples_of_docker_py(proxy28: Proxy, users: Users) -> None:
    home = str(users.alice.home)
    with acting_as(users.alice), closing(docker.DockerClient(proxy28.docker_host, timeout=60)) as client:
        assert client.containers.run("busybox", "echo hello world", remove=True) == b"hello world\n"
        pool = docker.types.IPAMPool(subnet="192.168.52.0/24", gateway="192.168.52.254")
        ipam = docker.types.IPAMConfig(pool_configs=[pool])
        network = client.networks.create("network1", driver="bridge", ipam=ipam, check_duplicate=True)
        container = client.containers.run(
            "busybox",
            ["sleep", "600"],
            detach=True,
            network="network1",
            name="bobby",
            ports={"2222/tcp": 3333, "1111/tcp": ("127.0.0.1", 1111), "3333/udp": None},
            volumes={home: {"bind": "/mnt/vol2", "mode": "rw"}, "named": {"bind": "/mnt/vol1", "mode": "ro"}},
            environment=["A=b"],
            labels={"label": "x"},
            mem_limit="128m",
            nano_cpus=500_000_000,
            restart_policy={"Name": "on-failure", "MaximumRetryCount": 5},
            ulimits=[docker.types.Ulimit(name="nofile", soft=1024, hard=2048)],
            log_config=docker.types.LogConfig(type="json-file", config={"max-size": "10m", "labels": "a,b"}),
            healthcheck={"test": ["CMD", "true"], "interval": 1_000_000_000},
            tmpfs={"/mnt/vol3": "size=3m,uid=1000"},
            extra_hosts={"host": "10.0.0.7"},
            init=True,
        )
        assert container.exec_run("ls /mnt").output == b"vol1\nvol2\nvol3\n"
        config = client.api.create_networking_config({"network1": client.api.create_endpoint_config(aliases=["foo"])})
        host = client.api.create_host_config(port_bindings={1234: 4567}, binds={home: {"bind": "/a", "mode": "ro"}})
        made = client.api.create_container("busybox", "true", host_config=host, networking_config=config, ports=[1234])
        client.api.start(made["Id"])
        assert client.api.wait(made["Id"])["StatusCode"] == 0
        with pytest.raises(docker.errors.APIError, match=r"DriverOpts: role developer may not set options of drivers"):
            client.volumes.create("foobar", driver="local", driver_opts={"foo": "bar", "baz": "false"})
        assert client.volumes.create("foobar", driver="local", labels={"key": "value"}).name == "foobar"
        for found in client.containers.list(all=True):
            found.remove(force=True, v=True)
        network.remove()
        assert {volume.name for volume in client.volumes.list()} >= {"foobar", "named"}
        for volume in client.volumes.list():
            volume.remove()


def _testcontainers(proxy: Proxy, user: User, **environment: str) -> tuple[int, str]:
    """Run the script as a user, in the network where the engine publishes ports."""
    argv = [sys.executable, str(ORDINARY / "uses_testcontainers.py")]
    command = [str(word) for word in user.command(list(argv))]
    settings = proxy.environment(user) | environment
    done = proxy.engine.exec(command, env=settings, cwd=user.home, capture_output=True, timeout=120)
    return done.returncode, done.stdout + done.stderr


def test_testcontainers(proxy28: Proxy, users: Users) -> None:
    code, said = _testcontainers(proxy28, users.alice, TESTCONTAINERS_RYUK_DISABLED="true")
    assert (code, said[-9:]) == (0, "all done\n"), said


def test_the_reaper_of_testcontainers(proxy28: Proxy, users: Users) -> None:
    """It has the socket bound into a container; until that is allowed, the words say what is not."""
    from testcontainers.core.config import testcontainers_config

    proxy28.engine.docker("tag", "busybox", testcontainers_config.ryuk_image)
    code, said = _testcontainers(proxy28, users.alice)
    proxy28.engine.docker("rmi", testcontainers_config.ryuk_image)
    assert code != 0
    assert "sockproxy: HostConfig.Binds[0]: role developer may not bind " in said
