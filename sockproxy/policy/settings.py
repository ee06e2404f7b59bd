"""Read the settings of the policy file that are no role's: how the record is kept, how callers are known.

A row gives how a setting is read, and what holds where the file says nothing.
"""

from __future__ import annotations

from sockproxy.policy.document import Node, as_mapping
from sockproxy.policy.values import Parser, Value, integer, word

Section = dict[str, tuple[Parser, int | str]]

AUDIT: Section = {
    # what happens when there is no room for the record: changes are refused, or all is, or things go on unrecorded
    "on_full": (word(("refuse", "refuse-all", "continue")), "refuse"),
    # what the record shows of a command that is run in a container: the program's name, or all of it
    "commands": (word(("program", "all")), "program"),
}
AUTH: Section = {
    "accounts": (word(("pam", "none")), "pam"),  # whether accounts are checked with PAM at all
    "cache": (integer(0, 3600), 30),  # for how many seconds an answer holds
    "token_hours": (integer(0, 720), 12),  # how long tokens live, 0: none
}
SECTIONS = {"audit": AUDIT, "auth": AUTH}


def read(name: str, node: Node | None) -> dict[str, Value]:
    """Read a section.

    Raises:
        ConfigError: at the first mistake.
    """
    rows = SECTIONS[name]
    settings: dict[str, Value] = {key: default for key, (_, default) in rows.items()}
    if node is not None:
        section = as_mapping(node, f"a map with {', '.join(rows)}")
        section.only(tuple(rows))
        settings |= {key: rows[key][0](value) for key, (_, value) in section.entries.items()}
    return settings
