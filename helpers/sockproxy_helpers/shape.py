"""Check the shape of the compiled policy, value by value."""

from __future__ import annotations

from collections.abc import Callable

from .errors import BadPolicy


def _is_flag(value: object) -> bool:
    return type(value) is bool


def _is_names(value: object) -> bool:
    return isinstance(value, list) and all(type(name) is str and name for name in value)


def _is_binds(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(bind, dict)
        and bind.keys() == {"path", "mode"}
        and type(bind["path"]) is str
        and (bind["path"] == "{home}" or bind["path"].startswith("/"))
        and bind["mode"] in ("ro", "rw")
        for bind in value
    )


def _is_limits(value: object) -> bool:
    """Check the bounds. 0 means "unlimited" to the daemon for all but our own count, so it must never get there."""
    return (
        isinstance(value, dict)
        and value.keys() == {"memory", "cpus", "pids", "containers"}
        and all(value[key] is None or (type(value[key]) is int and value[key] > 0) for key in ("memory", "pids"))
        and (value["cpus"] is None or (type(value["cpus"]) in (int, float) and 0 < value["cpus"] < 1 << 20))
        and (value["containers"] is None or (type(value["containers"]) is int and value["containers"] >= 0))
    )


def _is_ports(value: object) -> bool:
    return (
        isinstance(value, dict) and value.keys() == {"min"} and type(value["min"]) is int and 0 < value["min"] < 65537
    )


# Every role has every one of these. The sentences and the defaults are in sockproxy/policy/schema.py.
RULES: dict[str, Callable[[object], bool]] = {
    "base_images": _is_names,
    "binds": _is_binds,
    "capabilities": _is_names,
    "cgroup_parent": _is_flag,
    "default_bridge": _is_flag,
    "devices": _is_flag,
    "driver_options": _is_flag,
    "fetch": _is_flag,
    "host_namespaces": _is_names,
    "limits": _is_limits,
    "no_new_privileges": _is_flag,
    "ports": _is_ports,
    "privileged": _is_flag,
    "runtimes": _is_names,
    "security_options": _is_flag,
    "sees_all": _is_flag,
    "sysctls": _is_names,
    "unmodelled": _is_flag,
    "via": _is_names,
}


def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    expect(len(dict(pairs)) == len(pairs), "a key twice")
    return dict(pairs)


def expect(condition: bool, what: str) -> None:
    if not condition:
        raise BadPolicy(what)


def as_map(value: object, where: str, keys: set[str] | None = None) -> dict[str, object]:
    if not isinstance(value, dict) or (keys is not None and value.keys() != keys):
        raise BadPolicy(where)
    return value


def as_selector(value: object) -> dict[str, str]:
    found = {key: as_text(item, "a container") for key, item in as_map(value, "a container").items()}
    expect(found.keys() <= {"name", "label", "image", "owner"} and bool(found.keys() - {"owner"}), "a container")
    return found


def as_list(value: object, where: str, length: int = -1) -> list[object]:
    if not isinstance(value, list) or length not in (-1, len(value)):
        raise BadPolicy(where)
    return value


def as_text(value: object, where: str) -> str:
    if type(value) is not str or not value or not value.isprintable():
        raise BadPolicy(where)
    return value
