"""Check the shape of the compiled policy, value by value."""

from __future__ import annotations

from collections.abc import Callable

from sockproxy_helpers.errors import BadPolicy


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


def _is_amount(value: object) -> bool:
    """Check a bound. 0 means "unlimited" to the daemon, so it must never get there."""
    return value is None or (type(value) is int and 0 < value < 1 << 63)


def _is_count(value: object) -> bool:
    return value is None or (type(value) is int and 0 <= value < 1 << 63)


def _is_cpus(value: object) -> bool:
    return value is None or (type(value) in (int, float) and 0 < value < 1 << 20)  # type: ignore[operator]


def _is_map(shapes: dict[str, Callable[[object], bool]]) -> Callable[[object], bool]:
    """Make a check of a map that has exactly these keys."""
    return lambda value: (
        isinstance(value, dict)
        and value.keys() == shapes.keys()
        and all(shape(value[key]) for key, shape in shapes.items())
    )


_RESOURCES: dict[str, Callable[[object], bool]] = {"memory": _is_amount, "cpus": _is_cpus, "pids": _is_amount}


def _is_port(value: object) -> bool:
    return type(value) is int and 0 < value < 65537


def _is_bounds(value: object) -> bool:
    """Check a map of any names to bounds."""
    return isinstance(value, dict) and _is_names(list(value)) and all(map(_is_count, value.values()))


_COUNTED = ("networks", "volumes", "ports", "binds", "tags", "disk")

# Every role has every one of these. The sentences and the defaults are in sockproxy/policy/schema.py.
RULES: dict[str, Callable[[object], bool]] = {
    "bind_groups": _is_flag,
    "binds": _is_binds,
    "cache_imports": _is_flag,
    "capabilities": _is_names,
    "build_bridge": _is_flag,
    "cgroup_parent": _is_flag,
    "default_bridge": _is_flag,
    "devices": _is_flag,
    "driver_options": _is_flag,
    "fetch": _is_flag,
    "frontends": _is_names,
    "host_namespaces": _is_names,
    "limits": _is_map({**_RESOURCES, "containers": _is_count, "logs": _is_amount}),
    "mode": lambda value: value in ("enforce", "warn"),
    "no_new_privileges": _is_flag,
    "plain_binds": _is_flag,
    "ports": _is_map({"min": _is_port, "addresses": _is_names}),
    "privileged": _is_flag,
    "registries": _is_names,
    "revoke_streams": _is_flag,
    "runtimes": _is_names,
    "security_options": _is_flag,
    "sees_all": _is_flag,
    "sessions": _is_map({"output": lambda value: value is not None and _is_count(value)}),
    "share": lambda value: value in ("none", "group"),
    "subnets": _is_names,
    "sysctls": _is_names,
    "totals": _is_map({**_RESOURCES, **dict.fromkeys(_COUNTED, _is_count)}),
    "traffic": _is_map(dict.fromkeys(("connections", "streams", "requests"), _is_amount)),
    "ulimits": _is_bounds,
    "unmapped_binds": _is_flag,
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
