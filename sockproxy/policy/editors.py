"""Write what a policy file may say as JSON Schema, for editors: from the rows that the loader reads by.

A schema can't say all: that a role exists, that a role does not extend itself, that an account is there, how an address
is usually written. The loader decides; `sockproxy check` asks it.
"""

from __future__ import annotations

from sockproxy.policy import bindings, settings
from sockproxy.policy.compile import MOST_ROLES, OPERATIONS, ROLE
from sockproxy.policy.schema import RULES
from sockproxy.policy.values import Form, closed, whole

DRAFT = "https://json-schema.org/draft/2020-12/schema"
_ROLE: Form = {"type": "string", "pattern": whole(ROLE)}


def schema() -> Form:
    """Form the schema of a policy file."""
    described = {"description": "operations, as the Engine API names them: ContainerList, or GET /containers/json"}
    operations: Form = {"type": "array", "items": {"enum": sorted(OPERATIONS)}, **described}
    rules: dict[str, Form] = {
        rule.name: {**rule.parse.form, "description": "may " + rule.sentence} for rule in RULES.values()
    }
    role = closed({"extends": _ROLE, "allow": operations, "deny": operations, **rules}, [])
    roles: Form = {"type": "object", "propertyNames": _ROLE, "additionalProperties": role, "maxProperties": MOST_ROLES}
    sections: dict[str, Form] = {
        name: closed({key: {**parser.form, "default": default} for key, (parser, default) in rows.items()}, [])
        for name, rows in settings.SECTIONS.items()
    }
    bound: Form = {"type": "array", "items": {"oneOf": [_binding(*subject) for subject in bindings.FORMS.items()]}}
    top = closed({"version": {"const": 1}, "bindings": bound, "roles": roles, **sections}, ["version"])
    return {"$schema": DRAFT, "title": "sockproxy policy, version 1", **top}


def _binding(subject: str, form: Form) -> Form:
    return closed({subject: form, "role": _ROLE}, [subject, "role"])
