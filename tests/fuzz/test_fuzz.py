# SPDX-License-Identifier: LGPL-2.1-or-later
"""Some runs of the fuzz; `make fuzz` makes thousands."""

from __future__ import annotations

from tests.bounded import MEMORY

from .runner import run
from .subjects import SUBJECTS

SEED = 14
INPUTS = 2
"""Of each subject; most of the time is for making the sound input of each."""


def test_damaged_input_ends_in_an_answer_or_one_line() -> None:
    result = run([(name, i) for name in SUBJECTS for i in range(INPUTS)], SEED)
    assert result.failures == []
    assert result.inputs == INPUTS * len(SUBJECTS)
    assert result.peak < MEMORY


def test_sound_input_of_every_subject_is_answered() -> None:
    result = run([(name, -1) for name in SUBJECTS], SEED)
    assert result.failures == []
    assert set(result.statuses) <= {0, 1}
