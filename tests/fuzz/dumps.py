# SPDX-License-Identifier: LGPL-2.1-or-later
"""Dumps whose headers, notes and page descriptors are damaged, and cut ones."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from random import Random
from typing import Callable

from tests.model.kernels import small
from vmemmap_tools.formats.elf import PT_NOTE, Elf

from .damage import damaged_bytes, damaged_lines, patched
from .subject import Patches, Subject, Words

__all__ = ["SUBJECTS", "flattened"]

EHDR, PHDR = 64, 56
BLOCK = 4096
DESCRIPTORS = 200


class ElfHeaders(Subject):
    """The ELF header, program headers and heads of notes of a vmcore."""

    def __init__(self, folder: Path):
        small("6.12").write(folder)
        self._file = Patches(folder / "vmcore")
        self._vmlinux = folder / "vmlinux"
        with Elf(self._file.path) as elf:
            notes = [s for s in elf.segments if s.type == PT_NOTE]
            headers = EHDR + PHDR * len(elf.segments)
        self._areas = [(0, EHDR), (EHDR, headers), (EHDR, headers)]
        self._areas += [(s.offset, s.offset + s.file_size) for s in notes]

    def sound(self) -> Words:
        return ("-c", str(self._file.path), "-s", str(self._vmlinux))

    def damage(self, draw: Random) -> Words:
        self._file.restore()
        _patch(self._file, draw, self._areas)
        return self.sound()


class KdumpHeaders(Subject):
    """The header, sub-header, bitmaps, page descriptors and data of a kdump.

    In one run of eight the file is cut; its flattened form is a subject of its own.
    """

    def __init__(self, folder: Path, is_flattened: bool = False):
        small("6.12").write(folder, kdump=True)
        self._whole = (folder / "vmcore.kdump").read_bytes()
        self._path, self._vmlinux = folder / "damaged", folder / "vmlinux"
        _, sub_header, bitmaps = struct.unpack_from("<iiI", self._whole, 428)
        bitmaps_at = BLOCK * (1 + sub_header)
        table = bitmaps_at + BLOCK * bitmaps
        (data,) = struct.unpack_from("<Q", self._whole, table)
        areas = [(0, 464), (424, 464), (BLOCK, BLOCK + 104), (BLOCK, BLOCK + 104)]
        areas += [(BLOCK, bitmaps_at), (bitmaps_at, table)]
        areas += [(table, min(data, table + 24 * DESCRIPTORS)), (table, data)]
        areas += [(data, len(self._whole))]
        if is_flattened:
            self._whole, heads = flattened(self._whole)
            areas = [(at, at + 16) for at in heads[:20]] + [(0, 24)]
            areas += [(at + 16, at + 16 + 464) for at in heads[:2]]
        self._areas = areas

    def sound(self) -> Words:
        self._path.write_bytes(self._whole)
        return ("-c", str(self._path), "-s", str(self._vmlinux))

    def damage(self, draw: Random) -> Words:
        opening = self.sound()
        content = patched(draw, self._whole, self._areas)
        if not draw.randrange(8):
            content = self._whole[: draw.randrange(len(content))]
        self._path.write_bytes(content)
        return opening


def flattened(kdump: bytes) -> tuple[bytes, list[int]]:
    """The stream form of makedumpfile, and where its records begin."""
    head = b"makedumpfile".ljust(16, b"\0") + struct.pack(">qq", 1, 1)
    stream, heads = head.ljust(BLOCK, b"\0"), []
    for at in range(0, len(kdump), 16 * BLOCK):
        piece = kdump[at : at + 16 * BLOCK]
        heads.append(len(stream))
        stream += struct.pack(">qq", at, len(piece)) + piece
    return stream + struct.pack(">qq", -1, -1), heads


class NoteText(Subject):
    """The text of VMCOREINFO in a vmcore, of the same length."""

    def __init__(self, folder: Path):
        small("7.3", kaslr=5).write(folder)
        self._file = Patches(folder / "vmcore")
        self._vmlinux = folder / "vmlinux"
        with Elf(self._file.path) as elf:
            area = next(s for s in elf.segments if s.type == PT_NOTE)
        notes = self._file.read(area.offset, area.file_size)
        start = notes.index(b"OSRELEASE=")
        self._at = area.offset + start
        self._text = notes[start : notes.index(b"\0", start)].decode()
        self._length = len(self._text)

    def sound(self) -> Words:
        return ("-c", str(self._file.path), "-s", str(self._vmlinux))

    def damage(self, draw: Random) -> Words:
        self._file.restore()
        text = damaged_lines(draw, self._text).encode("utf-8", "replace")
        self._file.write(self._at, text[: self._length].ljust(self._length, b"\n"))
        return self.sound()


def _patch(file: Patches, draw: Random, areas: Sequence[tuple[int, int]]) -> None:
    for _ in range(draw.randint(1, 4)):
        start, end = draw.choice(areas)
        size = min(draw.choice((1, 2, 4, 8, 8)), end - start)
        at = start + draw.randrange((end - start) // size) * size
        file.write(at, damaged_bytes(draw, file.read(at, size)))


SUBJECTS: dict[str, Callable[[Path], Subject]] = {
    "elf headers": ElfHeaders,
    "kdump headers": KdumpHeaders,
    "flattened kdump": partial(KdumpHeaders, is_flattened=True),
    "vmcoreinfo in a dump": NoteText,
}
