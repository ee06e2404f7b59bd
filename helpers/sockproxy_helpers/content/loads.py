"""Judge what an archive of images would set, and write its manifest anew.

SECURITY: the daemon reads `manifest.json`, or with containerd's image store `index.json`, after it has unpacked the
archive, and the last member of a name counts: that is the one that is written here, from what was read strictly and
judged. An archive without a manifest is refused, so that no other file can stand in for it.
"""

from __future__ import annotations

import json
import re

from sockproxy_helpers.api import names, strict
from sockproxy_helpers.api.strict import show
from sockproxy_helpers.errors import Malformed
from sockproxy_helpers.upstream.pulls import image_of
from .claims import Claim, Taken, Wish
from .ledger import LOADED
from .tags import Tags
from .tar import Scan

MANIFEST, INDEX = "manifest.json", "index.json"
WANTED = (MANIFEST, INDEX)
MOST = 1000  # names: each is one question to the daemon
_FIELDS = {"Config", "RepoTags", "Layers", "Parent", "LayerSources"}  # moby's manifestItem
_CONFIG = re.compile(r"(?:blobs/sha256/)?([0-9a-f]{64})(?:\.json)?")
_NAMED = ("io.containerd.image.name", "org.opencontainers.image.ref.name")  # annotations, the first that is there


async def judge(tags: Tags, claim: Claim, scan: Scan) -> bytes:
    """Claim the names that an archive would set, in addition to what is claimed.

    Returns:
        The members to add at its end.

    Raises:
        Malformed: it has no manifest as `docker save` writes it.
        Taken: a name in it is not the caller's to move.
    """
    if MANIFEST not in scan.found:
        raise Malformed("the archive has no manifest.json (allowed: what docker save writes)")
    manifest, index = _manifest(strict.parse(scan.found[MANIFEST].content)), None
    if INDEX in scan.found:
        index = strict.parse(scan.found[INDEX].content)
        strict.unfolded(index)
    claim.brought = scan.proof.digests if scan.proof else set()
    wanted = {name: item.get("Config") for item in manifest for name in item["RepoTags"]}  # type: ignore[attr-defined]
    wanted |= {name: None for name in map(_annotated, _descriptors(index)) if name and name not in wanted}
    if len(wanted) > MOST:
        raise Malformed(f"the archive has {len(wanted)} names of images (allowed: {MOST})")
    for name, config in list(wanted.items()):
        try:
            await tags.add(claim, Wish([name], shared=LOADED))
        except Taken:
            found = _CONFIG.fullmatch(str(config))
            if not found or await _image_of(tags, name) != f"sha256:{found[1]}":
                raise
            del wanted[name]  # it names that image already, says the archive; whether or not, it won't be set
    # Nor is an image loaded that has none of the caller's names then: nothing would tell who brought it.
    for item in manifest:
        item["RepoTags"] = [name for name in item["RepoTags"] if name in wanted]  # type: ignore[attr-defined]
    manifest = [item for item in manifest if item["RepoTags"]]
    if isinstance(index, dict):
        index["manifests"] = [one for one in _descriptors(index) if _annotated(one) in wanted]
    members = scan.found[MANIFEST].blocks(_encode(manifest))
    return members + (scan.found[INDEX].blocks(_encode(index)) if INDEX in scan.found else b"")


async def _image_of(tags: Tags, name: str) -> str | None:
    daemon = tags.connect()
    try:
        return await image_of(daemon, name)
    finally:
        daemon.close()


def _manifest(value: object) -> list[dict[str, object]]:
    """Check a manifest, and write its names in full."""
    if not isinstance(value, list):
        raise Malformed("manifest.json: not a list")
    items = []
    for item in value:
        if not isinstance(item, dict) or not item.keys() <= _FIELDS:
            raise Malformed(f"manifest.json: not a list of objects with {', '.join(sorted(_FIELDS))}")
        told = item.get("RepoTags") or []
        if not isinstance(told, list) or not all(isinstance(name, str) and names.split(name)[1] for name in told):
            raise Malformed("manifest.json: RepoTags is not a list of names with tags")
        if not told:
            raise Malformed("an image without a name would be nobody's (allowed: docker save NAME:TAG)")
        items.append({**item, "RepoTags": [names.settable(name) for name in told]})
    return items


def _descriptors(index: object) -> list[dict[str, object]]:
    value = index.get("manifests") if isinstance(index, dict) else None
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _annotated(descriptor: dict[str, object]) -> str:
    """Give the full name that a descriptor of an index sets; "" for none."""
    annotations = descriptor.get("annotations")
    for key in _NAMED:
        text = annotations.get(key) if isinstance(annotations, dict) else None
        if text:
            if not isinstance(text, str):
                raise Malformed(f"index.json: {show(key)} is no string")
            return names.settable(text)
    return ""


def _encode(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
