# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs of pages behave like a dict and a set of single pages."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmemmap_tools.model.runs import PageSet, RunMap

SIZE = 40
spans = st.tuples(st.integers(0, SIZE), st.integers(0, SIZE)).map(sorted)


@given(st.lists(st.tuples(spans, st.sampled_from([None, "a", "b"]))))
def test_a_run_map_is_a_dict(writes: list[tuple[list[int], str | None]]) -> None:
    runs: RunMap[str] = RunMap()
    model: dict[int, str | None] = {}
    for (start, end), value in writes:
        runs.set(start, end, value)
        model.update(dict.fromkeys(range(start, end), value))
    assert [runs.get(i) for i in range(SIZE)] == [model.get(i) for i in range(SIZE)]
    flat = {i: v for s, e, v in runs.runs() for i in range(s, e)}
    assert flat == {i: v for i, v in model.items() if v is not None}


@given(st.lists(st.tuples(spans, st.sampled_from(["a", "b"]))))
def test_neighbouring_runs_differ(writes: list[tuple[list[int], str]]) -> None:
    runs: RunMap[str] = RunMap()
    for (start, end), value in writes:
        runs.set(start, end, value)
    rows = list(runs.runs())
    assert all(a[1] < b[0] or a[2] != b[2] for a, b in zip(rows, rows[1:]))


@given(st.lists(st.tuples(st.booleans(), spans)))
def test_a_page_set_is_a_set(steps: list[tuple[bool, list[int]]]) -> None:
    pages, model = PageSet(), set[int]()
    for is_add, (start, end) in steps:
        span = set(range(start, end))
        if is_add and not span & model:
            pages.add(start, end)
            model |= span
        elif not is_add and span <= model:
            pages.remove(start, end)
            model -= span
    assert {i for s, e in pages for i in range(s, e)} == model
    assert len(pages) == len(model)


def test_adding_twice_is_refused() -> None:
    pages = PageSet()
    pages.add(2, 8)
    with pytest.raises(ValueError, match="already"):
        pages.add(7, 9)


def test_places_are_found_from_both_ends() -> None:
    pages = PageSet()
    pages.add(3, 20)
    pages.add(30, 33)
    assert pages.find_low(4, 4) == (4, 16)
    assert pages.find_high(4, 4) == 16
    assert pages.find_high(3, 1) == 30


def test_pages_are_popped_from_the_top_in_multiples() -> None:
    pages = PageSet()
    pages.add(3, 20)
    pages.add(30, 33)
    assert pages.pop_high(10, 2) == [(31, 33), (12, 20)]
    assert list(pages) == [(3, 12), (30, 31)]
