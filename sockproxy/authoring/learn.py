"""`sockproxy policy learn`: the least role under which what the record says was done is allowed.

It begins with the operations that were used and the strictest value of each rule, judges each call, and where one is
refused widens the rule that refuses, by the least of what the call itself has that gets it further. What no request
shows the need of is taken from the role `developer`, and said.
"""

from __future__ import annotations

import argparse
import functools
import ipaddress
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import cast

from sockproxy.authoring import replay
from sockproxy.authoring.replay import Kind
from sockproxy.policy.compile import EVERYBODYS, ROLE, Compiled, compile_file, compile_text, dump
from sockproxy.policy.schema import RULES
from sockproxy.policy.values import ALL, Value
from sockproxy.review.text import plain
from sockproxy_helpers.api import names
from sockproxy_helpers.errors import Refused
from sockproxy_helpers.judge import shape
from sockproxy_helpers.judge.policy import Policy
from sockproxy_helpers.system.caller import Caller

# Rules whose need no request shows: the daemon or the kernel meets them later, or another process judges by them.
UNTOLD = {
    "capabilities": "which of the usual ones a program needs stands in no request",
    "limits": "how much was used stands in no request",
    "totals": "how much was used stands in no request",
}
_BASES = {"registries": "the images that a build begins with are not on record"}
OF_BUILDS = {"ImageBuild": _BASES, "Grpc": {**_BASES, "build_bridge": "what a build's steps reach is not on record"}}
EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 - where a port is published for which no address is given
_NAMED = re.compile("/distribution/(.+)/json")  # what a path says that a rule is about
STEPS = 100  # that a rule is widened for one call
Rules = dict[str, Value]


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--role", metavar="NAME", default="learned", type=_name, help="its name (%(default)s)")
    replay.add_options(parser)


def _name(text: str) -> str:
    if not ROLE.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no name of a role")
    return text


def main(options: argparse.Namespace) -> int:
    """Run the command: 0 a policy is written, 1 there is nothing to learn from, or not all of it can be allowed.

    Raises:
        OSError: the record can't be read.
    """
    done = [kind for kind in replay.kinds(options) if not kind.call.denied and kind.call.out.get("status", 0) < 400]
    if not done:
        print("sockproxy policy: no calls that were done", file=sys.stderr)
        return 1
    text = learn(done, options.role)
    policy = Policy(dump(compile_text(text.encode(), options.role)))
    results = [(kind.call.operation, kind.judge(policy)) for kind in done]
    refused = [(operation, result.verdict) for operation, result in results if result.refused]
    print(text, end="")
    for operation, why in refused:
        print(f"sockproxy policy: no role allows it: {plain(operation)}: {plain(why)}", file=sys.stderr)
    return 1 if refused else 0


def learn(done: list[Kind], role: str) -> str:
    """Write the policy file.

    Args:
        done: calls that were allowed.
        role: its name.
    """
    usual = _built_in()["roles"]["developer"]["rules"]
    operations = sorted(set(filter(None, map(_operation, done))) - set(EVERYBODYS))
    untold = dict(UNTOLD)
    for operation in operations:
        untold |= OF_BUILDS.get(operation, {})
    rules: Rules = {name: usual[name][0] if name in untold else rule.default for name, rule in RULES.items()}
    rules["via"] = list[Value](sorted({kind.who.via for kind in done}))
    rules["sees_all"] = any(_anothers(kind) for kind in done)
    for kind in done:
        _widen(rules, operations, kind)
    return _text(role, operations, rules, untold, done)


def _operation(kind: Kind) -> str:
    finding = kind.judge(_policy([], {name: rule.default for name, rule in RULES.items()}, kind.who)).finding
    return finding.match.operation.name if finding and finding.match else ""


def _anothers(kind: Kind) -> bool:
    """Tell whether a call was about what is somebody else's."""
    return any(item.get("owner") not in (None, kind.who.uid) for item in kind.call.objects)


def _policy(operations: Iterable[str], rules: Rules, who: Caller) -> Policy:
    names = dict.fromkeys([*EVERYBODYS, *operations], "learned:1")
    placed = {name: (value, "learned:1") for name, value in rules.items()}
    binding = (1, "learned", "learned:1")
    compiled = {
        **_built_in(),
        "users": {who.user: binding} if who.user else {},
        "containers": [(binding, {"name": name}) for name in _bound_by_name(who)],
        "groups": {},
        "roles": {"learned": {"at": "learned:1", "operations": names, "rules": placed}},
    }
    return Policy(dump(cast(Compiled, compiled)))


def _bound_by_name(who: Caller) -> list[str]:
    """Name the container that a caller is known by, who is no user's."""
    return [who.container.name] if who.container and not who.user else []


@functools.cache
def _built_in() -> Compiled:
    return compile_file(None)


def _widen(rules: Rules, operations: list[str], kind: Kind) -> None:
    """Widen the rules until they allow a call, or can't be."""
    for _ in range(STEPS):
        refusal = _refusal(rules, operations, kind)
        if not isinstance(refusal, Refused) or refusal.rule not in rules:
            return
        name = refusal.rule
        for value in filter(shape.RULES[name], _wider(name, rules[name], kind)):
            further = _refusal({**rules, name: value}, operations, kind)
            if _kernel(further) != _kernel(refusal):
                rules[name] = value
                break
        else:
            return


def _refusal(rules: Rules, operations: list[str], kind: Kind) -> object:
    result = kind.judge(_policy(operations, rules, kind.who))
    return result.finding.refusal if result.finding and result.refused else None


