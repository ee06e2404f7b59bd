"""Read the settings of the policy file that are no role's: how the record is kept, how callers are known.

A row gives what a setting may be; the first is what holds where the file says nothing.
"""

from __future__ import annotations

from sockproxy.policy.document import Node, as_mapping, as_text, did_you_mean, one_of
from sockproxy.policy.values import integer

AUDIT = {
    # what happens when there is no room for the record: changes are refused, or all is, or things go on unrecorded
    "on_full": ("refuse", "refuse-all", "continue"),
    # what the record shows of a command that is run in a container: the program's name, or all of it
    "commands": ("program", "all"),
}


def audit(node: Node | None) -> dict[str, str]:
    """Read the `audit` section.

    Raises:
        ConfigError: at the first mistake.
    """
    settings = {name: words[0] for name, words in AUDIT.items()}
    if node is not None:
        section = as_mapping(node, f"a map with {', '.join(AUDIT)}")
        section.only(tuple(AUDIT))
        for name, (_, value) in section.entries.items():
            text = as_text(value, one_of(AUDIT[name]))
            if text not in AUDIT[name]:
                raise value.error(f"unknown {value.what}{did_you_mean(text, AUDIT[name])}", one_of(AUDIT[name]))
            settings[name] = text
    return settings


# Whether accounts are checked with PAM at all; for how many seconds an answer holds; how long tokens live, 0: none.
AUTH: dict[str, int | str] = {"accounts": "pam", "cache": 30, "token_hours": 12}
_NUMBERS = {"cache": integer(0, 3600), "token_hours": integer(0, 720)}
_CHECKS = ("pam", "none")


def auth(node: Node | None) -> dict[str, int | str]:
    """Read the `auth` section.

    Raises:
        ConfigError: at the first mistake.
    """
    settings = dict(AUTH)
    if node is not None:
        section = as_mapping(node, f"a map with {', '.join(AUTH)}")
        section.only(tuple(AUTH))
        for name, (_, value) in section.entries.items():
            if name in _NUMBERS:
                settings[name] = _NUMBERS[name](value)
            elif (text := as_text(value, one_of(_CHECKS))) in _CHECKS:
                settings[name] = text
            else:
                raise value.error(f"unknown {value.what}{did_you_mean(text, _CHECKS)}", one_of(_CHECKS))
    return settings
