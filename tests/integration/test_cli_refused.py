"""What a role refuses: the docker CLI shows why, by which rule, in which request; nothing at the daemon has changed."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from tests.support.cli import assert_done, assert_refused, rids, state
from tests.support.engines import Engine
from tests.support.proxy import Proxy
from tests.support.raw import call
from tests.support.users import User, Users

pytestmark = [pytest.mark.daemon, pytest.mark.root]

RULE = "roles.yaml"

# Options of docker run that a developer may not use. {home} is the caller's, {bob} another's; "victim" runs.
OPTIONS = """
--privileged
--network host
--net=host
--pid host
--ipc host
--uts host
--userns host
--cgroupns host
--cap-add SYS_ADMIN
--cap-add ALL
--cap-add cap_sys_ptrace
--cap-add MKNOD
--device /dev/null
--device /dev/kmsg:/dev/x:r
--device-cgroup-rule 'c 1:3 r'
--gpus all
--blkio-weight-device /dev/null:100
--device-read-bps /dev/null:1mb
--security-opt seccomp=unconfined
--security-opt seccomp:unconfined
--security-opt apparmor=unconfined
--security-opt systempaths=unconfined
--security-opt no-new-privileges=false
--security-opt no-new-privileges:false
--security-opt label=disable
-v /etc:/x
-v /:/x:ro
-v {bob}:/x
-v {home}x:/x
-v {home}:/x:rshared
--mount type=bind,source=/etc,target=/x
--mount type=bind,source={bob},target=/x,readonly
--mount type=bind,source={home},target=/x,bind-propagation=rshared
--mount type=volume,source=v,target=/x,volume-opt=type=none,volume-opt=o=bind,volume-opt=device=/etc
--mount type=volume,target=/x,volume-opt=device=/dev/vda
--mount type=volume,source=v,target=/x,volume-driver=other
--volume-driver other -v vol:/x
--cgroup-parent /x
--cgroup-parent system.slice
--sysctl kernel.shm_rmid_forced=1
--sysctl net.ipv4.ip_forward=1
--runtime other
--log-driver syslog
--log-driver fluentd
--log-driver none --log-driver gelf
-p 80:80
-p 1023:1023/udp
-p 127.0.0.1:1000-1030:1000-1030
--oom-score-adj -500
--oom-kill-disable
-m 100g
-m 8193m
--cpus 1000
--pids-limit 1000000
--pids-limit -1
--shm-size 100g
--storage-opt other=1
--label io.sockproxy.owner=0
--label IO.SockProxy.Owner=0
-w /proc/self/fd/8
"""
WITHOUT_A_RULE = ("--label", "-w")  # no rule could allow them

# Other commands that a developer may not use: {code} is docker's exit code for refusals.
COMMANDS = """
exec --privileged victim true
build --network host -
build --cgroup-parent /x -
build --security-opt seccomp=unconfined -
build -m 100g -
build --label io.sockproxy.x=y -
import http://127.0.0.1:5000/x.tar
import -c LABEL\\ io.sockproxy.owner=0 -
commit -c LABEL\\ io.sockproxy.owner=0 victim x
volume create -o type=none -o o=bind -o device=/etc v
volume create -o type=tmpfs v
volume create -d other v
volume create --label io.sockproxy.owner=0 v
network create -d macvlan n
network create -d host n
network create --subnet 8.8.8.0/24 n
network create --subnet 169.254.169.0/24 n
network create -o com.docker.network.bridge.name=docker0 n
network create -o parent=eth0 n
network create --ipam-driver other n
network create --ipam-opt x=y n
network create --label io.sockproxy.owner=0 n
network create --attachable --scope swarm n
network connect --driver-opt x=y bridge victim
update -m 100g victim
update --pids-limit -1 victim
update --cpus 1000 victim
swarm init
swarm leave
plugin ls
plugin install x
secret ls
config ls
node ls
service create busybox
service ls
top victim -o pid;ls
top victim --file=/etc/shadow
"""

VIEWER = """
run busybox
create busybox
start victim
stop victim
restart victim
kill victim
pause victim
rm -f victim
rename victim x
update -m 64m victim
exec victim true
wait victim
commit victim x
cp victim:/etc/passwd -
cp /etc/passwd victim:/tmp
export victim
save busybox
load
import -
build -
pull busybox
push busybox
tag busybox x
rmi busybox
search x
login -u x -p y 127.0.0.1:1
container prune -f
image prune -f
volume prune -f
network prune -f
volume create x
volume rm x
network create x
network rm x
network connect bridge victim
network disconnect bridge victim
swarm init
plugin ls
"""

STRANGER = """
version
info
ps
images
volume ls
network ls
inspect victim
logs victim
events
system df
run busybox
exec victim true
cp victim:/etc/passwd -
build -
"""


# Neighbours of the options above that harm nobody.
ALLOWED = """
--privileged=false --network bridge --ipc private --cgroupns private -v {home}:/x
--network none --ipc shareable --cap-add CHOWN --cap-drop ALL --cap-add net_bind_service -v {home}/./:/x:ro
--security-opt no-new-privileges -v vol1:/x -v /anonymous
--mount type=bind,source={home},target=/x --mount type=volume,source=vol1,target=/y --mount type=tmpfs,target=/z
--tmpfs /x:size=1m --sysctl net.ipv4.ip_unprivileged_port_start=0 --runtime runc --log-driver none
--log-driver json-file --log-opt max-size=1m -p 8080:80 -p 81 -P --oom-score-adj 500 -m 64m
--log-driver local --cpus 0.5 --pids-limit 100 --shm-size 64m --label io.sockproxyx=1 -w /proc.d
--name 0123456789abx --ulimit nofile=100 --dns 10.0.0.1 --add-host x:10.0.0.1 --health-cmd true --init
"""


def _victim(engine: Engine, owner: User, folder: Path) -> None:
    """Run a container past sockproxy that is this user's by label and mark, as if it had been made through it."""
    mark = f"io.sockproxy.owner={owner.uid}"
    owned = ["--label", mark, "--cidfile", mark, "-v", "/secret"]
    engine.docker("run", "-d", "--name", "victim", *owned, "busybox", "sleep", "1000", cwd=folder)


