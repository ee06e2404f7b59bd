"""See that PAM would be asked what sockproxy's services mean, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator

from sockproxy import paths
from sockproxy.auth import services
from sockproxy.auth.services import ACCOUNTS, ASKED, FOLDER, PASSWORDS, BadService, Line
from sockproxy.doctor.machine import Finding, Machine
from sockproxy.errors import ConfigError
from sockproxy.policy.compile import compile_file

LIBRARY = ("/lib*/libpam.so.0", "/lib/*/libpam.so.0", "/usr/lib*/libpam.so.0", "/usr/lib/*/libpam.so.0")
MODULES = ("/lib/security", "/lib/*/security", "/lib64/security", "/usr/lib/security", "/usr/lib/*/security")
_COUNT = "pam_faillock.so"
_RESTORE = f"compare it with {{}} in {FOLDER}; `sockproxy install` and `sockproxy up` put it there when it is missing"


def asked(machine: Machine) -> Iterator[Finding]:
    """See that the services are there and whole, and leave the count of wrong passwords to the desk."""
    if _accounts(machine) == "none":
        yield Finding("the policy leaves PAM out of accounts (auth: accounts: none); passwords are its affair still")
    if not machine.found(*LIBRARY):
        yield Finding("there is no libpam.so.0: nobody can be asked about accounts", "apt install libpam0g")
    remedy = _RESTORE.format(f"{paths.config_dir()}/pam.d")
    for service in ASKED:
        status = machine.status(f"{FOLDER}/{service}")
        if status is not None and (status.st_uid != 0 or status.st_mode & 0o022):
            yield Finding(
                f"others than root can change {FOLDER}/{service}", f"chown root:, chmod 644 {FOLDER}/{service}"
            )
        try:
            lines = services.lines(service, lambda path: machine.read(path) if machine.found(path) else None)
        except BadService as error:
            yield Finding(f"{error}; sockproxy asks no such service", remedy)
            continue
        yield from _modules(machine, service, lines)
        yield from _counted(service, lines)


def _accounts(machine: Machine) -> str:
    try:
        return str(compile_file(paths.policy_file(machine.settings.config))["auth"]["accounts"])
    except ConfigError:
        return "pam"  # that is the affair of the row `policy`


def _modules(machine: Machine, service: str, lines: list[Line]) -> Iterator[Finding]:
    needed = {line.module for line in lines if line.kind in ASKED[service] and not line.may_lack}
    for name in sorted(needed):
        places = (name,) if name.startswith("/") else tuple(f"{folder}/{name}" for folder in MODULES)
        if not machine.found(*places):
            yield Finding(
                f"{FOLDER}/{service} names {name}, which is not there: PAM refuses everybody",
                f"apt install libpam-modules, or the package that has {name}; or take the line out",
            )


def _counted(service: str, lines: list[Line]) -> Iterator[Finding]:
    """See that no module counts wrong passwords: the desk does, by who tries."""
    if service == PASSWORDS and any(line.kind == "auth" and line.module.endswith(_COUNT) for line in lines):
        yield Finding(
            f"{_COUNT} in {FOLDER}/{service}: anybody can keep a person from logging in, by guessing",
            "put the file that came with sockproxy in its place: sockproxy counts by itself, for each who tries",
        )
    if service == ACCOUNTS and any(line.kind == "account" and line.module.endswith(_COUNT) for line in lines):
        yield Finding(
            f"{_COUNT} in {FOLDER}/{service}: each question about an account forgets the wrong passwords",
            "take that line out",
        )
