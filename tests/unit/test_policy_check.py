"""`sockproxy check`, and what it warns of."""

from __future__ import annotations

import argparse
import grp
import os
import pwd
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from sockproxy import cli, paths
from sockproxy.policy import report
from sockproxy.policy.compile import compile_text
from sockproxy.policy.dangers import DANGERS, Danger
from tests.support.judging import ROLES

GROUP, USER = grp.getgrgid(0).gr_name, pwd.getpwuid(0).pw_name


def warnings(text: str) -> list[str]:
    return list(report.warnings(compile_text(f"version: 1\n{text}".encode(), "p")))


def check(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = cli.main(["check", *arguments])
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    return tmp_path / "p.yaml"


def test_a_good_file(capsys: pytest.CaptureFixture[str], policy: Path) -> None:
    policy.write_text(f"version: 1\nbindings: [{{group: {GROUP}, role: ci}}]\n")
    code, out, err = check(capsys, "--config", str(policy))
    lines = out.splitlines()
    assert (code, err) == (0, "")
    assert lines[0].startswith(f"OK: {policy}: 5 roles, 1 bindings, compiled sha256 ")
    assert any(
        line.startswith("role ci (roles.yaml:") and line.endswith(f"68 operations; group {GROUP}") for line in lines
    )
    assert (
        "    ports: may publish host ports from 1024 upwards on these addresses: 0.0.0.0, ::, 127.0.0.1, ::1" in lines
    )
    assert not any(line.startswith("warning") for line in lines)


def test_a_bad_file(capsys: pytest.CaptureFixture[str], policy: Path) -> None:
    policy.write_text("version: 1\nbindings: [{user: carol, role: vewer}]\n")
    code, out, err = check(capsys, "--config", str(policy))
    assert (code, out) == (2, "")
    assert err == f"{policy}:2:32: unknown role `vewer` (did you mean viewer?), expected {ROLES}\n"


def test_no_file(capsys: pytest.CaptureFixture[str], policy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "POLICY_FILE", str(policy))
    assert check(capsys)[1].startswith("OK: built in: ")
    policy.write_text("")
    assert check(capsys)[1].startswith(f"OK: {policy}: ")


def test_a_file_that_is_named(capsys: pytest.CaptureFixture[str], policy: Path) -> None:
    policy.write_text("version: 2\n")
    for words in (["--config", str(policy)], [str(policy)]):
        assert cli.main(["check", *words]) == 2
        assert capsys.readouterr().err.startswith(f"{policy}:1:")


def test_a_default_file_that_cannot_be_read_is_not_skipped(
    capsys: pytest.CaptureFixture[str], policy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "POLICY_FILE", str(policy))
    policy.symlink_to("nowhere")
    assert check(capsys)[0] == 2
    policy.unlink()
    policy.mkdir()
    assert check(capsys)[0] == 2


def test_a_folder_that_may_not_be_entered_hides_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(path: str) -> os.stat_result:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(paths.os, "lstat", denied)
    assert paths.policy_file(None) == paths.POLICY_FILE


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["check", "one", "two"], ["check", "--config"]])
def test_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    assert end.value.code == 2
    assert "usage: sockproxy" in capsys.readouterr().err


def test_the_command_starts_without_what_it_does_not_need(policy: Path) -> None:
    policy.write_text("")
    call = f"cli.main(['check', '--config', {str(policy)!r}])"
    probe = f"import sys; from sockproxy import cli; {call}; print({{'trio', 'h11'}} & {{*sys.modules}})"
    top = Path(paths.helpers_dir()).parent
    path = {"PYTHONPATH": f"{top}:{paths.helpers_dir()}"}
    run = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, env=path, check=True)
    assert run.stdout.splitlines()[-1] == "set()"
    run = subprocess.run(
        [sys.executable, "-m", "sockproxy", "--version"], capture_output=True, text=True, env=path, check=True
    )
    assert run.stdout.startswith("sockproxy ")


def test_an_incomplete_installation_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(paths, "_TOP", str(tmp_path / "a"))
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="not completely installed"):
        paths.role_files()
    (tmp_path / "share/sockproxy").mkdir(parents=True)
    (tmp_path / "share/sockproxy/roles.yaml").write_text("")
    assert paths.role_files()[0] == f"{tmp_path}/share/sockproxy/roles.yaml"


def test_names_that_no_account_has() -> None:
    found = warnings("bindings: [{user: no-such-user, role: ci}, {group: no-such-group, role: ci}]")
    assert found == [
        "no user on this host has the name: no-such-user. Make the account, or correct the name",
        "no group on this host has the name: no-such-group. Make it (groupadd), put people into it "
        "(usermod -aG GROUP USER), or correct the name",
    ]


def test_many_names_are_cut() -> None:
    text = ", ".join(f"{{group: no-such-{number:03}, role: ci}}" for number in range(100))
    assert warnings(f"bindings: [{text}]")[0].partition(". ")[0].endswith("no-such-009 and 90 more")


def test_nobody_bound() -> None:
    assert warnings("bindings: []") == ["nobody is bound to a role: every call will be refused"]


