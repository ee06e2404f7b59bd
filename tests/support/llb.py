"""Low-level definitions by hand: operations, as BuildKit's clients encode them."""

from __future__ import annotations

import hashlib

from tests.support.grpc import message


def digest(operation: bytes) -> str:
    """Give the name by which other operations call one."""
    return "sha256:" + hashlib.sha256(operation).hexdigest()


def operation(*inputs: bytes, **fields: object) -> bytes:
    """Encode an operation that builds on others."""
    return message("pb.Op", inputs=[{"digest": digest(one)} for one in inputs], **fields)


def source(identifier: str, **attrs: str) -> bytes:
    """Encode a source; "_" in a setting's name stands for "."."""
    return operation(source={"identifier": identifier, "attrs": {k.replace("_", "."): v for k, v in attrs.items()}})


def step(base: bytes, *arguments: str, mounts: tuple[dict[str, object], ...] = (), **fields: object) -> bytes:
    """Encode a step that runs on a base. Fields are those of an ExecOp; `meta` adds to what the arguments make."""
    meta = {"args": list(arguments), "cwd": "/", "env": ["PATH=/bin"]} | fields.pop("meta", {})  # type: ignore[operator]
    root = {"dest": "/", "input": 0, "output": 0}
    return operation(base, exec={"meta": meta, "mounts": [root, *mounts], **fields})


def cache(identity: str, dest: str = "/c") -> dict[str, object]:
    """Describe a cache mount."""
    return {"input": -1, "output": -1, "dest": dest, "mountType": 3, "cacheOpt": {"ID": identity}}


def definition(*operations: bytes) -> dict[str, object]:
    """Form a definition of operations, the last of which is the result."""
    return {"def": [*operations, operation(operations[-1])]}
