# SPDX-License-Identifier: LGPL-2.1-or-later
"""gdb of each version as a fixture; a test that takes ``gdb`` runs in all of them."""

from __future__ import annotations

import pytest

from .runner import VERSIONS, Gdb, find_gdb


@pytest.fixture(scope="session", params=VERSIONS)
def gdb(request: pytest.FixtureRequest) -> Gdb:
    """A gdb of each version."""
    return find_gdb(request.param)


@pytest.fixture(scope="session")
def any_gdb() -> Gdb:
    """The gdb of the system, where one is enough."""
    return find_gdb(VERSIONS[0])