@pytest.fixture
def bridge(proxy: Proxy, users: Users) -> None:
    """Have alice's own network made before what is refused, which may come after it."""
    assert_done(proxy.docker(users.alice, "run", "--rm", "busybox", "true"))


@pytest.fixture
def victim(bridge: None, engine: Engine, users: Users, tmp_path: Path) -> None:
    """A container of alice's own, so that only the role speaks against it."""
    _victim(engine, users.alice, tmp_path)


@pytest.fixture
def carols(engine: Engine, users: Users, tmp_path: Path) -> None:
    """A container of the viewer's."""
    _victim(engine, users.carol, tmp_path)


@pytest.mark.usefixtures("victim")
def test_options_of_run(proxy: Proxy, users: Users, engine: Engine) -> None:
    before = state(engine)
    newer = [] if engine.version == "20" else ["--annotation x=y"]
    for line in [*OPTIONS.strip().splitlines(), *newer]:
        options = shlex.split(line.format(home=users.alice.home, bob=users.bob.home))
        done = proxy.docker(users.alice, "run", *options, "busybox", "true")
        assert_refused(done, 125, None if options[0] in WITHOUT_A_RULE else RULE)
    assert state(engine) == before


def _refuse_all(proxy: Proxy, user: User, commands: str) -> list[str]:
    """Demand that each is refused and nothing changes; give the request ids."""
    before = state(proxy.engine)
    found = []
    for command in commands.strip().splitlines():
        environment = proxy.environment(user) | {"DOCKER_BUILDKIT": "0"}
        done = proxy.docker(user, *shlex.split(command), input="FROM busybox\n", env=environment)
        found.append(assert_refused(done, 125 if command.startswith("run") else 1))
    assert state(proxy.engine) == before
    return found


@pytest.mark.usefixtures("victim")
def test_commands_of_a_developer(proxy: Proxy, users: Users) -> None:
    _refuse_all(proxy, users.alice, COMMANDS)


@pytest.mark.usefixtures("carols")
def test_a_viewer_changes_nothing(proxy: Proxy, users: Users) -> None:
    ids = _refuse_all(proxy, users.carol, VIEWER)
    assert set(ids) <= set(rids(proxy, "deny", users.carol))


@pytest.mark.usefixtures("bridge")
def test_paths_that_climb(proxy: Proxy, users: Users, engine: Engine) -> None:
    before = state(engine)
    for source in ("../..", "../../etc", "./../", f"../{users.bob.home.name}", "x/../.."):
        done = proxy.docker(users.alice, "run", "-v", f"{users.alice.home}/{source}:/x", "busybox", "true")
        assert ("HostConfig.Binds[0]: " in done.stderr, done.returncode) == (True, 125)
    done = proxy.docker(users.alice, "run", "-v", "../..:/x", "busybox", "true")  # made absolute by the CLI
    assert_refused(done, 125, RULE)
    assert state(engine) == before


@pytest.mark.usefixtures("carols")
def test_a_refused_attach(proxy: Proxy, users: Users) -> None:
    """The CLI itself throws away the words of what refuses an upgrade."""
    done = proxy.docker(users.carol, "attach", "victim")
    assert (done.stderr, done.returncode) == ("unable to upgrade to tcp, received 403\n", 1)


@pytest.mark.usefixtures("victim")
def test_a_stranger_sees_nothing(proxy: Proxy, users: Users) -> None:
    ids = _refuse_all(proxy, users.mallory, STRANGER)
    assert set(ids) <= set(rids(proxy, "deny", users.mallory))


@pytest.mark.usefixtures("victim")
def test_a_build_from_a_url(proxy: Proxy, users: Users, engine: Engine) -> None:
    """The CLI fetches a URL itself for the classic builder; the API lets the daemon do it."""
    for remote in ("http://127.0.0.1:5000/x.tar", "git://127.0.0.1/x", "https://x/y.git", "127.0.0.1:5000"):
        answer = call(proxy.listen, "POST", f"/v1.41/build?remote={remote}&version=1", user=users.alice)
        assert answer.status in (400, 403)
        assert "remote" in answer.message


def test_what_looks_alike_is_allowed(proxy: Proxy, users: Users) -> None:
    """The refusals are not for want of looking: the harmless neighbours of those options work."""
    home = users.alice.home
    for line in ALLOWED.strip().splitlines():
        options = shlex.split(line.format(home=home))
        assert_done(proxy.docker(users.alice, "run", "--rm", *options, "busybox", "true"))
    assert_done(proxy.docker(users.alice, "volume", "rm", "vol1"))
