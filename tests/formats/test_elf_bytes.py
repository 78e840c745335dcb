# SPDX-License-Identifier: LGPL-2.1-or-later
"""Bytes of a dump by address: segments that overlap, holes, unknown addresses."""

from __future__ import annotations

import pytest

from vmemmap_tools.formats.elf import NO_ADDRESS, PT_LOAD, Segment
from vmemmap_tools.formats.elf_bytes import (
    Absent,
    AddressedBytes,
    physical_segments,
    virtual_segments,
)

FILE = bytes(range(256)) * 64


def load(pa: int, offset: int, held: int, mapped: int, va: int = 0) -> Segment:
    return Segment(PT_LOAD, 6, offset, va, pa, held, mapped, held)


def by_pa(*segments: Segment) -> AddressedBytes:
    return AddressedBytes(
        segments, lambda s: s.pa, lambda at, size: FILE[at : at + size]
    )


def absent(memory: AddressedBytes, address: int, size: int) -> tuple[int, str]:
    with pytest.raises(Absent) as caught:
        memory.read(address, size)
    return caught.value.address, caught.value.reason


def test_a_read_may_span_segments_that_lie_apart_in_the_file() -> None:
    memory = by_pa(load(0x1000, 0x100, 16, 16), load(0x1010, 0x20, 16, 16))
    assert memory.read(0x100E, 4) == bytes([0x0E, 0x0F, 0x20, 0x21])


def test_what_is_named_and_not_held_is_excluded_from_its_first_byte() -> None:
    memory = by_pa(load(0x1000, 0, 16, 64))
    assert memory.read(0x1000, 16) == FILE[:16]
    assert absent(memory, 0x100F, 2) == (0x1010, "excluded")
    assert absent(memory, 0x103F, 2) == (0x103F, "excluded")
    assert absent(memory, 0x1040, 1) == (0x1040, "outside")
    assert absent(memory, 0xFFF, 2) == (0xFFF, "outside")


def test_of_two_segments_one_that_is_held_wins_over_one_that_is_not() -> None:
    held, named = load(0x1010, 0x40, 16, 16), load(0x1000, 0, 0, 64)
    for segments in ((held, named), (named, held)):
        memory = by_pa(*segments)
        assert memory.read(0x1010, 16) == FILE[0x40:0x50]
        assert absent(memory, 0x1000, 32) == (0x1000, "excluded")
        extents = [(e.start, e.end, e.present) for e in memory.extents()]
        assert extents == [
            (0x1000, 0x1010, False),
            (0x1010, 0x1020, True),
            (0x1020, 0x1040, False),
        ]


def test_of_two_segments_that_are_held_the_later_wins() -> None:
    memory = by_pa(load(0, 0, 32, 32), load(16, 0x80, 32, 32))
    assert memory.read(0, 48) == FILE[:16] + FILE[0x80:0xA0]
    assert [(e.start, e.end) for e in memory.extents()] == [(0, 48)]


def test_a_segment_within_another_leaves_both_its_sides() -> None:
    memory = by_pa(load(0, 0, 48, 48), load(16, 0x80, 16, 16))
    assert memory.read(0, 48) == FILE[:16] + FILE[0x80:0x90] + FILE[32:48]


def test_a_file_that_ends_too_early_is_no_zeros() -> None:
    memory = by_pa(load(0, len(FILE) - 8, 16, 16))
    assert absent(memory, 0, 16) == (8, "outside")


def test_nothing_is_no_memory() -> None:
    assert not by_pa()
    assert not by_pa(load(0, 0, 0, 0))
    assert absent(by_pa(), 0, 1) == (0, "outside")


def test_physical_addresses_that_were_not_known_are_none() -> None:
    zeros = [load(0, 0, 16, 16, va=n << 12) for n in (1, 2)]
    assert physical_segments(zeros) == []
    assert physical_segments(zeros[:1]) == zeros[:1]  # memory may begin at 0
    unknown = load(NO_ADDRESS, 0, 16, 16)
    assert physical_segments([unknown, zeros[0]]) == zeros[:1]


def test_addresses_that_only_repeat_physical_ones_are_not_virtual() -> None:
    plain = [load(n << 12, 0, 16, 16, va=n << 12) for n in (0, 1)]
    assert virtual_segments(plain) == []
    mapped = load(0x1000, 0, 16, 16, va=0xFFFF888000001000)
    assert virtual_segments([*plain, mapped]) == [*plain, mapped]


def test_what_the_file_ends_before_is_cut() -> None:
    segment = Segment(PT_LOAD, 6, 0, 0, 0x1000, 64, 96, 16)
    memory = by_pa(segment)
    assert memory.read(0x1000, 16) == FILE[:16]
    assert absent(memory, 0x1000, 17) == (0x1010, "cut")
    assert absent(memory, 0x1040, 1) == (0x1040, "excluded")
    assert [(e.start, e.is_cut) for e in memory.extents()] == [
        (0x1000, False),
        (0x1010, True),
        (0x1040, False),
    ]
