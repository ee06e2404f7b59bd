"""The docker CLI can't tell sockproxy from the daemon: same output, same errors, same exit codes, byte for byte."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator

import pytest

from tests.support.engines import Engine
from tests.support.proxy import Proxy
from tests.support.users import User, Users

pytestmark = [pytest.mark.daemon, pytest.mark.root]

# `box` runs, `ended` has ended, `net` is a network with box, `vol` a volume of box; `nobody` is nothing.
READS = """
version
version --format {{json .Server}}
info --format {{json .}}
ps
ps -a --no-trunc --size
ps -aq --filter name=box --filter status=running
ps --format {{json .}}
images --digests
images -a --format {{json .}} --filter reference=busy*
image inspect busybox
history --no-trunc busybox
inspect box ended
inspect --size --type container box
inspect -f {{.State.Status}}/{{json .HostConfig.PortBindings}}/{{.Config.Env}} box
inspect -f {{.NoSuchField}} box
inspect busybox
inspect net
inspect vol
logs box
logs -t --details ended
logs --tail 1 ended
top box
top box -o pid,args
diff ended
port box
port box 80
network ls --no-trunc
network inspect -v bridge net
network ls --filter driver=host -q
volume ls --format json
volume inspect vol
volume ls --filter dangling=true
system df
system df -v
system df --format {{json .}}
wait ended
cp ended:/file -
cp -a ended:/etc/. -
export ended
events --since 1h --until 1s --filter type=network --format {{.Action}}
stats --no-stream --format {{.Name}} box
plugin ls
swarm join-token worker
node ls
service ls
search nothing
"""

ERRORS = """
logs nobody
start nobody
stop nobody
restart nobody
kill ended
kill -s NOSUCH box
rm nobody
rm box
rmi busybox
rmi nobody
rmi bad..name
volume rm nobody
volume rm vol
volume inspect nobody
network rm nobody
network rm bridge
network rm net
network inspect nobody
network create net
network connect net nobody
network connect net box
network disconnect net ended
run --name box busybox
run --rm -m 1k busybox
run --rm --cpuset-cpus 99 busybox
run --rm --ip 1.2.3.4 busybox
run --rm --runtime nosuch busybox
run --rm -w relative busybox
run --rm --entrypoint nosuch busybox
run --rm -u nosuch busybox
run --rm --cap-add NOSUCH busybox
run --rm --security-opt nosuch=1 busybox
run --rm --sysctl nosuch.x=1 busybox
run --rm --device /dev/nosuch busybox
run --rm --isolation nosuch busybox
run --rm --platform nosuch/x busybox
run --rm --restart nosuch busybox
run --rm --mount type=bind,source=/nowhere-at-all,target=/x busybox
create --name x busybox@sha256:1
exec nobody true
exec ended true
exec box nosuch
exec -u nosuch box true
exec -w /nowhere box true
attach nobody
attach ended
wait nobody
pause ended
unpause box
rename box ended
rename nobody x
update -m 1k box
update --restart nosuch box
commit nobody
commit box Bad/Name
tag nobody x
tag busybox Bad
history nobody
top ended
top nobody
port nobody
diff nobody
export nobody
stats --no-stream nobody
save nobody
load
import -
import -m x http://127.0.0.1:1/nothing
cp box:/nowhere x
cp nobody:/x x
cp /etc/hostname nobody:/x
pull 127.0.0.1:1/nothing
push 127.0.0.1:1/nothing
push nobody
login -u x -p y 127.0.0.1:1
inspect nobody
ps --filter nosuch=1
images --filter nosuch=1
events --filter nosuch --until 1s
events --since 1h --until nosuch
volume create -o nosuch=1 x
plugin inspect nobody
secret ls
service logs nobody
build -f nosuch -
"""

# What the daemon would refuse, too, and sockproxy does before it, in words of its own.
MALFORMED = """
network create --subnet 1.2.3.4/99 other
run --rm -v rel/ative:/x busybox
run --rm -v /nowhere-at-all:relative busybox
create --name bad/name busybox
rename box bad/name
volume create Bad/Name
"""

# What is looked up before the daemon is asked to act: the words are those of its look-up, not of the action.
LOOKED_UP = """
kill nobody
run --rm --network nosuch busybox
run --rm --network container:nobody busybox
run --rm --volumes-from nobody busybox
"""

# What differs between two calls to the same daemon, too.
PASSING = [
    (r"\b[0-9a-f]{64}\b|\b[0-9a-f]{12}\b", "ID"),
    (r"(Less than |About )?(an?|[0-9]+) (second|minute|hour)s?( ago)?", "TIME"),
    (r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+(Z|[+-][0-9:]+)", "TIME"),
    (r'"?(NGoroutines|NFd|NEventsListener|SystemTime|RunningFor)"?:"?[^",]*', r"\1"),
    (r"\b[0-9]{2}:[0-9]{2}(:[0-9]{2})?\b", "TIME"),  # of top, and of log lines of the CLI
    # cp packs a file while the daemon says no, and tells of it if it has not done so yet
    (r"time=\"TIME\" level=error msg=\"Can't add file \S+ to tar: io: read/write on closed pipe\"\n", ""),
    (r"/tmp/docker-[a-z]+[0-9]+", "FOLDER"),
    (r"(sleep|busybox_)[a-z]+_[a-z]+[0-9]?", "NAME"),
    (r"[0-9]+\.[0-9]+%", "PERCENT"),
]


@pytest.fixture
def world(proxy: Proxy, engine: Engine) -> Iterator[None]:
    """Set up what the commands are about, past sockproxy."""
    engine.docker("network", "create", "net")
    engine.docker("run", "--name", "ended", "busybox", "sh", "-c", "echo out; echo err >&2; echo x >/file")
    options = ["--network", "net", "-v", "vol:/vol", "-p", "8123:80", "-e", "A=b", "-l", "c=d"]
    engine.docker("run", "-d", "--name", "box", *options, "busybox", "sh", "-c", "echo line; exec sleep 1000")
    yield
    engine.clean()
    engine.docker("volume", "rm", "vol")


def _normal(text: bytes, command: str) -> str:
    found = text.decode("latin-1")
    if command.startswith("export"):
        return str(len(found))
    if command.startswith("ps"):
        found = re.sub(" +", " ", found)  # the columns are as wide as the times in them
    for pattern, name in PASSING:
        found = re.sub(pattern, name, found)
    if command.startswith(("images", "image ls", "system df")):  # made in the same second: in any order
        found = "\n".join(sorted(re.sub(" +", " ", found).splitlines()))
    return found


def _run(proxy: Proxy, user: User, command: str, host: str) -> tuple[int, str, str]:
    environment = proxy.environment(user) | {"DOCKER_HOST": host, "DOCKER_BUILDKIT": "0"}
    argv = user.command(["docker", *shlex.split(command)])
    done = subprocess.run(
        argv, env=environment, input=b"garbage\n" * 99, capture_output=True, timeout=60, cwd=user.home
    )
    error = re.sub(rb"\b(box|ended)\b", b"ID", done.stderr)  # the daemon gets the ID, and names that
    return done.returncode, _normal(done.stdout, command), _normal(error, command)


def _differences(proxy: Proxy, user: User, commands: str) -> list[str]:
    found = []
    for command in commands.strip().splitlines():
        mine = _run(proxy, user, command, proxy.docker_host)
        direct = _run(proxy, user, command, f"unix://{proxy.engine.socket}")
        if mine != direct:
            found.append(f"docker {command}\n   through: {mine}\n   direct:  {direct}")
    return found


@pytest.mark.usefixtures("world")
def test_reads_are_the_same(proxy: Proxy, users: Users) -> None:
    found = _differences(proxy, users.root, READS)
    assert not found, "\n".join(found)


@pytest.mark.usefixtures("world")
def test_errors_are_the_same(proxy: Proxy, users: Users) -> None:
    found = _differences(proxy, users.root, ERRORS)
    assert not found, "\n".join(found)


@pytest.mark.usefixtures("world")
def test_malformed_values_are_refused_as_by_the_daemon(proxy: Proxy, users: Users) -> None:
    for command in MALFORMED.strip().splitlines():
        code, output, error = _run(proxy, users.root, command, proxy.docker_host)
        assert (code, output) == _run(proxy, users.root, command, f"unix://{proxy.engine.socket}")[:2]
        assert "Error response from daemon: " in error


@pytest.mark.usefixtures("world")
def test_what_is_missing_is_told_before_anything_is_done(proxy: Proxy, users: Users) -> None:
    for command in LOOKED_UP.strip().splitlines():
        code, output, error = _run(proxy, users.root, command, proxy.docker_host)
        assert (code, output) == _run(proxy, users.root, command, f"unix://{proxy.engine.socket}")[:2]
        assert re.search("(No such container: nobody|network nosuch not found)", error), error
