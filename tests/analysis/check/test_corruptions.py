# SPDX-License-Identifier: LGPL-2.1-or-later
"""A single corrupted word is told by some rule, or belongs to a harmless class.

Hypothesis draws a word of a tail, a head, a page table at any level or a section, and
what becomes of it. CHECK_CORRUPTIONS sets how many of each kind a generation gets; the
draws are the same in every run.
"""

from __future__ import annotations

import os

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, Phase, given, settings

from vmemmap_tools.kernel.kernel import Kernel
from vmemmap_tools.target.base import TargetError

from .corruption import Patient, Word
from .harmless import CLASSES
from .overlay import Overlay, find

EXAMPLES = int(os.environ.get("CHECK_CORRUPTIONS", "20"))
KINDS = ("tail", "head", "table", "section")


@pytest.fixture(scope="module", params=["5.14", "6.1", "6.12", "7.3", "section-dax"])
def patient(request: pytest.FixtureRequest) -> Patient:
    return Patient(request.param)


@pytest.fixture(scope="module")
def five_level() -> Patient:
    return Patient("7.3", levels=5)


def told(patient: Patient, word: Word, new: int) -> bool:
    """Whether check says that something is wrong, or missing of the page tables."""
    kernel = Kernel(Overlay(patient.bench.target, patient.frames(word, new)))
    try:
        _, findings = find(kernel)
    except TargetError as refusal:
        return bool(str(refusal))
    is_whole = kernel.is_complete("page tables")
    return not is_whole or any(f.severity != "I" for f in findings)


corrupted = settings(
    max_examples=EXAMPLES,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.generate),
)


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
@corrupted
def test_a_corrupted_word_is_told_or_harmless(
    patient: Patient, kind: str, data: st.DataObject
) -> None:
    judge(patient, kind, data)


@given(data=st.data())
@corrupted
def test_a_corrupted_entry_of_five_levels_is_told_or_harmless(
    five_level: Patient, data: st.DataObject
) -> None:
    judge(five_level, "table", data)


def judge(patient: Patient, kind: str, data: st.DataObject) -> None:
    word = data.draw(patient.words(kind))
    new = word.changed(data.draw(patient.corruptions))
    assert {name for name, _ in word.excuses} <= set(CLASSES)
    if not word.is_excused(new):
        assert told(patient, word, new), f"{word}, now {new:#x}"
