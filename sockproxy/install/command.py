"""Show a plan, ask, and carry it out."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable

from sockproxy.install import plan
from sockproxy.install.machine import InstallError, Machine, Step
from sockproxy.supervise.table import Settings
from sockproxy.supervise.units import USERS

USAGE_ERROR, FAILED = 2, 1
_SINGLE = "It restarts Docker: running containers stop, unless live-restore is set in /etc/docker/daemon.json."


def install(options: argparse.Namespace) -> int:
    """Install; give the exit code.

    Args:
        options: those of `up`, and takeover, dry_run, yes.
    """
    settings = Settings.of(options)
    if options.takeover:
        settings = plan.taken_over(settings)
    machine = Machine()
    done = f"sockproxy serves at {settings.listen}; put people into the group {USERS}, and try `sockproxy doctor`"
    return _carry_out(options, machine, lambda: plan.install(machine, settings), done)


def uninstall(options: argparse.Namespace) -> int:
    """Undo an installation; give the exit code.

    Args:
        options: dry_run, yes.
    """
    machine = Machine()
    done = "the record, the state folder, the accounts and /etc/sockproxy are left: remove them if nobody needs them"
    return _carry_out(options, machine, lambda: plan.uninstall(machine), done)


def _carry_out(options: argparse.Namespace, machine: Machine, planned: Callable[[], list[Step]], done: str) -> int:
    try:
        steps = planned()
        for step in steps:
            print(step)
        if any(plan.DOCKER_UNITS[0] in str(step) for step in steps):
            print(_SINGLE)
        if options.dry_run:
            return 0
        if os.geteuid() != 0:
            raise InstallError("only root can do that")
        if not os.path.isdir("/run/systemd/system"):
            raise InstallError("this machine was not booted with systemd: use `sockproxy up`")
        if not options.yes and not _agreed():
            print("nothing was changed")
            return FAILED
    except InstallError as error:
        print(f"sockproxy: {error}", file=sys.stderr)
        return USAGE_ERROR
    try:
        for step in steps:
            if said := machine.do(step):
                print(said)
    except InstallError as error:
        print(f"sockproxy: {error}\nsockproxy: `sockproxy uninstall` undoes what was done so far", file=sys.stderr)
        return FAILED
    print(done)
    return 0


def _agreed() -> bool:
    if not sys.stdin.isatty():
        raise InstallError("nobody is there to ask: say --yes")
    try:
        return input("Do this? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False
