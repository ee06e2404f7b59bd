"""Read the settings of the policy file that are no role's: how the record is kept.

A row gives what a setting may be; the first is what holds where the file says nothing.
"""

from __future__ import annotations

from sockproxy.policy.document import Node, as_mapping, as_text, did_you_mean, one_of

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
