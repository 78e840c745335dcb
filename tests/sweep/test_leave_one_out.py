# SPDX-License-Identifier: LGPL-2.1-or-later
"""No verb says anything about a dump with a hole that the whole dump contradicts.

A seeded sample; ``make sweep`` leaves out every page (docs/reliability.md).
"""

from __future__ import annotations

import random
from functools import lru_cache

import pytest

from tests.sweep.compare import compare
from tests.sweep.files import incomplete_files
from tests.sweep.leave_out import Case, Sweep
from tests.sweep.machines import sweep_of

CASES = 4
"""Pages that are left out of each machine here."""
SAMPLED = ("5.14", "7.3", "hot-added 7.3", "7.3 without vmlinux")


@lru_cache(maxsize=1)
def swept(name: str) -> Sweep:
    return sweep_of(name)


def sample(sweep: Sweep) -> list[Case]:
    """Kernel data and page tables for the most part: a struct page is one of many."""
    cases = list(sweep.cases())
    draw = random.Random(sweep.name)
    single = [case for case in cases if "struct pages" not in case.kind]
    uniform = [case for case in cases if "struct pages" in case.kind]
    return draw.sample(single, CASES - 2) + draw.sample(uniform, 2)


@pytest.mark.parametrize("name", SAMPLED)
def test_a_missing_page_changes_no_answer_but_to_null(name: str) -> None:
    sweep = swept(name)
    assert [v for case in sample(sweep) for v in sweep.violations(case)] == []


def test_an_incomplete_file_changes_no_answer_but_to_null() -> None:
    sweep = swept("7.3")
    files = incomplete_files(sweep, 1)
    found = [v for label, path in files for v in sweep.violations_of_file(label, path)]
    assert found == []


def test_the_comparison_sees_each_kind_of_contradiction() -> None:
    kernel = {"features": ["a"], "unknown_features": [], "levels": 4}
    row = {"order": 9, "node": 0, "found": 3, "reasons": {"eligible": 1}}
    whole = {"kernel": kernel, "rows": [row], "totals": {"folios": 3}}

    def seen(**changes: object) -> list[str]:
        return list(compare("hvo", whole, {**whole, **changes}))

    assert seen() == []
    assert seen(rows=[{**row, "found": None, "reasons": None}]) == []
    assert seen(rows=[], totals={"folios": None}) == []
    assert len(seen(rows=[])) == 1
    assert len(seen(rows=[{**row, "found": 2}])) == 1
    assert len(seen(rows=[{**row, "reasons": {"eligible": 2}}])) == 1
    assert len(seen(rows=[row, {**row, "node": 1}])) == 1
    assert len(seen(totals={"folios": 2})) == 1
    assert len(seen(kernel={**kernel, "features": []})) == 1
    assert len(seen(kernel={**kernel, "features": ["a", "b"]})) == 1
