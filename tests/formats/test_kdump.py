# SPDX-License-Identifier: LGPL-2.1-or-later
"""kdump-compressed dumps: read back by an independent parser, and by libkdumpfile."""

from __future__ import annotations

import random
import struct
import zlib
from pathlib import Path

import drgn
import pytest

from vmemmap_tools.formats.core_write import Buffer
from vmemmap_tools.formats.elf_write import note
from vmemmap_tools.formats.kdump import KdumpHeader, write_kdump

PAGE = 4096
INFO = (
    b"OSRELEASE=7.3.0-model\nPAGESIZE=4096\nSYMBOL(swapper_pg_dir)=ffffffff81000000\n"
    b"NUMBER(phys_base)=-4096\nKERNELOFFSET=0\nNUMBER(pgtable_l5_enabled)=0\n"
)
NOTES = note("VMCOREINFO", 0, INFO)
HEADER = KdumpHeader("7.3.0-model", "x86_64", INFO, NOTES, phys_base=-4096)
Range = tuple[int, int, list[tuple[int, "Buffer | None"]]]


class Reader:
    """Reads what the format's description says, sharing no code with the writer."""

    def __init__(self, path: Path):
        self.data = data = path.read_bytes()
        assert data[:8] == b"KDUMP   "
        assert struct.unpack_from("<i", data, 8) == (6,)
        self.names = [
            data[12 + 65 * n : 77 + 65 * n].split(b"\0")[0].decode() for n in range(6)
        ]
        status, block, sub, bitmaps, _, ram, _, written = struct.unpack_from(
            "<IiiIIIII", data, 424
        )
        assert (status, block) == (1, PAGE)
        self.ram_pages, self.written_pages = ram, written
        self.phys_base, self.level = struct.unpack_from("<qi", data, PAGE)
        at, size = struct.unpack_from("<QQ", data, PAGE + 32)
        self.info = data[at : at + size]
        (self.max_pfn,) = struct.unpack_from("<Q", data, PAGE + 96)
        start, length = PAGE * (1 + sub), PAGE * bitmaps // 2
        self.present = self._bits(start, length)
        self.stored = self._bits(start + length, length)
        self.table = start + 2 * length

    def _bits(self, start: int, length: int) -> list[int]:
        value = int.from_bytes(self.data[start : start + length], "little")
        return [n for n in range(value.bit_length()) if value >> n & 1]

    def descriptor(self, pfn: int) -> tuple[int, int, int]:
        index = self.stored.index(pfn)
        offset, size, flags, _ = struct.unpack_from(
            "<QIIQ", self.data, self.table + 24 * index
        )
        return offset, size, flags

    def page(self, pfn: int) -> bytes:
        offset, size, flags = self.descriptor(pfn)
        raw = self.data[offset : offset + size]
        return zlib.decompress(raw) if flags & 1 else raw


def dump(path: Path, *ranges: Range) -> Reader:
    with path.open("w+b") as file:
        write_kdump(file, HEADER, ranges)
    return Reader(path)


def noise(seed: int) -> bytes:
    return random.Random(seed).randbytes(PAGE)


def test_headers_say_what_the_machine_is(tmp_path: Path) -> None:
    reader = dump(tmp_path / "d", (0, 16 * PAGE, [(0, b"a" * PAGE), (PAGE, None)]))
    assert reader.names[0] == "Linux"
    assert reader.names[2:5] == ["7.3.0-model", "#1 SMP", "x86_64"]
    assert reader.info == INFO
    assert (reader.phys_base, reader.level) == (-4096, 31)
    assert (reader.ram_pages, reader.written_pages, reader.max_pfn) == (16, 1, 16)


def test_pages_come_back_in_order_of_frames(tmp_path: Path) -> None:
    reader = dump(
        tmp_path / "d",
        (
            0,
            5 * PAGE,
            [(0, None), (PAGE, noise(1) + bytes(PAGE)), (3 * PAGE, None)],
        ),
        (9 * PAGE, 20 * PAGE, [(9 * PAGE, noise(2)), (10 * PAGE, None)]),
    )
    assert reader.present == [*range(5), *range(9, 20)]
    assert reader.stored == [1, 2, 9]
    assert [reader.page(n) for n in (1, 2, 9)] == [noise(1), bytes(PAGE), noise(2)]
    assert reader.descriptor(1)[2] == 0  # noise does not shrink: stored as it is
    assert reader.descriptor(2)[2] == 1


@pytest.mark.parametrize("first", range(0, 20, 3))
@pytest.mark.parametrize("count", [1, 2, 7, 8, 9, 30])
def test_bitmaps_are_right_at_every_byte_border(
    tmp_path: Path, first: int, count: int
) -> None:
    chunks: list[tuple[int, Buffer | None]] = [
        (n * PAGE, b"x" * PAGE if (n - first) % 40 < count else None)
        for n in range(first, first + 90)
    ]
    reader = dump(tmp_path / "d", (first * PAGE, (first + 90) * PAGE, chunks))
    assert reader.present == list(range(first, first + 90))
    assert reader.stored == [pa // PAGE for pa, content in chunks if content]


def test_equal_pages_are_stored_once(tmp_path: Path) -> None:
    block = noise(1) + noise(2)
    chunks: list[tuple[int, Buffer | None]] = [
        (0, block),
        (2 * PAGE, block),
        (4 * PAGE, noise(2)),
    ]
    reader = dump(tmp_path / "d", (0, 5 * PAGE, chunks))
    assert reader.descriptor(0) == reader.descriptor(2)
    assert reader.descriptor(1) == reader.descriptor(3) == reader.descriptor(4)
    assert len(reader.data) < reader.table + 5 * 24 + 2 * PAGE + 1


def test_far_memory_costs_no_disk(tmp_path: Path) -> None:
    far = 32 << 40
    path = tmp_path / "d"
    ranges = [(0, PAGE, [(0, noise(1))]), (far, far + PAGE, [(far, noise(2))])]
    with path.open("w+b") as file:
        write_kdump(file, HEADER, ranges)
    assert path.stat().st_blocks * 512 < 1 << 20


def test_drgn_reads_it_as_a_kernel(tmp_path: Path) -> None:
    path = tmp_path / "vmcore"
    dump(path, (0, 64 * PAGE, [(0, None), (PAGE, noise(3)), (2 * PAGE, None)]))
    prog = drgn.Program()
    prog.set_core_dump(path)
    assert prog["UTS_RELEASE"].string_() == b"7.3.0-model"
    assert prog.read(PAGE, PAGE, physical=True) == noise(3)
    with pytest.raises(drgn.FaultError):
        prog.read(40 * PAGE, 8, physical=True)
