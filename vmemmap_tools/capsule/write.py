# SPDX-License-Identifier: LGPL-2.1-or-later
"""Writing a capsule as ELF core, or kdump-compressed.

A program header names any number of bytes, so that the ELF form holds exactly what
was read. A kdump-compressed file has whole pages: what is not carried is zero there,
and the capsule's note says which ranges are true. Our targets fault on the others.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Iterator
from heapq import merge
from operator import itemgetter
from typing import BinaryIO

from ..arch import ARCHITECTURES
from ..formats.elf_write import (
    ET_CORE,
    HEADER_SIZE,
    PF_R,
    PF_W,
    PF_X,
    PROGRAM_HEADER_SIZE,
    PT_LOAD,
    PT_NOTE,
    file_header,
    note,
    program_header,
)
from ..formats.kdump import KdumpHeader, write_kdump
from ..formats.seal import seal, sealed_note
from .capture import Capsule
from .store import PAGE, PAGE_SHIFT, Store

__all__ = ["write_elf", "write_kdump_file"]

PN_XNUM = 0xFFFF
FLAGS = PF_R | PF_W | PF_X
_LOAD = FLAGS << 32 | PT_LOAD
"""The first word of a program header."""
MAX_PENDING = 7 << 14
_PA = itemgetter(1)
MASK_64 = (1 << 64) - 1


def write_elf(capsule: Capsule, file: BinaryIO) -> None:
    """Write an ELF core that drgn and gdb open, into an empty file. Raises OSError."""
    store = capsule.store
    views = sorted(_views(capsule), key=_PA)
    count = 1 + sum(1 for _ in store.extents()) + len(views)
    notes = _vmcoreinfo(capsule) + sealed_note(capsule.note.pack())
    extended = count >= PN_XNUM
    notes_at = HEADER_SIZE + PROGRAM_HEADER_SIZE * count
    section_at = notes_at + len(notes)
    data_at = section_at + (64 if extended else 0)
    machine = ARCHITECTURES[capsule.target.arch].elf_machine
    header = file_header(
        ET_CORE, machine, PN_XNUM if extended else count, section_at, 0
    )
    if extended:
        # The count stands in sh_info of section header 0.
        header = header[:58] + struct.pack("<HHH", 64, 1, 0)
    else:
        header = header[:40] + bytes(8) + header[48:]
    file.write(header)
    file.write(program_header(PT_NOTE, 0, notes_at, 0, 0, len(notes), len(notes), 4))
    words = array("Q")
    for va, pa, size, offset in _loads(capsule, views):
        words.extend((_LOAD, data_at + offset, va & MASK_64, pa, size, size, 1))
        if len(words) >= MAX_PENDING:
            file.write(_little(words))
            words = array("Q")
    file.write(_little(words))
    file.write(notes)
    if extended:
        file.write(struct.pack("<IIQQQQIIQQ", 0, 0, 0, 0, 0, 1, 0, count, 0, 0))
    file.writelines(store.contents())
    file.flush()
    seal(file)


def _little(words: array[int]) -> bytes:
    if sys.byteorder == "big":
        words.byteswap()
    return words.tobytes()


def _placed(store: Store) -> Iterator[tuple[int, int, int]]:
    """(physical address, size, offset behind the headers) of all ranges, in order."""
    offset = 0
    for pa, size in store.extents():
        yield pa, size, offset
        offset += size


def _loads(
    capsule: Capsule, views: list[tuple[int, int, int, int]]
) -> Iterator[tuple[int, int, int, int]]:
    """(va, pa, size, offset), in order of pa: a reader need not sort them."""
    slide, ranges = capsule.slide, _placed(capsule.store)
    plain = ((pa + slide, pa, size, offset) for pa, size, offset in ranges)
    yield from merge(views, plain, key=_PA)


def _views(capsule: Capsule) -> Iterator[tuple[int, int, int, int]]:
    """(va, pa, size, offset) of ranges that are read outside of the direct map too."""
    starts: dict[int, list[tuple[int, int, int]]] = {}
    wanted = {pa >> PAGE_SHIFT for pa in capsule.views.values()}
    for pa, size, offset in _placed(capsule.store):
        for pfn in range(pa >> PAGE_SHIFT, (pa + size - 1 >> PAGE_SHIFT) + 1):
            if pfn in wanted:
                starts.setdefault(pfn, []).append((pa, size, offset))
    seen = set()
    for va, pa in capsule.views.items():
        slide = va - pa
        for start, size, at in starts.get(pa >> PAGE_SHIFT, ()):
            if start <= pa < start + size:
                # Within its page only: the next one may lie elsewhere.
                first = max(start, pa // PAGE * PAGE)
                end = min(start + size, (pa // PAGE + 1) * PAGE)
                if (first + slide) not in seen:
                    seen.add(first + slide)
                    yield first + slide, first, end - first, at + first - start


def _vmcoreinfo(capsule: Capsule) -> bytes:
    return note("VMCOREINFO", 0, _vmcoreinfo_text(capsule))


def _vmcoreinfo_text(capsule: Capsule) -> bytes:
    info = capsule.target.vmcoreinfo
    return "".join(f"{key}={value}\n" for key, value in info.items()).encode()


def write_kdump_file(capsule: Capsule, file: BinaryIO) -> None:
    """Write a kdump-compressed file, into an empty file. Raises OSError."""
    store = capsule.store
    capsule.note.ranges = list(store.extents())
    runs: list[tuple[int, int]] = []
    for pfn in store.frames():
        if runs and runs[-1][1] == pfn:
            runs[-1] = runs[-1][0], pfn + 1
        else:
            runs.append((pfn, pfn + 1))
    base = capsule.target.vmcoreinfo.get("NUMBER(phys_base)", "0")
    header = KdumpHeader(
        release=capsule.target.release,
        machine=capsule.target.arch,
        vmcoreinfo=_vmcoreinfo_text(capsule),
        notes=_vmcoreinfo(capsule) + sealed_note(capsule.note.pack()),
        phys_base=int(base, 0),
        node="(none)",
    )
    write_kdump(
        file,
        header,
        (
            (
                first << PAGE_SHIFT,
                end << PAGE_SHIFT,
                (
                    (pfn << PAGE_SHIFT, _whole_page(store.pieces(pfn)))
                    for pfn in range(first, end)
                ),
            )
            for first, end in runs
        ),
    )
    seal(file)


def _whole_page(pieces: list[tuple[int, bytes]]) -> bytes:
    page = bytearray(PAGE)
    for start, data in pieces:
        page[start : start + len(data)] = data
    return bytes(page)
