"""The faults at a small scale; the large figures are `python -m tests.faults`."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.faults import FAULTS, Fault
from tests.faults.scene import Scene

pytestmark = [pytest.mark.root]


@pytest.fixture(scope="module")
def scene(folder: Path) -> Iterator[Scene]:
    place = Path(tempfile.mkdtemp(prefix="faults", dir=folder))
    place.chmod(0o755)
    running = Scene(place)
    yield running
    running.close()


@pytest.mark.parametrize("fault", [fault for fault, (_, small) in FAULTS.items() if small], ids=lambda f: f.__name__)
def test_survives(scene: Scene, fault: Fault) -> None:
    scene.said.clear()
    with scene.whole():
        fault(scene, FAULTS[fault][1])
