# SPDX-License-Identifier: LGPL-2.1-or-later
"""Some runs of the fuzz; `make fuzz` makes thousands."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.bounded import MEMORY

from .runner import Worker
from .subjects import SUBJECTS

SEED = 14
SOUND = -1


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    found = Worker(SEED)
    yield found
    found.close()


@pytest.mark.parametrize("subject", SUBJECTS)
def test_sound_input_is_answered_and_damaged_input_ends_in_one_line(
    worker: Worker, subject: str
) -> None:
    sound, damaged = worker.ask(subject, SOUND), worker.ask(subject, 0)
    assert sound["failures"] == damaged["failures"] == []
    assert set(sound["statuses"]) <= {0, 1} and sound["statuses"]
    assert max(sound["peak"], damaged["peak"]) < MEMORY
