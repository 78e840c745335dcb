# SPDX-License-Identifier: LGPL-2.1-or-later
"""gdb of each version as a fixture; a test that takes ``gdb`` runs in all of them."""

from __future__ import annotations

import pytest

from .door import Small, build_small
from .runner import VERSIONS, Gdb, find_gdb


@pytest.fixture(scope="session", params=VERSIONS)
def gdb(request: pytest.FixtureRequest) -> Gdb:
    """A gdb of each version."""
    return find_gdb(request.param)


@pytest.fixture(scope="session")
def any_gdb() -> Gdb:
    """The gdb of the system, where one is enough."""
    return find_gdb(VERSIONS[0])


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Small:
    """A dump whose sections have 24 bytes each, moved by KASLR."""
    return build_small(tmp_path_factory.mktemp("small"))
