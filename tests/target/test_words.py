# SPDX-License-Identifier: LGPL-2.1-or-later
"""Words of many structs: what was put is found again, and nothing else."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmemmap_tools.target.base import ByteOrder, TargetError
from vmemmap_tools.target.words import Words

ORDERS: dict[ByteOrder, str] = {"little": "<", "big": ">"}
Place = dict[int, int]
"""Offset in a struct -> word."""


def structs(
    step: int, places: Sequence[Place], order: ByteOrder = "little", rest: int = 0xEE
) -> bytes:
    """The structs, ``rest`` in all other bytes."""
    whole = bytearray([rest]) * (step * len(places))
    for i, place in enumerate(places):
        for at, word in place.items():
            struct.pack_into(f"{ORDERS[order]}Q", whole, i * step + at, word)
    return bytes(whole)


def both(words: Words) -> list[Words]:
    """As they are, and from a file."""
    return [words, Words.unpack(words.pack())]


def put(words: Words, pa: int, step: int, places: Sequence[Place]) -> None:
    words.put(pa, step, sorted(places[0]), structs(step, places), "little")


def is_here(words: Words, pa: int, step: int, places: Sequence[Place]) -> bool:
    found = words.structs(pa, step, len(places), sorted(places[0]), "little")
    return found == structs(step, places, rest=0)


@pytest.mark.parametrize("order", ORDERS)
@given(
    values=st.lists(st.integers(0, 3), min_size=1, max_size=300),
    step=st.sampled_from([24, 64, 96]),
    data=st.data(),
)
def test_any_part_of_what_was_put_is_found(
    order: ByteOrder, values: list[int], step: int, data: st.DataObject
) -> None:
    places = [{8: (1 << 64) - 1 - v, 16: v // 2} for v in values]
    words = Words()
    # Not far from where one chunk ends and another begins.
    start = (1 << 21) - data.draw(st.integers(-20, 20)) * step
    words.put(start, step, (8, 16), structs(step, places, order), order)
    first = data.draw(st.integers(0, len(values) - 1))
    last = data.draw(st.integers(first, len(values) - 1))
    offsets = data.draw(st.sampled_from([[8, 16], [8], [16]]))
    wanted = [{at: p[at] for at in offsets} for p in places[first : last + 1]]
    for one in both(words):
        found = one.structs(start + first * step, step, len(wanted), offsets, order)
        assert found == structs(step, wanted, order, rest=0)
        assert len(one) == 2 * len(values)


def test_what_was_not_put_is_not_there() -> None:
    words = Words()
    put(words, 0x1000, 64, [{8: 5}] * 10)
    put(words, 0x9000, 64, [{8: 6}] * 10)
    for one in both(words):
        assert is_here(one, 0x1000, 64, [{8: 5}] * 10)
        assert one.structs(0x1000, 64, 11, [8], "little") is None
        assert one.structs(0x1008, 64, 1, [8], "little") is None
        assert one.structs(0x0FC0, 64, 1, [8], "little") is None
        assert one.structs(0x1000, 128, 2, [8], "little") is None
        assert one.structs(0x1000, 64, 1, [0, 8], "little") is None
        assert one.structs(0x2000, 64, 1, [8], "little") is None
        assert one.structs(0x1000, 64, 0, [8], "little") is None


def test_words_that_two_have_put_are_found_together() -> None:
    words = Words()
    put(words, 0x1000, 64, [{8: 5, 24: 6}] * 64)
    put(words, 0x1000, 64, [{0: 7}] * 32)
    put(words, 0x1800, 64, [{0: 8}] * 32)
    wanted = [{0: 7, 8: 5}] * 32 + [{0: 8, 8: 5}] * 32
    for one in both(words):
        assert is_here(one, 0x1000, 64, wanted)
        assert one.frames() == {1: 3 * 64}


def test_the_first_look_stays() -> None:
    words = Words()
    put(words, 0x1100, 64, [{0: 1}] * 4)
    put(words, 0x1300, 64, [{0: 2}] * 4)
    put(words, 0x1000, 64, [{0: 3}] * 20)
    put(words, 0x1020, 64, [{0: 4}] * 20)  # between the structs of the others
    first = [3] * 4 + [1] * 4 + [3] * 4 + [2] * 4 + [3] * 4
    for one in both(words):
        assert is_here(one, 0x1000, 64, [{0: value} for value in first])


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(1, 20)), max_size=12))
def test_whatever_overlaps_the_first_look_stays(puts: list[tuple[int, int]]) -> None:
    words, known = Words(), dict[int, int]()
    for value, (start, count) in enumerate(puts):
        put(words, 0x1000 + start * 64, 64, [{0: value}] * count)
        for i in range(start, start + count):
            known.setdefault(i, value)
    for one in both(words):
        assert len(one) == len(known)
        for i in range(64):
            found = one.structs(0x1000 + i * 64, 64, 1, [0], "little")
            there = structs(64, [{0: known[i]}], rest=0) if i in known else None
            assert found == there


def test_frames_are_told_and_left_out() -> None:
    words = Words()
    put(words, 0x1000, 64, [{8: 7}] * 192)
    assert words.frames() == {1: 64, 2: 64, 3: 64}
    for one in both(words.without({2})):
        assert one.frames() == {1: 64, 3: 64}
        assert is_here(one, 0x1000, 64, [{8: 7}] * 64)
        assert one.structs(0x2000, 64, 1, [8], "little") is None
        assert is_here(one, 0x3000, 64, [{8: 7}] * 64)


def test_runs_that_agree_are_small() -> None:
    words = Words()
    for i in range(100):
        put(words, i << 15, 64, [{8: 1 << 40, 16: 5, 24: 6, 48: 7}] * 64)
    assert len(words) == 100 * 64 * 4
    # Seven numbers that describe the columns, six for each run.
    assert len(words.pack()) == (7 + 100 * 6) * 8
    for i in range(100):
        put(words, (i << 12) + (1 << 30), 64, [{8: 1 << 40, 16: 5, 24: 6, 48: 7}] * 64)
    assert len(words.pack()) == (7 + 101 * 6) * 8  # what adjoins is one


COLUMNS = (64, 1, 2, 8)
RUNS = (0x1000, 0x1000, 64, 0, 7, 1)


def test_the_columns_are_as_described() -> None:
    words = Words()
    put(words, 0x1000, 64, [{8: 7}] * 64)
    put(words, 0x2000, 64, [{8: 8}] * 64)
    assert words.pack() == struct.pack("<10Q", *COLUMNS, *RUNS)


@pytest.mark.parametrize(
    "numbers",
    [
        (*COLUMNS, *RUNS[:-1]),
        (*COLUMNS, *RUNS, *COLUMNS, *RUNS),  # one table twice
        (64, 1),
        (0, 1, 2, 8, *RUNS),  # no size of a struct
        (8192, 1, 2, 8, *RUNS),
        (60, 1, 2, 8, *RUNS),
        (64, 1, 2, 64, *RUNS),  # no offset in it
        (64, 1, 2, 4, *RUNS),
        (64, 2, 1, 8, 8, 0x1000, 64, 7, 7),
        (64, 0, 2, 0x1000, 0x1000, 64, 0),
        (64, 1, 0, 8),
        (*COLUMNS, 0x1000, 0xFC0, 64, 0, 7, 1),  # runs that overlap
        (*COLUMNS, 0x1000, 0, 64, 0, 7, 1),
        (*COLUMNS, 0x2000, (1 << 64) - 0x1000, 64, 0, 7, 1),
        (*COLUMNS, 0x1000, 0x1000, 64, (1 << 64) - 64, 7, 1),  # and of none
        (*COLUMNS, 0x1000, 0x1000, 64, 1 << 40, 7, 1),
        (*COLUMNS, (1 << 64) - 0x2000, 0x1000, 64, 0, 7, 1),
    ],
)
def test_what_no_writer_packs_is_refused(numbers: Sequence[int]) -> None:
    words = Words.unpack(struct.pack(f"<{len(numbers)}Q", *numbers))
    with pytest.raises(TargetError, match="damaged capsule"):
        len(words)


def test_bytes_that_are_no_columns_are_refused() -> None:
    with pytest.raises(ValueError, match="within a word"):
        Words.unpack(struct.pack("<10Q", *COLUMNS, *RUNS)[:-1])
