"""Read the tables of body fields, query parameters and variables of paths into trees.

Kinds, as the tables write them:
    string  bool  int  any           any: free-form JSON
    object                           its fields have rows of their own
    []  {}                           list of, map of: [string], {[object]}; {} alone is Go's empty struct
    strings                          a string or a list of strings, kept as a list
    string?                          a string or null, in a map
    filters                          query only: the JSON of lists or of maps to booleans, kept as lists
    (X)                              query only: the JSON text of an X
    [X]                              in the query: the parameter may repeat
"""

from __future__ import annotations

from collections.abc import Callable

from .operations import read_table

LEAVES = ("string", "bool", "int", "any", "object", "strings", "string?", "filters", "")
Rules = dict[str, Callable[..., object]]


class Field:
    """Hold one row.

    Attributes:
        rule: "free", "never", or the name of a rule function; `judge` is that function.
        always: whether its rule, or one below it, has something to say when the field is absent.
        children: the fields of the object that `kind` has at its bottom.
    """

    __slots__ = ("always", "children", "judge", "kind", "rule")

    def __init__(self, kind: str, rule: str, judge: Callable[..., object] | None, always: bool) -> None:
        self.kind, self.rule, self.judge, self.always = kind, rule, judge, always
        self.children: dict[str, Field] = {}


class Operation:
    """Hold the fields of one operation."""

    __slots__ = ("body", "path", "query")

    def __init__(self) -> None:
        self.body: dict[str, Field] = {}
        self.query: dict[str, Field] = {}
        self.path: dict[str, Field] = {}  # "{name}", as in the template


def leaf(kind: str) -> str:
    """Strip lists, maps and JSON texts off a kind."""
    while kind[:1] in ("[", "{", "("):
        kind = kind[1:-1]
    return kind


def load(scope: str, rules: Rules) -> dict[str, Operation]:
    """Read the table of a scope.

    Raises:
        ValueError: a row without its parent, twice, with an unknown kind or rule.
    """
    operations: dict[str, Operation] = {}
    for name, path, kind, rule in read_table(scope, 4):
        operation = operations.setdefault(name, Operation())
        if path == "-":  # the operation takes nothing
            continue
        try:
            _add(operation, path, kind, rule, rules)
        except (KeyError, ValueError) as error:
            raise ValueError(f"{scope}.txt: {name} {path}: {error!r}") from error
    for operation in operations.values():
        for field in [*operation.body.values(), *operation.query.values()]:
            _raise_always(field)
    return operations


def _add(operation: Operation, path: str, kind: str, rule: str, rules: Rules) -> None:
    *parents, name = path.removeprefix("?").split(".")
    place = {"?": operation.query, "{": operation.path}.get(path[0], operation.body)
    for parent in parents:
        parent = parent.replace("[]", "")
        if parent != "*":  # "*" and "[]" are for people: the parent's kind says it
            place = place[parent].children
    always, rule = rule.startswith("+"), rule.removeprefix("+")
    if name in place or leaf(kind) not in LEAVES:
        raise ValueError(f"{kind} is no kind, or {name} stands here twice")
    place[name] = Field(kind, rule, None if rule in ("free", "never") else rules[rule], always)


def _raise_always(field: Field) -> bool:
    """Mark each object that has a field whose rule always runs. Elements of lists and maps do not count: they exist."""
    below = [_raise_always(child) for child in field.children.values()]
    field.always = field.always or (field.kind in ("object", "(object)") and any(below))
    return field.always
