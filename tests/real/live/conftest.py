# SPDX-License-Identifier: LGPL-2.1-or-later
"""Fixtures of the live guests; tests run in the order of their files, guest by guest.

What the comparisons of dumps ask for is here a live kernel's: their tests serve both.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ..cache import RealError, say
from ..compare import Compare
from ..conftest import LIVE, shown
from ..kernels import fetch, newest_suite
from ..truth import Truth
from ..walk import QemuWalk
from .doors import DOORS, Door
from .guest import LiveGuest


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "guest" in metafunc.fixturenames:
        text = metafunc.config.getoption("--live")
        also = getattr(metafunc.module, "ALSO", ()) if text == LIVE else ()
        suites = [] if text == "none" else [*text.split(","), *also]
        metafunc.parametrize("guest", suites, indirect=True, scope="session")
    if "door" in metafunc.fixturenames:
        doors = [name for name in DOORS if name not in _closed(metafunc)]
        # Not by door first: what changes the guest comes after all that is asked of it.
        metafunc.parametrize("door", doors, indirect=True, scope="function")


def _closed(metafunc: pytest.Metafunc) -> frozenset[str]:
    """Doors through which a test cannot be made: its module says so."""
    closed: dict[str, frozenset[str]] = getattr(metafunc.module, "CLOSED", {})
    return closed.get(metafunc.function.__name__, frozenset())


@pytest.fixture(scope="session")
def guest(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LiveGuest]:
    """A guest with the tool inside, fetched and booted now."""
    suite: str = request.param
    with shown(request.config):
        try:
            kernel = fetch(newest_suite() if suite == "newest" else suite)
            say(f"{kernel.abi} live: booting")
            guest = LiveGuest(kernel, tmp_path_factory.mktemp("live"))
        except RealError as error:
            pytest.fail(f"{suite}: {error}", pytrace=False)
    with guest:
        with shown(request.config):
            try:
                guest.wait_ready()
                guest.connect()
                guest.ask("open")
            except RealError as error:
                pytest.fail(f"{suite}: {error}", pytrace=False)
        yield guest


@pytest.fixture(scope="session")
def truth(guest: LiveGuest) -> Truth:
    """What the guest said about itself, before anything else was asked."""
    return guest.run_directory.truth()


@pytest.fixture(scope="session")
def walk(guest: LiveGuest) -> QemuWalk:
    """What QEMU said about the guest's page tables at that time."""
    return guest.look()


@pytest.fixture(scope="session")
def doors(guest: LiveGuest) -> dict[str, Door]:
    """The guest's doors by name."""
    return {name: door(guest) for name, door in DOORS.items()}


@pytest.fixture
def door(request: pytest.FixtureRequest, doors: dict[str, Door]) -> Door:
    """One of the doors."""
    return doors[request.param]


@pytest.fixture
def dump(door: Door, walk: QemuWalk, truth: Truth) -> Door:
    """The door, where a test asks for a dump; QEMU has looked before."""
    return door


@pytest.fixture
def compare(request: pytest.FixtureRequest, guest: LiveGuest) -> Compare:
    """Makes the comparisons of a test."""
    words = [guest.kernel.abi, "live"]
    if "door" in request.fixturenames:
        words.append(request.node.callspec.params["door"])
    return Compare(" ".join(words))
