"""Be the steps of `sockproxy up` that are no process of the table, for systemd: `sockproxy unit-step STEP`.

SECURITY: runs as root, for a moment each time. It reads the policy file, which is root's; it hears no client.
"""

from __future__ import annotations

import argparse

import trio

from sockproxy.audit.client import Recorder
from sockproxy.errors import ConfigError
from sockproxy.supervise import host
from sockproxy.supervise.host import UpError, say
from sockproxy.supervise.supervisor import USAGE_ERROR, publish, published, ready_state, record
from sockproxy.supervise.table import AUTH, Settings

STEPS = ("prepare", "started", "reload", "stopping")


def main(options: argparse.Namespace) -> int:
    """Do a step; give the exit code.

    Args:
        options: those of `up`, and step.
    """
    settings = Settings.of(options)
    try:
        if options.step == "prepare":
            ready_state(settings)
            publish(settings)
            host.assertion_key(settings.assertion_key, AUTH)
        elif options.step == "reload":
            return _reload(settings)
        elif options.step == "started":
            _record(settings, {"ev": "start", "docker_socket": settings.docker_socket})
        else:
            _record(settings, {"ev": "stop", "why": "told to"})
    except (UpError, ConfigError, OSError) as error:
        say(str(error))
        return USAGE_ERROR
    return 0


def _reload(settings: Settings) -> int:
    """Put a new policy in the place of the old, if it is right; the unit then tells the processes."""
    try:
        policy = publish(settings)
    except (ConfigError, UpError, OSError) as error:
        say(f"the old policy stays: {error}")
        _record(settings, {"ev": "policy", "verdict": "refused", "why": str(error)})
        return USAGE_ERROR
    say(f"new policy, sha256 {policy.sha256}")
    _record(settings, {"ev": "policy", "verdict": "loaded"})
    return 0


def _record(settings: Settings, event: dict[str, object]) -> None:
    async def run() -> None:
        recorder = Recorder(settings.runtime_dir)
        await record(recorder, settings, published(settings), event)
        recorder.close()

    trio.run(run)
