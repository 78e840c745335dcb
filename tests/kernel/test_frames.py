# SPDX-License-Identifier: LGPL-2.1-or-later
"""FrameCounts against the plain way to count: a Counter."""

from __future__ import annotations

import tracemalloc
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmemmap_tools.kernel.frames import FrameCounts

# Near the borders of chunks, and where x86-64's addresses end (52 bits).
PFNS = st.one_of(
    st.integers(0, 80),
    st.integers((1 << 15) - 40, (1 << 15) + 40),
    st.integers((1 << 40) - 80, (1 << 40) - 1),
)
RUNS = st.tuples(PFNS, st.integers(1, 70))


@given(st.lists(st.one_of(st.lists(PFNS, max_size=20), RUNS), max_size=12))
def test_counts_equal_those_of_a_counter(
    steps: list[list[int] | tuple[int, int]],
) -> None:
    counts, model = FrameCounts(), Counter[int]()
    for step in steps:
        if isinstance(step, tuple):
            counts.add_range(*step)
            model.update(range(step[0], sum(step)))
        else:
            counts.add_each(step)
            model.update(step)
    assert counts.distinct == len(model)
    assert counts.shared == {pfn: n for pfn, n in model.items() if n > 1}
    assert all(counts.mappings(pfn) == n and pfn in counts for pfn, n in model.items())


@given(st.lists(st.lists(st.tuples(PFNS, st.integers(1, 5)), unique_by=lambda t: t[0])))
def test_frames_added_many_times_at_once_count_as_often(
    steps: list[list[tuple[int, int]]],
) -> None:
    counts, model = FrameCounts(), Counter[int]()
    for step in steps:
        counts.add_times(step)
        model.update(dict(step))
    assert counts.distinct == len(model)
    assert counts.shared == {pfn: n for pfn, n in model.items() if n > 1}


@given(st.lists(PFNS), PFNS, PFNS)
def test_distinct_frames_of_a_range_are_counted(
    pfns: list[int], one: int, other: int
) -> None:
    counts = FrameCounts()
    counts.add_each(pfns)
    inside = {pfn for pfn in pfns if one <= pfn < other}
    assert counts.distinct_in(one, other) == len(inside)


def test_a_frame_that_was_never_added_backs_nothing() -> None:
    counts = FrameCounts()
    counts.add_each([5])
    assert 6 not in counts and counts.mappings(6) == 0
    assert -1 not in counts and (1 << 60) not in counts


def test_an_absurd_range_is_counted_at_once() -> None:
    # An altmap's size comes from the dump.
    counts = FrameCounts()
    counts.add_range(100, 50)
    assert counts.distinct_in(0, 1 << 64) == 50


@given(st.sets(PFNS))
def test_runs_are_the_frames_in_order_without_gaps(pfns: set[int]) -> None:
    counts = FrameCounts()
    counts.add_each(pfns)
    runs = list(counts.runs())
    assert [first + i for first, count in runs for i in range(count)] == sorted(pfns)
    # Two runs adjoin only where a chunk ends.
    assert all(
        first + count < after or after % (1 << 15) == 0
        for (first, count), (after, _) in zip(runs, runs[1:])
    )


@pytest.mark.parametrize("tables", [1, 512])
def test_entries_that_lead_anywhere_take_little_memory(tables: int) -> None:
    # One page of entries below each entry of another: every frame in a chunk alone.
    counts = FrameCounts()
    step = (1 << 40) // (tables * 512)
    tracemalloc.start()
    for table in range(tables):
        counts.add_each(range(table * 512 * step, (table + 1) * 512 * step, step))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert counts.distinct == tables * 512
    assert peak < 400 * counts.distinct
    assert sum(count for _, count in counts.runs()) == counts.distinct
