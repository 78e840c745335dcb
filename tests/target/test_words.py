# SPDX-License-Identifier: LGPL-2.1-or-later
"""Words of many structs: what was put is found again, and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmemmap_tools.target.words import Words

PAGE = 4096


def both(words: Words) -> list[Words]:
    """As they are, and from a file."""
    return [words, Words.unpack(words.pack())]


@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=300),
    st.sampled_from([8, 64, 96]),
    st.data(),
)
def test_any_part_of_what_was_put_is_found(
    values: list[int], step: int, data: st.DataObject
) -> None:
    words = Words()
    words.put(0x12348, step, values)
    first = data.draw(st.integers(0, len(values) - 1))
    last = data.draw(st.integers(first, len(values) - 1))
    for one in both(words):
        part = one.get(0x12348 + first * step, step, last + 1 - first)
        assert part == values[first : last + 1]
        assert len(one) == len(values)


def test_what_was_not_put_is_not_there() -> None:
    words = Words()
    words.put(0x1008, 64, [5] * 10)
    words.put(0x9008, 64, [6] * 10)
    for one in both(words):
        assert one.get(0x1008, 64, 11) is None
        assert one.get(0x1010, 64, 1) is None
        assert one.get(0xFC8, 64, 1) is None
        assert one.get(0x1008, 128, 2) is None
        assert one.get(0x2000, 64, 1) is None


def test_the_first_look_stays() -> None:
    words = Words()
    words.put(0x1000, 64, [1, 1])
    words.put(0x1000, 64, [2, 2])
    assert words.get(0x1000, 64, 2) == [1, 1]


def test_frames_are_told_and_left_out() -> None:
    words = Words()
    words.put(0x1008, 64, [7] * 192)
    assert words.frames() == {1: 64, 2: 64, 3: 64}
    for one in both(words.without({2})):
        assert one.frames() == {1: 64, 3: 64}
        assert one.get(0x1008, 64, 64) == [7] * 64
        assert one.get(0x2008, 64, 1) is None
        assert one.get(0x3008, 64, 64) == [7] * 64


def test_runs_of_equal_words_are_small() -> None:
    words = Words()
    for i in range(100):
        words.put(i << 20, 64, [1 << 40] * 16384)
    assert len(words) == 100 * 16384
    assert len(words.pack()) == 100 * 32


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],
        lambda data: data + bytes(32),
        lambda data: bytes(16) + data[16:],
        lambda data: data[:32] + bytes(32) + data[64:],
    ],
)
def test_damaged_columns_are_refused(damage: object) -> None:
    words = Words()
    words.put(0x1008, 64, [7] * 64)
    words.put(0x2008, 64, [8] * 64)
    with pytest.raises(ValueError, match=r"columns|runs"):
        Words.unpack(damage(words.pack()))  # type: ignore[operator]
