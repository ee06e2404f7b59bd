"""Plans of `sockproxy install` and `uninstall`, done on a small machine in a folder."""

from __future__ import annotations

import argparse
import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from sockproxy.install import command, plan
from sockproxy.install.machine import InstallError, Machine, Run, Step, Write
from sockproxy.supervise import units
from sockproxy.supervise.table import Settings

PLAIN = Settings(None, "/var/run/docker.sock", "/run/sockproxy/docker.sock", "/run/sockproxy", "/state", "/log")
TAKEN = plan.taken_over(PLAIN)


class Small(Machine):
    """Notes commands in place of running them."""

    def __init__(self, folder: Path) -> None:
        super().__init__(str(folder))
        self.folder, self.ran = folder, list[str]()
        self.docker: str | None = plan.DAEMON_PATHS[0]  # where it listens
        self.loaded: dict[str, str] = {}  # what systemd knows of
        self.enabled, self.serves = set[str](), False
        self.said = {"docker.socket": "loaded\n", "docker.service": "{ argv[]=/usr/sbin/dockerd -H fd:// ; }"}
        self.write("/etc/docker/daemon.json", "{}")

    def output(self, *argv: str) -> str:
        return self.said[argv[-1]]

    def _run(self, step: Run) -> None:
        self.ran.append(" ".join(step.argv))
        what, *names = step.argv[1:]
        if what == "daemon-reload":
            self.loaded = self.units()
        elif "docker.socket" in names:
            moved = plan.DROP_IN[1:] in self.loaded
            self.docker = (plan.MOVED if moved else plan.DAEMON_PATHS[0]) if what == "start" else None
        elif what == "enable":
            self.enabled = set(names)
        elif what == "disable":
            self.enabled, self.serves = set(), False
        elif what in ("start", "restart", "stop"):
            known = "etc/systemd/system/sockproxy.service" in self.loaded
            self.serves = what != "stop" and known and self.docker == plan.MOVED

    def units(self) -> dict[str, str]:
        return {path: text for path, text in self.tree().items() if path.startswith("etc/systemd/system/") and text}

    def state(self) -> object:
        """Describe all but what was run."""
        return self.tree(), self.docker, self.loaded, self.enabled, self.serves

    def write(self, path: str, text: str) -> None:
        place = self.folder / path[1:]
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)

    def tree(self) -> dict[str, str]:
        return {str(p.relative_to(self.folder)): p.read_text() if p.is_file() else "" for p in self.folder.rglob("*")}

    def carry_out(self, steps: list[Step]) -> list[str]:
        return [said for step in steps if (said := self.do(step))]


@pytest.fixture
def machine(tmp_path: Path) -> Small:
    small = Small(tmp_path)
    for folder in (
        "etc/systemd/system",
        "etc/sysusers.d",
        "etc/tmpfiles.d",
        "etc/profile.d",
        "etc/pam.d",
        "var/lib/sockproxy",
    ):
        (tmp_path / folder).mkdir(parents=True)
    return small


@pytest.mark.parametrize("settings", [PLAIN, TAKEN], ids=["plain", "takeover"])
def test_what_is_installed_is_undone_exactly(machine: Small, settings: Settings) -> None:
    before = machine.tree()
    machine.carry_out(plan.install(machine, settings))
    for name, text in units.files(settings).items():
        assert machine.read(f"/etc/{name}") == text
    assert (machine.read(plan.DROP_IN) is None) == (settings == PLAIN)
    assert (machine.read(plan.PROFILE) is None) == (settings == TAKEN)
    assert machine.carry_out(plan.uninstall(machine)) == []
    assert machine.tree() == before


