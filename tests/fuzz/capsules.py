# SPDX-License-Identifier: LGPL-2.1-or-later
"""Capsules of real kernels that lie under a right checksum.

A checksum finds accidents; these are sealed again after they were changed, in their
memory, in their description or in their VMCOREINFO.
"""

from __future__ import annotations

import json
import struct
import zlib
from abc import abstractmethod
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from tests.real.captures import CAPTURES, Capture
from vmemmap_tools.formats.elf import Elf
from vmemmap_tools.formats.seal import HEADER, MAGIC, seal
from vmemmap_tools.target.recorded import END_OF_TEXT

from .damage import damaged_bytes, damaged_lines, damaged_word, lie, patched
from .subject import Subject, Words

__all__ = ["SUBJECTS"]

PAGE = 4096
OLD, NEW = "6.1.0", "7.3-cloud-amd64_kaslr"


class Sealed(Subject):
    """A capsule that is changed and sealed again."""

    def __init__(self, folder: Path, capture: str):
        (packed,) = CAPTURES.glob(f"{capture}*.core.xz")
        self.path = folder / "core"
        Capture(packed).unpack(self.path)
        self.whole = self.path.read_bytes()
        with Elf(str(self.path)) as elf:
            self.loads = [s for s in elf.loads() if s.file_size >= PAGE]
        self.header_at = self.whole.index(MAGIC)
        *_, self.body_size = HEADER.unpack_from(self.whole, self.header_at)
        self.body_at = self.header_at + HEADER.size

    def sound(self) -> Words:
        self.path.write_bytes(self.whole)
        return ("-c", str(self.path))

    def damage(self, draw: Random) -> Words:
        content = bytearray(self.whole)
        for offset, data in self.changes(draw):
            content[offset : offset + len(data)] = data
        self.path.write_bytes(content)
        with self.path.open("r+b") as file:
            seal(file)
        return ("-c", str(self.path))

    @abstractmethod
    def changes(self, draw: Random) -> list[tuple[int, bytes]]:
        """(offset, bytes) to stand there."""

    def word(self, offset: int) -> int:
        (value,) = struct.unpack_from("<Q", self.whole, offset)
        return int(value)


class Memory(Sealed):
    """Words of memory."""

    def changes(self, draw: Random) -> list[tuple[int, bytes]]:
        patches = []
        elsewhere = [self.word(load.offset) for load in self.loads[:64]]
        for _ in range(draw.randint(1, 6)):
            load = draw.choice(self.loads)
            slot = draw.randrange(load.file_size // 8)
            offset = load.offset + 8 * slot
            word = damaged_word(draw, self.word(offset), elsewhere)
            size = min(8 * draw.choice((1, 1, 1, 8, 512)), load.file_size - 8 * slot)
            patches.append((offset, (struct.pack("<Q", word) * 512)[:size]))
        return patches


class Description(Sealed):
    """What the capsule says of itself: its JSON, or the words behind it."""

    def changes(self, draw: Random) -> list[tuple[int, bytes]]:
        while True:
            body = zlib.decompress(self.whole[self.body_at :][: self.body_size])
            text, _, words = body.partition(END_OF_TEXT)
            if words and not draw.randrange(4):
                words = patched(draw, words, [(0, 64), (0, len(words))])
            else:
                text = self._lying(draw, json.loads(text))
            packed = zlib.compress(text + END_OF_TEXT + words, 9)
            if len(packed) <= self.body_size:
                break
        packed = packed.ljust(self.body_size, b"\0")
        head = HEADER.pack(MAGIC, 0, zlib.crc32(packed), len(packed))
        return [(self.header_at, head + packed)]

    def _lying(self, draw: Random, said: dict[str, Any]) -> bytes:
        for _ in range(draw.randint(1, 3)):
            part = draw.choice(("answers", "answers", *sorted(said)))
            said[part] = lie(draw, said[part])
        return json.dumps(said, separators=(",", ":")).encode()


class Note(Sealed):
    """The text of VMCOREINFO, of the same length."""

    def changes(self, draw: Random) -> list[tuple[int, bytes]]:
        start = self.whole.index(b"OSRELEASE=")
        text = self.whole[start : self.whole.index(b"\0", start)]
        other = damaged_lines(draw, text.decode()).encode("utf-8", "replace")
        return [(start, other[: len(text)].ljust(len(text), b"\n"))]


class Headers(Sealed):
    """ELF headers and the heads of notes, which no checksum can make right."""

    def changes(self, draw: Random) -> list[tuple[int, bytes]]:
        end = draw.choice((64, 512, self.body_at - 8))
        at = draw.randrange(end)
        return [(at, damaged_bytes(draw, self.whole[at : at + 8]))]

    def damage(self, draw: Random) -> Words:
        content = bytearray(self.whole)
        for offset, data in self.changes(draw):
            content[offset : offset + len(data)] = data
        self.path.write_bytes(content)
        return ("-c", str(self.path))


SUBJECTS = {
    f"capsule {name} {capture.partition('-')[0]}": partial(kind, capture=capture)
    for capture in (OLD, NEW)
    for name, kind in (
        ("memory", Memory),
        ("description", Description),
        ("note", Note),
        ("headers", Headers),
    )
}