# A rule that makes each row of the table true, alone. A row without an example fails the test below.
EXAMPLES = {
    "privileged: true": "privileged: true",
    "devices: true": "devices: true",
    "security_options: true": "security_options: true",
    "driver_options: true": "driver_options: true",
    "cgroup_parent: true": "cgroup_parent: true",
    "unmodelled: true": "unmodelled: true",
    "capabilities that reach the host": "capabilities: [CHOWN, SYS_ADMIN]",
    "namespaces of the host": "host_namespaces: [pid]",
    "the host's network": "host_namespaces: [network]",
    "more namespaces of the host (ipc, uts, cgroup)": "host_namespaces: [uts]",
    "plain_binds: true": "plain_binds: true",
    "a bind of /": "binds: [{path: /, mode: ro}]",
    "unmapped_binds: true": "unmapped_binds: true",
    "bind_groups: true": "bind_groups: true",
    "runtimes: [ALL]": "runtimes: [ALL]",
    "sees_all: true": "{sees_all: true, allow: [ContainerInspect]}",
    "default_bridge: true": "default_bridge: true",
    "cache_imports: true": "cache_imports: true",
    "frontends: [ALL]": "frontends: [ALL]",
    "fetch: true": "fetch: true",
    "ports below 1024": "ports: {min: 80}",
    "ulimits rtprio or nice": "ulimits: {rtprio: 9}",
    "subnets beyond what Docker takes by itself": "subnets: [172.28.0.0/16, 10.0.0.0/8]",
    "revoke_streams: false": "revoke_streams: false",
    "mode: warn": "mode: warn",
    "no bound of memory": "{limits: {memory: null}, totals: {memory: null}}",
    "no bound of cpus": "{limits: {cpus: null}, totals: {cpus: null}}",
    "no bound of pids": "{limits: {pids: null}, totals: {pids: null}}",
    "no bound of disk": "totals: {disk: null}",
    "more ways to be known than `peer`, and privileged: true": "{privileged: true, via: [peer, token]}",
}
BOUND = f"bindings: [{{group: {GROUP}, role: r}}]\n"


@pytest.mark.parametrize("danger", DANGERS, ids=lambda danger: danger.what)
def test_each_danger(danger: Danger) -> None:
    found = warnings(f"{BOUND}roles:\n  r:\n   {EXAMPLES[danger.what]}\n")
    start = f"p:5: role r has {danger.what}: group {GROUP} {danger.then}. "
    [line] = [line for line in found if line.startswith(start)]
    assert line.lower().endswith(danger.advice.lower())
    assert len(found) == 1 or danger.rule == "via"


def test_no_danger_in_the_strictest_role_nor_in_the_built_in_ones_for_users() -> None:
    assert warnings(f"{BOUND}roles: {{r: {{}}}}") == []
    for role in ("viewer", "developer", "ci", "auditor"):
        assert warnings(BOUND.replace("r}", f"{role}}}")) == []


def test_a_bound_of_either_kind_is_one() -> None:
    for rule in ("limits", "totals"):
        assert warnings(f"{BOUND}roles:\n  r: {{{rule}: {{memory: null, cpus: null, pids: null}}}}\n") == []


@pytest.mark.parametrize(
    ("section", "warning"),
    [
        ("audit: {on_full: continue}", "audit: {on_full: continue}: a full disk lets things be done unrecorded."),
        (
            "auth: {accounts: none}",
            "auth: {accounts: none}: expired and locked accounts keep their access, and who is given an old uid has "
            "what is its last owner's.",
        ),
        ("auth: {cache: 301}", "auth: {cache: 301}: who is shut out may go on for 301 seconds."),
    ],
)
def test_settings(section: str, warning: str) -> None:
    [found] = warnings(f"{BOUND}roles: {{r: {{}}}}\n{section}")
    assert found.startswith(warning)


def test_strict(capsys: pytest.CaptureFixture[str], policy: Path) -> None:
    policy.write_text(f"version: 1\nbindings: [{{group: {GROUP}, role: admin}}]\n")
    assert check(capsys, "--config", str(policy))[0] == 0
    assert check(capsys, "--strict", "--config", str(policy))[0] == 1
    policy.write_text(f"version: 1\nbindings: [{{group: {GROUP}, role: ci}}]\n")
    assert check(capsys, "--strict", "--config", str(policy))[0] == 0


def test_roots_own_power_and_a_role_of_nobodys_are_no_news() -> None:
    assert warnings(f"bindings: [{{user: {USER}, role: admin}}]\nroles: {{r: {{privileged: true}}}}") == []


def test_up_is_given_its_settings(monkeypatch: pytest.MonkeyPatch, policy: Path) -> None:
    given: list[dict[str, object]] = []

    def main(options: argparse.Namespace) -> int:
        given.append(vars(options))
        return 7

    monkeypatch.setitem(sys.modules, "sockproxy.supervise", SimpleNamespace(main=main))
    monkeypatch.delattr("sockproxy.supervise", raising=False)
    monkeypatch.setattr(paths, "POLICY_FILE", str(policy))
    assert cli.main(["up"]) == 7
    del given[0]["run"]
    assert given[0] == {
        "config": None,
        "docker_socket": "/var/run/docker.sock",
        "listen": "/run/sockproxy/docker.sock",
        "runtime_dir": "/run/sockproxy",
        "state_dir": "/var/lib/sockproxy",
        "log_dir": "/var/log/sockproxy",
        "plugin_dir": "/run/docker/plugins",
    }
