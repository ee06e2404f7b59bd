"""The command line: `sockproxy up`, `check`, `explain`, `doctor`, `audit`.

Each command imports what it needs when it runs, so that `check` and `explain` work where trio is missing and `--help`
is quick.
Exit codes: 0 fine, 1 a finding, 2 usage or configuration error, 3 refused.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import sys
from typing import Any

from sockproxy import authoring, paths, review
from sockproxy.errors import ConfigError

FINDING, USAGE_ERROR = 1, 2
_PATHS = {
    "docker_socket": "/var/run/docker.sock",
    "listen": "/run/sockproxy/docker.sock",
    "runtime_dir": "/run/sockproxy",
    "state_dir": "/var/lib/sockproxy",
    "log_dir": "/var/log/sockproxy",
    "plugin_dir": "/run/docker/plugins",
}


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit code.

    Args:
        arguments: None for those of the process.
    """
    options = _parser().parse_args(arguments)
    try:
        code: int = options.run(options)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return USAGE_ERROR
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sockproxy", description="Share one Docker daemon without giving anybody root."
    )
    parser.add_argument("--version", action="version", version=f"sockproxy {_version()}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    up = commands.add_parser("up", help="run all processes in the foreground (as root)")
    _add_settings(up)
    up.set_defaults(run=_up)

    units = commands.add_parser("units", help="write systemd units, sysusers.d and tmpfiles.d for all processes")
    _add_settings(units)
    units.add_argument("--output", metavar="DIR", help="write files there; else all of them to standard output")
    units.set_defaults(run=_units)

    step = commands.add_parser("unit-step")  # for the units: what is no process of its own
    _add_settings(step)
    step.add_argument("step", choices=("prepare", "started", "reload", "stopping"))
    step.set_defaults(run=_step)

    install = commands.add_parser("install", help="have systemd run sockproxy (as root; shows what it does, and asks)")
    _add_settings(install)
    install.add_argument("--takeover", action="store_true", help="listen at the daemon's own path; move the daemon's")
    uninstall = commands.add_parser("uninstall", help="undo that")
    for command, run in ((install, _install), (uninstall, _uninstall)):
        command.add_argument("--dry-run", action="store_true", help="show what would be done, and do nothing")
        command.add_argument("--yes", action="store_true", help="do not ask")
        command.set_defaults(run=run)

    status = commands.add_parser("status", help="who is connected, what is under way, what was refused last")
    status.add_argument("--runtime-dir", metavar="PATH", default=_defaults()["runtime_dir"], help="(%(default)s)")
    status.add_argument("--format", choices=("text", "json"), default="text", help="(%(default)s)")
    status.set_defaults(run=_status)

    doctor = commands.add_parser("doctor", help="find ways around sockproxy, and what is missing on this machine")
    _add_settings(doctor)
    doctor.add_argument("--format", choices=("text", "json"), default="text", help="(%(default)s)")
    doctor.set_defaults(run=_doctor)

    accept = commands.add_parser("accept", help="let an account have what is of the one that had its uid before")
    accept.add_argument("--runtime-dir", metavar="PATH", default=_defaults()["runtime_dir"], help="(%(default)s)")
    accept.add_argument("user", metavar="NAME", help="the account that has the uid now")
    accept.set_defaults(run=_accept)

    check = commands.add_parser("check", help="check a policy file and tell what it means")
    _add_config(check)
    check.add_argument("file", metavar="FILE", nargs="?", help="the same as --config FILE")
    check.add_argument("--strict", action="store_true", help="exit with 1 when there are warnings")
    check.set_defaults(run=_check)

    explain = commands.add_parser("explain", help="tell what would happen to a request, and why")
    explain.add_argument("--user", metavar="NAME", help="who asks: an account of this host (that of who runs this)")
    _add_config(explain)
    explain.add_argument("--format", choices=("text", "json"), default="text", help="(%(default)s)")
    explain.add_argument("--body", metavar="FILE", help="the file with the request's body; - for standard input")
    explain.add_argument("method", metavar="METHOD", help="GET, POST, ...")
    explain.add_argument("target", metavar="PATH", help="with or without a version, and with its query")
    explain.set_defaults(run=_explain)
    authoring.add(commands)
    review.add(commands)
    _add_login(commands)
    return parser


def _add_settings(parser: argparse.ArgumentParser) -> None:
    _add_config(parser)
    known = _defaults()
    for name in _PATHS:
        help_ = {
            "docker_socket": "the daemon's socket ",
            "listen": "the users' socket ",
            "plugin_dir": "for volume plugins ",
        }.get(name, "")
        parser.add_argument(
            f"--{name.replace('_', '-')}", metavar="PATH", default=known[name], help=f"{help_}(%(default)s)"
        )


def _defaults() -> dict[str, str]:
    """Give the paths that sockproxy was installed with."""
    return {**_PATHS, **paths.installed()}


def _add_login(commands: Any) -> None:
    host = "unix:///PATH ($DOCKER_HOST, else unix:///run/sockproxy/docker.sock)"
    login = commands.add_parser("login", help="log in with a password; a token goes into docker's config.json")
    login.add_argument("--user", metavar="NAME", help="an account of the host (that of who runs this)")
    login.add_argument("--password-stdin", action="store_true", help="read the password from standard input")
    login.add_argument("--host", metavar="HOST", help=host)
    login.set_defaults(run=_login)
    logout = commands.add_parser("logout", help="revoke the token and take it out of docker's config.json")
    logout.add_argument("--all", action="store_true", help="revoke all tokens of the user's, wherever they are")
    logout.add_argument("--host", metavar="HOST", help=host)
    logout.set_defaults(run=_logout)
    forward = commands.add_parser("with-token", help="run a command whose connections all carry the token (buildx)")
    forward.add_argument("--host", metavar="HOST", help=host)
    forward.add_argument("command", metavar="CMD", nargs=argparse.REMAINDER, help="what to run")
    forward.set_defaults(run=_with_token)


def _add_config(parser: argparse.ArgumentParser) -> None:
    text = f"the policy file ({paths.POLICY_FILE} if it is there, else the built-in policy)"
    parser.add_argument("--config", metavar="FILE", help=text)


def _version() -> str:
    try:
        return importlib.metadata.version("sockproxy")
    except importlib.metadata.PackageNotFoundError:
        return "(a checkout that is not installed)"


def _up(options: argparse.Namespace) -> int:
    from sockproxy import supervise

    return supervise.main(options)  # finds the policy file itself, at each reload again


def _install(options: argparse.Namespace) -> int:
    from sockproxy import install

    return install.install(options)


def _uninstall(options: argparse.Namespace) -> int:
    from sockproxy import install

    return install.uninstall(options)


def _units(options: argparse.Namespace) -> int:
    from sockproxy.supervise import units

    return units.main(options)


def _step(options: argparse.Namespace) -> int:
    from sockproxy.supervise import steps

    return steps.main(options)


def _doctor(options: argparse.Namespace) -> int:
    from sockproxy import doctor

    return doctor.main(options)


def _accept(options: argparse.Namespace) -> int:
    from sockproxy.auth import command

    return command.main(options)


def _status(options: argparse.Namespace) -> int:
    from sockproxy import status

    return status.main(options)


def _check(options: argparse.Namespace) -> int:
    import hashlib

    from sockproxy.policy import report
    from sockproxy.policy.compile import compile_file, dump

    warnings: list[str] = []
    compiled = compile_file(paths.policy_file(options.file or options.config), warnings.append)
    warnings += report.warnings(compiled)
    digest = hashlib.sha256(dump(compiled)).hexdigest()
    bound = len(compiled["users"]) + len(compiled["groups"]) + len(compiled["containers"])
    print(f"OK: {compiled['source']}: {len(compiled['roles'])} roles, {bound} bindings, compiled sha256 {digest}")
    for line in report.summary(compiled):
        print(line)
    for line in warnings:
        print(f"warning: {line}")
    return FINDING if options.strict and warnings else 0


def _explain(options: argparse.Namespace) -> int:
    from sockproxy import explain

    return explain.main(options)


def _login(options: argparse.Namespace) -> int:
    from sockproxy.login import command

    return command.login(options)


def _with_token(options: argparse.Namespace) -> int:
    from sockproxy.login import forward

    return forward.main(options)


def _logout(options: argparse.Namespace) -> int:
    from sockproxy.login import command

    return command.logout(options)
