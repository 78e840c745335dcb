# SPDX-License-Identifier: LGPL-2.1-or-later
"""Sparse memory: written, rendered and untouched pages, and their stream."""

from __future__ import annotations

import pytest

from vmemmap_tools.model.memory import PhysicalMemory


class Letters:
    """Renders each frame as its number modulo 256."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []

    def render(self, start_pfn: int, end_pfn: int) -> bytes:
        self.asked.append((start_pfn, end_pfn))
        return b"".join(bytes([pfn % 256]) * 4096 for pfn in range(start_pfn, end_pfn))


def memory() -> PhysicalMemory:
    made = PhysicalMemory([(0, 1 << 24)])
    made.add_sources([(16, 1200, Letters())])
    return made


def test_untouched_memory_reads_as_zeros() -> None:
    assert memory().read(0x100, 32) == bytes(32)


def test_rendered_memory_reads_across_pages() -> None:
    assert memory().read(17 * 4096 - 1, 2) == bytes([16, 17])


def test_a_write_keeps_the_rest_of_a_rendered_page() -> None:
    made = memory()
    made.write(17 * 4096 + 8, b"xyz")
    assert made.read(17 * 4096 + 6, 7) == b"\x11\x11xyz\x11\x11"


def test_a_fork_does_not_see_later_writes() -> None:
    made = memory()
    made.write(0, b"one")
    copy = made.fork()
    made.write(0, b"two")
    copy.write(4096, b"three")
    assert (copy.read(0, 3), made.read(0, 3)) == (b"one", b"two")
    assert made.read(4096, 5) == bytes(5)


def test_chunks_cover_a_range_without_gaps() -> None:
    made = memory()
    made.write(20 * 4096, b"stored")
    made.write(2000 * 4096, b"far")
    at = 0
    for pa, content in made.chunks(0, 1 << 24):
        assert pa == at
        following = [p for p, _ in made.chunks(0, 1 << 24) if p > pa]
        at = following[0] if following else 1 << 24
        if content is not None:
            assert len(content) == at - pa
            assert made.read(pa, len(content)) == bytes(content)


def test_nothing_is_rendered_before_it_is_asked_for() -> None:
    letters = Letters()
    made = PhysicalMemory([(0, 1 << 30)])
    made.add_sources([(0, 1 << 18, letters)])
    stream = made.chunks(0, 1 << 30)
    next(stream)
    assert letters.asked == [(0, 512)]


def test_two_sources_for_a_frame_are_refused() -> None:
    made = memory()
    with pytest.raises(ValueError, match="two sources"):
        made.add_sources([(1000, 1300, Letters())])
