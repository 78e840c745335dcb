# SPDX-License-Identifier: LGPL-2.1-or-later
"""Dumps of the sample machines, each built once for all tests that ask for it.

No property test fails because the machine is slow: hypothesis measures no time.
"""

from __future__ import annotations

from functools import cache
from typing import Callable

import pytest
from hypothesis import HealthCheck, settings

from tests.samples import Sample, build_sample

settings.register_profile(
    "timeless", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("timeless")


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Sample]:
    """A function from the name of a machine in vmcores/ to its dump."""

    @cache
    def of_name(name: str) -> Sample:
        return build_sample(name, tmp_path_factory.mktemp(name))

    return of_name
