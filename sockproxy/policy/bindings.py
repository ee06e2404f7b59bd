"""Read who has which role: users, groups, containers."""

from __future__ import annotations

import pwd
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from sockproxy.policy.document import Mapping, Node, Scalar, as_items, as_mapping, as_text, did_you_mean, one_of
from sockproxy.policy.values import Form, closed, whole

Binding = tuple[int, str, str]
Warn = Callable[[str], None]

_ACCOUNT = re.compile(r"[^\x00-\x20:/,\x7f]([^\x00-\x1f:/,\x7f]{0,254}[^\x00-\x20:/,\x7f])?")  # also "DOMAIN\some one"
_UID = re.compile(r"[0-9]{1,10}")
# What a container is told by. Its owner alone is no distinction: an owner's containers are the owner already.
_SELECTOR = {
    "name": (re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,254}"), "a container's name"),
    "label": (re.compile(r"[^=\x00-\x20]{1,255}=.{1,1024}"), "a container's label, KEY=VALUE"),
    "image": (
        re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_./:@-]{0,511}"),
        "an image, as it was named when the container was made",
    ),
}
_account_form: Form = {"type": "string", "pattern": whole(_ACCOUNT)}
_user_form: Form = {"anyOf": [{"type": "integer", "minimum": 0, "maximum": 9_999_999_999}, _account_form]}
_selector: dict[str, Form] = {
    key: {"type": "string", "pattern": whole(pattern)} for key, (pattern, _) in _SELECTOR.items()
}
# Who may be bound, as JSON Schema.
FORMS: dict[str, Form] = {
    "user": _user_form,
    "group": _account_form,
    "container": {
        **closed({**_selector, "owner": _user_form}, []),
        "anyOf": [{"required": [key]} for key in _SELECTOR],
    },
}
_CONTAINER = "a map with name, label or image (each once), and owner if it is not root's"


@dataclass(frozen=True, slots=True)
class Bindings:
    """Hold the bindings of a file. Each says: which in the order of the file, the role, and its place.

    Attributes:
        containers: each with what it means; without an owner, what root made.
    """

    users: dict[str, Binding] = field(default_factory=dict)
    groups: dict[str, Binding] = field(default_factory=dict)
    containers: list[tuple[Binding, dict[str, str]]] = field(default_factory=list)


def read_bindings(node: Node, roles: list[str], warn: Warn) -> Bindings:
    """Read a list of bindings.

    Args:
        roles: their names.
        warn: called with a sentence for what is accepted but looks like a mistake.

    Raises:
        ConfigError: at the first mistake.
    """
    found = Bindings()
    for index, item in enumerate(as_items(node, "a list of bindings"), 1):
        body = as_mapping(item, "a binding, {user: NAME, role: ROLE} or {group: NAME, role: ROLE}")
        body.only(("user", "group", "container", "role"))
        key, value = _subject(body)
        binding = (index, _role(body, roles), item.at)
        if key.text == "container":
            found.containers.append((binding, _container(value)))
            continue
        table = found.users if key.text == "user" else found.groups
        name = _user(value) if key.text == "user" else _account(value, "a group's name")
        if table.setdefault(name, binding) != binding:
            warn(f"{item.at}: {key.text} {name} is bound in {table[name][2]} already; the first match wins")
    return found


def _subject(body: Mapping) -> tuple[Scalar, Node]:
    named = [who for who in ("user", "group", "container") if who in body.entries]
    if not named:
        raise body.error("a binding without user, group or container", "one of user, group, container")
    key, node = body.entries[named[-1]]
    if len(named) > 1:
        raise key.error(f"{' and '.join(named)} in one binding", "one of them; two bindings for two")
    return key, node


def _container(node: Node) -> dict[str, str]:
    body = as_mapping(node, _CONTAINER)
    body.only((*_SELECTOR, "owner"))
    found = {}
    for key, (_, value) in body.entries.items():
        if key == "owner":
            found[key] = _user(value)
            continue
        pattern, expected = _SELECTOR[key]
        found[key] = as_text(value, expected)
        if not pattern.fullmatch(found[key]):
            raise value.error(value.what, expected)
    if not found.keys() & _SELECTOR.keys():
        raise body.error("a container that is told by nothing", _CONTAINER)
    return found


def _user(node: Node) -> str:
    if isinstance(node, Scalar) and node.plain and _UID.fullmatch(node.text):
        try:
            return pwd.getpwuid(int(node.text)).pw_name
        except KeyError:
            raise node.error(f"no account has uid {node.text}", "a user's name, or the uid of an account") from None
    return _account(node, "a user's name or uid")


def _account(node: Node, expected: str) -> str:
    text = as_text(node, expected)
    if not _ACCOUNT.fullmatch(text):
        raise node.error(node.what, expected)
    return text


def _role(body: Mapping, roles: list[str]) -> str:
    node = body.get("role")
    if node is None:
        raise body.error("a binding without role", "role: ROLE")
    role = as_text(node, "the name of a role")
    if role not in roles:
        raise node.error(f"unknown role {node.what}{did_you_mean(role, roles)}", one_of(sorted(roles)))
    return role
