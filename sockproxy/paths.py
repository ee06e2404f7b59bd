"""Know where the parts that are not packages lie: in a checkout next to the package, installed under sys.prefix."""

from __future__ import annotations

import json
import os
import sys

POLICY_FILE = "/etc/sockproxy/sockproxy.yaml"
MANIFEST = "/var/lib/sockproxy/installed.json"  # what `sockproxy install` has done
RUNNING = "Start it (systemctl start sockproxy), or give the --runtime-dir that `sockproxy up` has"
_TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def _find(checkout: str, installed: str, sign: str) -> str:
    for folder in (os.path.join(_TOP, checkout), os.path.join(sys.prefix, installed)):
        if os.path.isfile(os.path.join(folder, sign)):
            return folder
    raise FileNotFoundError(
        f"sockproxy is not completely installed: no {sign} in {_TOP}/{checkout} or {sys.prefix}/{installed}"
    )


def helpers_dir() -> str:
    """Find the folder of the root helpers, which is run as `python3 -I -S -B FOLDER ROLE`."""
    return _find("helpers", "libexec/sockproxy", "__main__.py")


def config_dir() -> str:
    """Find the folder of the built-in configuration."""
    return _find("config", "share/sockproxy", "roles.yaml")


def role_files() -> tuple[str, str]:
    """Find the files of the built-in roles: the basic ones, and those that are ready for known clients."""
    return os.path.join(config_dir(), "roles.yaml"), os.path.join(config_dir(), "ready.yaml")


def policy_file(chosen: str | None) -> str | None:
    """Find the policy file.

    A default file that is there but can't be read is not skipped: reading it then fails, instead of the built-in
    policy silently taking its place.

    Args:
        chosen: by --config.

    Returns:
        None when there is none: the built-in policy.
    """
    if chosen is not None:
        return chosen
    try:
        os.lstat(POLICY_FILE)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:
        pass
    return POLICY_FILE


def installed() -> dict[str, str]:
    """Tell with which paths sockproxy was installed on this machine; {} where it was not."""
    try:
        with open(MANIFEST, encoding="utf-8") as file:
            found = json.load(file)["settings"]
        return {str(name): str(value) for name, value in found.items() if value is not None}
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return {}
