# SPDX-License-Identifier: LGPL-2.1-or-later
"""Symbols of a vmlinux from its own symbol table, moved to where the kernel runs.

A name is sought in the string table when it is asked for; the symbols around it are
never looked at. Constants are read from the file as well,
by link address, to be compared with the memory of a kernel.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from ..formats.elf import ET_CORE, ET_REL, SHT_NOBITS, Elf, ElfError, Section
from .base import Evidence, TargetError

__all__ = ["ElfSymbols", "LinkedSymbol"]

ENTRY_SIZE = 24
SHN_UNDEF = 0
STB_LOCAL = 0
MASK_64 = (1 << 64) - 1


@dataclass(frozen=True)
class LinkedSymbol:
    """One symbol table entry; ``address`` is that of the link."""

    address: int
    size: int
    is_local: bool
    section: int


class ElfSymbols:
    """The symbols of one vmlinux; ``offset`` is what KASLR adds to their addresses.

    Raises `TargetError` for a file that is no vmlinux or has no symbol table.
    """

    def __init__(self, path: str, offset: int = 0):
        self.path = path
        self.offset = offset
        try:
            with Elf(path) as elf:
                if elf.type in (ET_CORE, ET_REL):
                    raise TargetError(f"{path} is no vmlinux")
                self.machine = elf.machine
                self._order = "<" if elf.byteorder == "little" else ">"
                self.sections = elf.sections()
                self._read_tables(elf)
                found = elf.build_id()
        except OSError as error:
            raise TargetError(f"{path}: {error.strerror}") from None
        except ElfError as error:
            raise TargetError(f"{path} is no vmlinux ({error})") from None
        self.build_id = None if found is None else found.hex()
        self._linked: dict[str, LinkedSymbol | None] = {}

    def _read_tables(self, elf: Elf) -> None:
        table = next((s for s in self.sections if s.name == ".symtab"), None)
        if table is None or table.type == SHT_NOBITS:
            raise TargetError(f"{self.path} has no symbol table (.symtab)")
        if table.entry_size != ENTRY_SIZE or table.link >= len(self.sections):
            raise TargetError(f"{self.path}: its symbol table is damaged")
        names = self.sections[table.link]
        self._entries = elf.read_at(table.offset, table.size)
        self._names = elf.read_at(names.offset, names.size)

    def symbol(self, name: str) -> int | None:
        """Run-time address; None also where namesakes leave it open."""
        found = self.linked(name)
        return None if found is None else self.relocated(found)

    def linked(self, name: str) -> LinkedSymbol | None:
        """The one symbol of this name: the global one, or the only one."""
        if name not in self._linked:
            everything = list(self._find(name))
            chosen = [s for s in everything if not s.is_local] or everything
            addresses = {symbol.address for symbol in chosen}
            self._linked[name] = chosen[0] if len(addresses) == 1 else None
        return self._linked[name]

    def relocated(self, symbol: LinkedSymbol) -> int:
        """Where it is at run time. Per-CPU symbols that count from 0 do not move."""
        if symbol.address >> 63 == 0:
            return symbol.address
        return symbol.address + self.offset & MASK_64

    def content(self, symbol: LinkedSymbol, size: int) -> bytes | None:
        """What the file has at a symbol's address, None where it has no bytes."""
        if not 0 < symbol.section < len(self.sections):
            return None
        section: Section = self.sections[symbol.section]
        start = symbol.address - section.va
        if section.type == SHT_NOBITS or not 0 <= start <= section.size - size:
            return None
        try:
            with Elf(self.path) as elf:
                return elf.read_at(section.offset + start, size)
        except (OSError, ElfError):
            return None

    def evidence(self) -> list[Evidence]:
        return [Evidence("symbols", "vmlinux", self.path)]

    def _find(self, name: str) -> Iterator[LinkedSymbol]:
        # Linkers let a name be the end of a longer one: every place counts.
        needle = name.encode() + b"\0"
        at = self._names.find(needle)
        while at >= 0:
            yield from self._entries_of(at)
            at = self._names.find(needle, at + 1)

    def _entries_of(self, name_offset: int) -> Iterator[LinkedSymbol]:
        for number in self._numbers.get(name_offset, ()):
            _, info, _, section, address, size = struct.unpack_from(
                self._order + "IBBHQQ", self._entries, number * ENTRY_SIZE
            )
            if section != SHN_UNDEF:
                yield LinkedSymbol(address, size, info >> 4 == STB_LOCAL, section)

    @cached_property
    def _numbers(self) -> dict[int, tuple[int, ...]]:
        """{place of a name: numbers of the entries that have it}"""
        words = array("I")
        whole = len(self._entries) // ENTRY_SIZE * ENTRY_SIZE
        words.frombytes(self._entries[:whole])
        if (sys.byteorder == "little") != (self._order == "<"):
            words.byteswap()
        numbers: dict[int, tuple[int, ...]] = {}
        for number, place in enumerate(words[:: ENTRY_SIZE // words.itemsize]):
            numbers[place] = (*numbers.get(place, ()), number)
        return numbers
