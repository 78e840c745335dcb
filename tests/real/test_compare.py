# SPDX-License-Identifier: LGPL-2.1-or-later
"""The comparisons themselves: that they fail, and what their lines say."""

from __future__ import annotations

from typing import Any

import pytest

from .compare import Compare, difference
from .matrix import chosen


def test_what_differs_fails_and_leaves_a_line() -> None:
    compare = Compare("here")
    compare.equal("pages = sysfs", 3, 3)
    with pytest.raises(AssertionError, match="here: DIFFER frames = info tlb"):
        compare.equal("frames = info tlb", 4, 5)
    with pytest.raises(AssertionError):
        compare.true("missing is counted", False, "nothing")
    assert [str(made) for made in compare.made] == [
        "ok     pages = sysfs: 3",
        "DIFFER frames = info tlb: the tool 4, the judge 5",
        "DIFFER missing is counted: nothing",
    ]


@pytest.mark.parametrize(
    ("ours", "judge", "said"),
    [
        ([1, 2], [1, 3], "2 and 2 entries; at 1 the tool has 2, the judge 3"),
        ([1], [1, 3], "1 and 2 entries; at 1 the tool has nothing more, the judge 3"),
        ({1, 2}, {2, 5}, "only the tool has 1: 1; only the judge has 1: 5"),
        (
            {"a": 1},
            {"a": 2, "b": 3},
            "a: the tool 1, the judge 2; b only with the judge",
        ),
        ((1, None), (1, 0), "the tool (1, None), the judge (1, 0)"),
    ],
)
def test_a_difference_is_named_where_it_is(ours: Any, judge: Any, said: str) -> None:
    assert difference(ours, judge) == said


def test_many_differences_are_cut_short() -> None:
    assert difference(set(range(9)), set()).endswith("0, 1, 2, 3, and 5 more")


def test_a_list_of_runs_is_a_matrix() -> None:
    first, second = chosen("sid:la57,trixie:kaslr")
    assert (str(first), second.suite, second.variant) == ("sid-la57", "trixie", "kaslr")


@pytest.mark.parametrize("matrix", ["", "most", "sid:fast", ":kaslr"])
def test_a_matrix_that_is_none_is_refused(matrix: str) -> None:
    with pytest.raises(ValueError, match="SUITE:VARIANT"):
        chosen(matrix)
