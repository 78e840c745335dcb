# SPDX-License-Identifier: LGPL-2.1-or-later
"""Cores: bytes come back from where they were put; repeats and holes cost nothing."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmemmap_tools.formats.core_write import (
    NO_ADDRESS,
    Buffer,
    CoreWriter,
    Repeats,
    pieces,
)
from vmemmap_tools.formats.elf import Elf, Segment
from vmemmap_tools.formats.elf_write import note

PAGE = 4096
VA = 0xFFFF888000000000
MIB, GIB = 1 << 20, 1 << 30
NOTES = note("VMCOREINFO", 0, b"OSRELEASE=1.2.3\n")


def written(
    path: Path, fill: Callable[[CoreWriter], None], capacity: int = 64
) -> list[Segment]:
    with open(path, "wb") as file:
        core = CoreWriter(file, 62, NOTES, capacity)
        fill(core)
        core.finish()
    with Elf(path) as elf:
        assert elf.note("VMCOREINFO") == b"OSRELEASE=1.2.3\n"
        assert not elf.is_truncated
        return elf.loads()


def byte_at(path: Path, pa: int) -> int | None:
    """A byte by its physical address; the later segment wins. None: left out."""
    found = None
    with Elf(path) as elf:
        for segment in elf.loads():
            if segment.pa != NO_ADDRESS and 0 <= pa - segment.pa < segment.memory_size:
                inside = pa - segment.pa
                found = None
                if inside < segment.file_size:
                    found = elf.read_at(segment.offset + inside, 1)[0]
    return found


def test_one_range_is_one_segment_with_holes(tmp_path: Path) -> None:
    path = tmp_path / "core"
    chunks = [(0, None), (MIB, b"\1" * PAGE), (MIB + PAGE, None), (3 * MIB, b"\2" * 10)]
    chunks[-1] = (4 * MIB - PAGE, b"\2" * PAGE)
    [load] = written(path, lambda core: core.load(VA, 0, 4 * MIB, chunks))
    assert (load.va, load.pa, load.file_size) == (VA, 0, 4 * MIB)
    assert load.memory_size == load.file_size
    assert load.offset > 0
    values = [byte_at(path, pa) for pa in (0, MIB, 2 * MIB, 4 * MIB - 1)]
    assert values == [0, 1, 0, 2]
    assert path.stat().st_blocks * 512 < MIB


def test_a_piece_that_comes_again_is_stored_once(tmp_path: Path) -> None:
    path = tmp_path / "core"
    same, other = b"s" * MIB, b"o" * MIB
    chunks = [(n * MIB, other if n == 2 else same) for n in range(6)]
    loads = written(path, lambda core: core.load(VA, 0, 6 * MIB, chunks), 200)
    first = loads[0].offset
    assert [s.offset for s in loads if s.pa in (MIB, 3 * MIB, 4 * MIB)] == [first] * 3
    assert "".join(chr(byte_at(path, n * MIB) or 0) for n in range(6)) == "ssosss"
    assert path.stat().st_size < 3 * MIB


def test_long_zeros_name_one_hole(tmp_path: Path) -> None:
    path = tmp_path / "core"
    chunks = [(0, b"a" * PAGE), (PAGE, None), (1000 * GIB - PAGE, b"z" * PAGE)]
    loads = written(path, lambda core: core.load(VA, 0, 1000 * GIB, chunks), 2000)
    assert len({s.offset for s in loads}) == 3
    assert sum(s.memory_size for s in loads) == 1000 * GIB
    assert path.stat().st_size < 2 * GIB
    assert byte_at(path, 1000 * GIB - 1) == ord("z")
    assert byte_at(path, 500 * GIB) == 0


def test_a_terabyte_costs_its_distinct_content(tmp_path: Path) -> None:
    path = tmp_path / "core"
    template = b"t" * (2 * MIB)

    def chunks() -> Iterator[tuple[int, Buffer | None]]:
        """16 GiB of equal pieces at the end, as an untouched vmemmap is."""
        yield 0, None
        for number in range(8192):
            own = number.to_bytes(4, "little") * (PAGE // 4)
            yield 1008 * GIB + number * 2 * MIB, template if number % 64 else own * 512

    loads = written(path, lambda core: core.load(VA, 0, 1024 * GIB, chunks()), 65535)
    assert sum(s.memory_size for s in loads) == 1024 * GIB
    assert path.stat().st_blocks * 512 < 129 * 2 * MIB + 8 * MIB
    assert path.stat().st_size < 2 * GIB
    assert byte_at(path, 1024 * GIB - 1) == ord("t")


def test_what_is_left_out_has_no_bytes_but_a_place(tmp_path: Path) -> None:
    path = tmp_path / "core"

    def fill(core: CoreWriter) -> None:
        core.load(VA, 0, PAGE, [(0, b"a" * PAGE)], absent=3 * PAGE)
        core.load(VA + 4 * PAGE, 4 * PAGE, 0, [], absent=PAGE)

    loads = written(path, fill)
    assert [(s.file_size, s.memory_size) for s in loads] == [
        (PAGE, 4 * PAGE),
        (0, PAGE),
    ]
    assert byte_at(path, PAGE) is None
    assert byte_at(path, 4 * PAGE) is None


def test_an_alias_shows_the_same_bytes_elsewhere(tmp_path: Path) -> None:
    path = tmp_path / "core"

    def fill(core: CoreWriter) -> None:
        core.load(VA, 0, 2 * MIB, [(0, b"a" * MIB), (MIB, b"b" * MIB)])
        core.alias(0x5000, MIB - PAGE, 2 * PAGE, has_pa=False)
        assert core.load_count == 2

    loads = written(path, fill)
    assert (loads[1].va, loads[1].pa, loads[1].file_size) == (
        0x5000,
        NO_ADDRESS,
        2 * PAGE,
    )
    assert loads[1].offset == loads[0].offset + MIB - PAGE


def test_an_alias_of_memory_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    def fill(core: CoreWriter) -> None:
        core.load(VA, MIB, MIB, [(MIB, None)])
        for pa in (0, 2 * MIB):
            with pytest.raises(ValueError, match="not in the core"):
                core.alias(0, pa, PAGE)

    written(tmp_path / "core", fill)


def test_too_many_segments_are_an_error(tmp_path: Path) -> None:
    def fill(core: CoreWriter) -> None:
        for number in range(5):
            core.load(VA, number * MIB, PAGE, [(number * MIB, b"x" * PAGE)])

    with pytest.raises(ValueError, match="5 segments"):
        written(tmp_path / "core", fill, capacity=4)


def test_repeats_wait_until_there_is_room(tmp_path: Path) -> None:
    same = b"s" * MIB
    chunks = [(n * MIB, same) for n in range(300)]
    loads = written(
        tmp_path / "core", lambda core: core.load(VA, 0, 300 * MIB, chunks), 200
    )
    assert len(loads) <= 200
    assert sum(s.file_size for s in loads) == 300 * MIB


def test_repeats_forget_what_came_once() -> None:
    repeats = Repeats(recent=2, repeated=1)
    a, b, c, d = ([n] for n in range(4))
    repeats.remember(a, 1)
    assert repeats.find(a) == 1
    for thing, number in ((b, 2), (c, 3), (d, 4)):
        repeats.remember(thing, number)
    assert [repeats.find(t) for t in (a, b, c)] == [1, None, 3]
    assert repeats.find([0]) is None


def test_pieces_merge_zeros_and_refuse_gaps() -> None:
    data = b"x" * PAGE
    assert list(pieces([(0, None), (PAGE, None), (2 * PAGE, data)], 4 * PAGE)) == [
        (0, 2 * PAGE, None),
        (2 * PAGE, PAGE, data),
    ]
    assert list(pieces([(0, None)], PAGE)) == [(0, PAGE, None)]
    with pytest.raises(ValueError, match="goes on at"):
        list(pieces([(0, data), (2 * PAGE, data)], 3 * PAGE))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1 << 30))
def test_any_memory_reads_back(seed: int) -> None:
    rng = random.Random(seed)
    shared = [bytes([n]) * (16 * PAGE) for n in (0, 7, 9)]
    memory: list[Buffer | None] = [
        rng.choice([None, None, *shared, rng.randbytes(16 * PAGE)]) for _ in range(40)
    ]

    def chunks() -> Iterator[tuple[int, Buffer | None]]:
        for number, content in enumerate(memory):
            yield number * 16 * PAGE, content

    size = 40 * 16 * PAGE
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "core"
        loads = written(path, lambda core: core.load(VA, 0, size, chunks()), 400)
        image = bytearray(size)
        with Elf(path) as elf:
            for s in loads:
                image[s.pa : s.pa + s.file_size] = elf.read_at(s.offset, s.file_size)
    expected = b"".join(bytes(c) if c else bytes(16 * PAGE) for c in memory)
    assert image == expected
