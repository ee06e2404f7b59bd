"""What is left of answers that tell of everybody."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sockproxy_helpers.calls import cut
from sockproxy_helpers.channel import wire
from sockproxy_helpers.content.ledger import PULLED, Entry, Ledger, Writer
from sockproxy_helpers.errors import Unavailable
from sockproxy_helpers.judge.policy import Decision
from tests.support.judging import ADMIN, DEVELOPER, KIM

SHARED = Ledger("/nonexistent")  # no name of an image is anybody's
DIGEST = "a@sha256:" + "1" * 64
MINE, THEIRS = {"io.sockproxy.owner": "1000"}, {"io.sockproxy.owner": "1001"}
MEMBERS = {"Containers": {"ab": {"Name": "secret"}}, "Peers": [{"Name": "node"}], "Services": {"s": {}}}


def cutting(operation: str, answer: Any, rules: Any = DEVELOPER, ledger: Ledger = SHARED) -> Any:
    """Cut an answer as the helper does."""
    decision = Decision(True, "developer", "", "", {name: (value, "") for name, value in rules.items()})
    function = cut.of(KIM, decision, operation, ledger)
    return answer if function is None else json.loads(function(json.dumps(answer).encode()))


def test_all_is_for_who_sees_all() -> None:
    decision = Decision(True, "admin", "", "", {name: (value, "") for name, value in ADMIN.items()})
    for operation in cut.CUTS:
        assert cut.of(KIM, decision, operation, SHARED) is None


def test_what_needs_no_cut_has_none() -> None:
    answer = {"Labels": THEIRS, **MEMBERS}
    for operation in ("ContainerInspect", "VolumeList", "SystemVersion"):
        assert cutting(operation, answer) == answer


def test_networks() -> None:
    shared = [{"Name": name, "Labels": {}, "Id": name} for name in ("bridge", "host", "none")]
    mine = {"Name": "m", "Labels": MINE, "Containers": {"cd": {"Name": "own"}}}
    others = [{"Name": "t", "Labels": THEIRS}, {"Name": "bridge", "Labels": THEIRS}, {"Name": "old"}, None, 7]
    found = cutting("NetworkList", [{**network, **MEMBERS} for network in shared] + [mine, *others])
    assert found == [{**network, "Containers": {}} for network in shared] + [mine]


def test_a_shared_network_does_not_tell_who_is_on_it() -> None:
    found = cutting("NetworkInspect", {"Name": "bridge", "Id": "a", "IPAM": {"Config": []}, **MEMBERS})
    assert found == {"Name": "bridge", "Id": "a", "IPAM": {"Config": []}, "Containers": {}}
    own = {"Name": "m", "Labels": MINE, **MEMBERS}
    assert cutting("NetworkInspect", own) == own


def test_images() -> None:
    shared = [
        {"Id": "1", "RepoTags": ["a:1"], "Labels": None, "Containers": -1},
        {"Id": "2", "RepoTags": ["<none>:<none>"], "RepoDigests": [DIGEST], "Labels": {}},
        {"Id": "3", "RepoTags": None, "RepoDigests": [DIGEST]},
    ]
    own = {"Id": "4", "RepoTags": [], "Labels": MINE}
    others = [
        {"Id": "5", "RepoTags": ["t:1"], "Labels": THEIRS},
        {"Id": "6", "RepoTags": ["<none>:<none>"], "RepoDigests": ["<none>@<none>"], "Labels": None},
        {"Id": "7", "RepoTags": [], "RepoDigests": [], "Labels": {}},
        {"Id": "8"},
    ]
    assert cutting("ImageList", [*shared, own, *others]) == [*shared, own]


@pytest.mark.parametrize("operation", ["ImageList", "ImageInspect"])
def test_images_do_not_tell_what_runs_them(operation: str) -> None:
    manifests = [{"ID": "m", "ImageData": {"Size": 1, "Containers": ["ab"]}}, {"ID": "n", "AttestationData": {}}, 7]
    image = {"RepoTags": ["a:1"], "Manifests": manifests, "Containers": 5}
    found = cutting(operation, [image] if operation == "ImageList" else image)
    found = found[0] if operation == "ImageList" else found
    assert found["Manifests"] == [{"ID": "m", "ImageData": {"Size": 1, "Containers": []}}, *manifests[1:]]
    assert found["Containers"] == -1


def test_disk_usage() -> None:
    def items(**more: Any) -> list[dict[str, Any]]:
        return [{"Id": "1", "Labels": MINE, **more}, {"Id": "2", "Labels": THEIRS, **more}]

    answer = {
        "LayersSize": 7,
        "BuilderSize": 8,
        "Images": [*items(RepoTags=["a:1"], Containers=2), {"Id": "3", "RepoTags": ["b:1"]}],
        "Containers": items(Names=["/c"]),
        "Volumes": [{"Name": "v", "Labels": MINE}, {"Name": "w", "Labels": THEIRS}, {"Name": "x", "Labels": None}],
        "BuildCache": [{"Description": "RUN echo secret"}],
        "Secrets": ["unknown"],
    }
    found = cutting("SystemDataUsage", answer)
    assert [item["Id"] for item in found["Images"]] == ["1", "3"]
    assert found["Images"][0]["Containers"] == -1
    assert [item["Id"] for item in found["Containers"]] == ["1"]
    assert [item["Name"] for item in found["Volumes"]] == ["v"]
    assert found["BuildCache"] == []
    assert found.keys() == answer.keys() - {"Secrets"}
    assert cutting("SystemDataUsage", {"Volumes": None}) == {"Volumes": []}


def test_disk_usage_since_api_1_52() -> None:
    items = [{"Id": "1", "Labels": MINE}, {"Id": "2", "Labels": THEIRS}]
    kinds = ("ImageUsage", "ContainerUsage", "VolumeUsage", "BuildCacheUsage")
    verbose = {kind: {"ActiveCount": 2, "TotalCount": 2, "TotalSize": 9, "Items": items} for kind in kinds}
    expected = {key: {"TotalCount": 1, "Items": items[:1]} for key in kinds[:3]}
    assert cutting("SystemDataUsage", verbose) == {**expected, "BuildCacheUsage": {"TotalCount": 0, "Items": []}}
    sums = {kind: {"ActiveCount": 2, "TotalCount": 2, "TotalSize": 9} for kind in kinds}
    assert cutting("SystemDataUsage", sums) == {kind: {} for kind in kinds}


def test_info_does_not_count_what_others_run() -> None:
    swarm = {"LocalNodeState": "active", "NodeID": "n", "RemoteManagers": [{"Addr": "a"}]}
    answer = {"ID": "x", "Containers": 3, "ContainersRunning": 2, "ContainersPaused": 1, "NCPU": 4, "Swarm": swarm}
    assert cutting("SystemInfo", answer) == {
        "ID": "x",
        "Containers": 0,
        "ContainersRunning": 0,
        "ContainersPaused": 0,
        "NCPU": 4,
        "Swarm": {"LocalNodeState": "active"},
    }


@pytest.mark.parametrize("operation", cut.CUTS)
def test_odd_answers_tell_nothing(operation: str) -> None:
    for answer in (None, 7, "secret", ["secret"], {"message": None}):
        assert "secret" not in json.dumps(cutting(operation, answer))
    decision = Decision(True, "developer", "", "", {name: (value, "") for name, value in DEVELOPER.items()})
    function = cut.of(KIM, decision, operation, SHARED)
    assert function
    with pytest.raises(Unavailable):
        function(b"{")


def test_names_of_others_for_an_image_that_all_share(tmp_path: Path) -> None:
    ledger, image = Writer(str(tmp_path)), "sha256:" + "1" * 64
    for name, uid, shared in (("docker.io/library/mine:1", 1000, ""), ("docker.io/library/theirs:1", 1001, "")):
        ledger.put(name, Entry(uid, image, shared))
    ledger.put("docker.io/library/pulled:1", Entry(1001, image, PULLED))
    ledger.put("docker.io/library/moved:1", Entry(1001, "sha256:" + "2" * 64, ""))  # by the administrator, hither
    digests = [f"{name}@sha256:{'3' * 64}" for name in ("theirs", "mine", "other")]
    names = ["base:1", "mine:1", "theirs:1", "pulled:1", "moved:1"]
    found = cutting("ImageInspect", {"Id": image, "RepoTags": names, "RepoDigests": digests}, ledger=ledger)
    assert found["RepoTags"] == ["base:1", "mine:1", "pulled:1", "moved:1"]
    assert found["RepoDigests"] == digests[1:]
    history = cutting("ImageHistory", [{"Id": image, "Tags": names}, {"Id": "<missing>", "Tags": None}], ledger=ledger)
    assert history == [{"Id": image, "Tags": found["RepoTags"]}, {"Id": "<missing>", "Tags": None}]
    theirs = {"Id": image, "Config": {"Labels": THEIRS}}
    assert cutting("ImageInspect", {**theirs, "RepoTags": ["theirs:1", "base:1"]}, ledger=ledger) == {}
    pulled = cutting("ImageInspect", {**theirs, "RepoTags": ["theirs:1", "pulled:1"]}, ledger=ledger)
    assert pulled["RepoTags"] == ["pulled:1"]  # built by them, but it came from a registry
    assert cutting("ImageInspect", {**theirs, "RepoTags": ["theirs:1", "mine:1"]}, ledger=ledger) == {
        **theirs,
        "RepoTags": ["mine:1"],
    }
    assert cutting("ImageInspect", {"Id": image, "RepoTags": ["theirs:1"]}, ledger=ledger) == {}


def test_others_can_not_make_an_answer_too_large() -> None:
    """Ten networks of a megabyte were once enough that nobody could list any."""
    decision = Decision(True, "developer", "", "", {name: (value, "") for name, value in DEVELOPER.items()})
    function = cut.one_after_the_other(cut.of(KIM, decision, "NetworkList", SHARED))
    assert function
    large = {"Name": "x" * wire.LARGEST}
    assert json.loads(function(json.dumps([{**large, "Labels": THEIRS}, {"Name": "a", "Labels": MINE}]).encode())) == [
        {"Name": "a", "Labels": MINE}
    ]