def _kernel(refusal: object) -> str:
    """Leave out of a refusal what would be allowed: that changes with each value."""
    return "" if refusal is None else str(refusal).partition(" (allowed")[0]


def _wider(name: str, value: Value, kind: Kind) -> Iterator[Value]:
    """Give wider values of a rule, the least first."""
    request = kind.call.request
    said = list(dict.fromkeys(_said(request.get("body")), None)) + list(request["query"].values())
    said += [match[1]] if (match := _NAMED.search(str(request.get("path")))) else []
    if isinstance(value, bool):
        yield not value
    elif name == "binds" and isinstance(value, list):
        places = _longest({text.partition(":")[0] for text in map(str, said) if text.startswith("/")})
        for mode in ("ro", "rw"):
            for path in places:
                yield [*value, {"path": path.rstrip("/") or "/", "mode": mode}]
    elif isinstance(value, list):
        yield from ([*value, word] for word in _words(name, said) if word not in value)
        yield [ALL]
    elif isinstance(value, dict):
        for key, bound in value.items():
            if isinstance(bound, list):
                asked = [*_longest({*map(str, said)} - {ALL}), *EVERYWHERE]
                yield from ({**value, key: [*bound, word]} for word in asked if word and word not in bound)
                yield {**value, key: [ALL]}
            else:
                yield from ({**value, key: number} for number in _beyond(key, bound, _numbers(said)))
                yield {**value, key: None}
        if name == "ulimits":
            yield from ({**value, str(word): None} for word in said if word not in value)


def _beyond(key: str, bound: Value, numbers: set[int]) -> list[int]:
    """Choose the numbers that a bound excludes, the nearest first."""
    if not isinstance(bound, (int, float)):
        return []
    if key == "min":
        return sorted((number for number in numbers if number < bound), reverse=True)
    return sorted(number for number in numbers if number > bound)


def _said(value: object) -> Iterator[object]:
    """List all texts, keys and numbers in a request."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from _said(item)
    elif isinstance(value, list):
        for item in value:
            yield from _said(item)
    elif value is not None:
        yield value


def _words(name: str, said: list[object]) -> list[str]:
    """Choose the words that a list may have: those that the request says, in the spelling of the file."""
    if name in _MEANT:
        return _longest({word for item in said if (word := _MEANT[name](str(item)))})
    texts = [text for item in said for text in (str(item), str(item).upper().removeprefix("CAP_"))]
    form = json.dumps(RULES[name].parse.form)
    known = set(re.findall(r'"([A-Za-z_]+)"', form)) if '"enum"' in form else None
    if name == "host_namespaces":
        return sorted(known or ())
    return _longest({text for text in texts if text and (known is None or text in known) and text != ALL})


def _repository(text: str) -> str:
    """Write an image's name as a pattern for its repository."""
    return names.repository(names.known(text))


def _network(text: str) -> str:
    """Write a range as the policy does."""
    try:
        return str(ipaddress.ip_network(text, strict=False)) if "/" in text else ""
    except ValueError:
        return ""


# Rules whose words are not those of the request.
_MEANT: dict[str, Callable[[str], str]] = {"registries": _repository, "subnets": _network}


def _longest(texts: set[str]) -> list[str]:
    """Order what may be part of a rule, the longest first: of places and of beginnings that is what allows least,
    whatever shorter ones the request has elsewhere."""
    return sorted(texts, key=lambda text: (-len(text), text))


def _numbers(said: list[object]) -> set[int]:
    numbers = {int(item) for item in said if type(item) is int and item > 0}
    return numbers | {int(text) for text in map(str, said) if re.fullmatch("[1-9][0-9]{0,4}", text)}


def _text(role: str, operations: list[str], rules: Rules, untold: dict[str, str], done: list[Kind]) -> str:
    first, last = min(kind.call.time for kind in done), max(kind.call.time for kind in done)
    users = sorted({kind.who.user for kind in done if kind.who.user} - {"root"})
    containers = sorted({name for kind in done for name in _bound_by_name(kind.who)})
    lines = [
        f"# Learned from {replay.times(done)}, {first[:10]} to {last[:10]}. Read it before it is used: what was done",
        "# once is allowed for ever, and what was not done yet is refused. `sockproxy check` tells what it means.",
        "version: 1",
        "bindings:",
        "  - {user: root, role: admin}",
        *(f"  - {{user: {json.dumps(user)}, role: {role}}}" for user in users),
        *(f"  - {{container: {{name: {json.dumps(name)}}}, role: {role}}}" for name in containers),
        "roles:",
        f"  {role}:",
        f"    allow: [{', '.join(operations)}]",
    ]
    for name, value in rules.items():
        if value != RULES[name].default:
            why = f"   # as developer: {untold[name]}" if name in untold else ""
            lines.append(f"    {name}: {json.dumps(value)}{why}")
    if containers:
        lines.append("# Containers are bound by name: the record has neither their labels nor their images.")
    lines.append("# Not on record, and at the strictest: share, default_bridge, frontends, and all kinds of binds.")
    results = [(kind, kind.judge(_policy(operations, rules, kind.who)).untold) for kind in done]
    lines += [
        f"# Cannot be told: {plain(kind.call.operation)}: {plain(what)} [{plain(kind.call.rid)}]"
        for kind, what in results
        if what
    ]
    return "\n".join(lines) + "\n"