def test_a_take_over_moves_the_daemons_socket_before_ours_is_there(machine: Small) -> None:
    machine.carry_out(plan.install(machine, TAKEN))
    order = [
        machine.ran.index(line) for line in ("systemctl daemon-reload", "systemctl stop docker.service docker.socket")
    ]
    order.append(machine.ran.index("systemctl start docker.socket docker.service"))
    order.append(machine.ran.index("systemctl start sockproxy.service"))
    assert order == sorted(order)
    drop_in = machine.read(plan.DROP_IN) or ""
    assert f"ListenStream=\nListenStream={plan.MOVED}\n" in drop_in
    assert "DirectoryMode=0700\nSocketMode=0600\n" in drop_in
    machine.ran.clear()
    machine.carry_out(plan.uninstall(machine))
    assert machine.ran[0].startswith("systemctl disable --now ")
    assert machine.ran[1:] == [
        "systemctl stop docker.service docker.socket",
        "systemctl daemon-reload",
        "systemctl start docker.socket docker.service",
    ]


def test_without_a_take_over_docker_is_left_alone(machine: Small) -> None:
    machine.carry_out(plan.install(machine, PLAIN))
    machine.carry_out(plan.uninstall(machine))
    assert not any("docker" in line.replace("sockproxy-front-docker.socket", "") for line in machine.ran)


def test_what_others_wrote_is_not_overwritten(machine: Small) -> None:
    machine.write(plan.PROFILE, "export DOCKER_HOST=ssh://elsewhere\n")
    with pytest.raises(InstallError, match=r"profile\.d/sockproxy\.sh is in the way"):
        plan.install(machine, PLAIN)


def test_what_was_changed_stays(machine: Small) -> None:
    machine.carry_out(plan.install(machine, PLAIN))
    machine.write(plan.PROFILE, "# mine now\n")
    assert machine.carry_out(plan.uninstall(machine)) == [
        f"{plan.PROFILE} stays: it was changed after the installation"
    ]
    assert machine.read(plan.PROFILE) == "# mine now\n"


def test_an_upgrade_restarts_and_removes_what_is_no_more(machine: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    real = units.files
    monkeypatch.setattr(
        units, "files", lambda settings: {**real(settings), "systemd/system/sockproxy-old.service": "x"}
    )
    machine.carry_out(plan.install(machine, TAKEN))
    monkeypatch.undo()
    machine.ran.clear()
    machine.carry_out(plan.install(machine, TAKEN))
    assert machine.read("/etc/systemd/system/sockproxy-old.service") is None
    assert machine.ran[-1] == "systemctl restart sockproxy.service"
    assert not any(" stop " in line for line in machine.ran)


def test_a_take_over_of_a_plain_installation_undoes_that_first(machine: Small) -> None:
    machine.carry_out(plan.install(machine, PLAIN))
    machine.carry_out(plan.install(machine, TAKEN))
    assert machine.read(plan.PROFILE) is None
    before = set(machine.manifest()["files"])
    assert plan.DROP_IN in before


@pytest.mark.parametrize(
    ("said", "options", "why"),
    [
        ({"docker.socket": "not-found\n"}, "{}", "no unit docker.socket"),
        ({"docker.service": "{ argv[]=/usr/sbin/dockerd ; }"}, "{}", "-H fd://"),
        ({}, '{"hosts": ["unix:///run/docker.sock"]}', '"hosts"'),
        ({}, "{", "daemon.json"),
    ],
)
def test_no_take_over_where_the_socket_is_not_systemds(
    machine: Small, said: dict[str, str], options: str, why: str
) -> None:
    machine.said |= said
    machine.write("/etc/docker/daemon.json", options)
    with pytest.raises(InstallError, match=why):
        plan.install(machine, TAKEN)


def killed(machine: Small, steps: list[Step], at: int) -> None:
    """Carry steps out up to one that is begun: a draft is left of what is written, a command is done or is not."""
    machine.carry_out(steps[: at // 2])
    step = steps[at // 2] if at // 2 < len(steps) else None
    if isinstance(step, Write):
        machine.write(f"{step.path}.sockproxy-new", step.text[:20])
    elif isinstance(step, Run) and at % 2:
        machine.do(step)


def small(folder: Path, was: Callable[[Small], object]) -> Small:
    folder.mkdir()
    machine = Small(folder)
    (folder / "etc/systemd/system").mkdir(parents=True)
    (folder / "var/lib/sockproxy").mkdir(parents=True)
    was(machine)
    return machine


def nothing(machine: Small) -> None:
    pass


def installed(machine: Small) -> None:
    machine.carry_out(plan.install(machine, TAKEN))


def older(machine: Small) -> None:
    """Have what an older version has installed."""
    real = units.files
    with pytest.MonkeyPatch.context() as patch:
        files = {"systemd/system/sockproxy.service": "[Unit]\n", "systemd/system/sockproxy-old.service": "x"}
        patch.setattr(units, "files", lambda settings: {**real(settings), **files})
        installed(machine)


def doing(machine: Small) -> list[Step]:
    return plan.install(machine, TAKEN)


@pytest.mark.parametrize(
    ("was", "what"),
    [(nothing, doing), (older, doing), (installed, doing), (installed, plan.uninstall)],
    ids=["install", "upgrade", "install again", "uninstall"],
)
def test_who_was_killed_half_way_does_it_again_or_undoes_it(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    was: Callable[[Small], object],
    what: Callable[[Small], list[Step]],
) -> None:
    monkeypatch.setattr("os.fsync", lambda fd: None)
    clean = small(tmp_path / "clean", nothing).state()
    whole = small(tmp_path / "whole", installed).state()
    steps = what(small(tmp_path / "steps", was))
    kinds = [None, *map(type, steps), None]  # of many files that are written one after the other: the first and last
    some = [index for index in range(len(steps)) if len({*kinds[index : index + 3]}) > 1 or kinds[index + 1] is Run]
    for at in [2 * index + more for index in some for more in (0, 1)] + [2 * len(steps)]:
        for then in (doing, plan.uninstall):
            machine = small(tmp_path / f"{at}-{then.__name__}", was)
            killed(machine, what(machine), at)
            if then is plan.uninstall and not machine.manifest():
                continue  # nothing was done, or all
            machine.ran.clear()
            assert machine.carry_out(then(machine)) == []
            upgraded = was is not nothing and what is then is doing
            assert not (upgraded and any("docker.service" in line for line in machine.ran))  # containers go on
            expected = whole if then is doing else clean
            assert machine.state() == expected, (at, then.__name__)


def test_a_full_disk_keeps_nobody_from_undoing(machine: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    before = machine.tree()
    machine.carry_out(plan.install(machine, TAKEN))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    assert machine.carry_out(plan.uninstall(machine)) == []
    assert machine.tree() == before


def test_nothing_installed_nothing_undone(machine: Small) -> None:
    with pytest.raises(InstallError, match="nothing was installed"):
        plan.uninstall(machine)


def test_a_dry_run_changes_nothing(
    machine: Small, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "Machine", lambda: machine)
    before = machine.tree()
    options = argparse.Namespace(**PLAIN._asdict(), takeover=True, dry_run=True, yes=True)
    assert command.install(options) == 0
    assert machine.tree() == before
    assert machine.ran == []
    told = capsys.readouterr().out
    assert f"write {plan.DROP_IN}" in told
    assert "running containers stop" in told


def test_nobody_to_ask_is_no_yes(
    machine: Small, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "Machine", lambda: machine)
    monkeypatch.setattr("os.geteuid", lambda: 0)
    real = os.path.isdir
    monkeypatch.setattr("os.path.isdir", lambda path: path == "/run/systemd/system" or real(path))
    options = argparse.Namespace(**PLAIN._asdict(), takeover=False, dry_run=False, yes=False)
    assert command.install(options) == 2
    assert "nobody is there to ask" in capsys.readouterr().err
    assert machine.ran == []


def test_a_step_that_fails_says_what_and_how_to_go_back(machine: Small) -> None:
    with pytest.raises(InstallError, match=r"/bin/false failed|cannot run"):
        Machine()._run(Run(("/bin/false",)))
    Machine()._run(Run(("/bin/false",), must=False))
    (machine.folder / "etc/file").write_text("x")
    with pytest.raises(InstallError, match="can't be written"):
        machine.do(Write("/etc/file/below", "x"))
