# SPDX-License-Identifier: LGPL-2.1-or-later
"""Symbols of a vmlinux from its own symbol table, moved to where the kernel runs.

A name is sought in the string table when it is asked for; the symbols around it are
never looked at. Constants are read from the file as well,
by link address, to be compared with the memory of a kernel.
"""

from __future__ import annotations

import os
import struct
import sys
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from ..formats.elf import ET_CORE, ET_REL, SHT_NOBITS, Elf, ElfError, Section
from .base import Evidence, TargetError
from .witnesses import lacking

__all__ = ["ElfSymbols", "LinkedSymbol", "SymbolsMissing", "is_vmlinux"]

ENTRY_SIZE = 24
MAX_SYMBOLS = 1 << 22
MAX_NAMES = 1 << 28
"""Bytes of names. Both are some twenty times those of a distribution's kernel."""
SHN_UNDEF = 0
STB_LOCAL = 0
STATIC_VARIABLE = 1
"""``st_info`` of STB_LOCAL and STT_OBJECT."""
INFO_AT = 4
NO_ENTRY = 0
"""The first entry of a table stands for no symbol."""
MASK_64 = (1 << 64) - 1


class SymbolsMissing(TargetError):
    """A vmlinux that was stripped of symbols; it may still have types."""


def is_vmlinux(path: str) -> bool:
    """Whether this is an ELF file that may be a vmlinux, and no module or core."""
    if not os.path.isfile(path):
        return False
    try:
        with Elf(path) as elf:
            return elf.type not in (ET_CORE, ET_REL)
    except (OSError, ElfError):
        return False


@dataclass(frozen=True)
class LinkedSymbol:
    """One symbol table entry; ``address`` is that of the link."""

    address: int
    size: int
    is_local: bool
    section: int


class ElfSymbols:
    """The symbols of one vmlinux; ``offset`` is what KASLR adds to their addresses.

    Raises `TargetError` for a file that is no vmlinux or whose symbol table is damaged,
    `SymbolsMissing` for one without a symbol table.
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
            raise SymbolsMissing(f"{self.path} has no symbol table (.symtab)")
        if table.entry_size != ENTRY_SIZE or table.link >= len(self.sections):
            raise TargetError(f"{self.path}: its symbol table is damaged")
        names = self.sections[table.link]
        if table.size > MAX_SYMBOLS * ENTRY_SIZE or names.size > MAX_NAMES:
            raise TargetError(f"{self.path}: its symbol table is damaged: too long")
        self._entries = elf.read_at(table.offset, table.size)
        self._names = elf.read_at(names.offset, names.size)

    def require_whole(self) -> None:
        """Refuse a part of a table: what it does not list would be denied.

        Raises `SymbolsMissing`.
        """
        missing = lacking(self.link_address)
        if missing is not None:
            raise SymbolsMissing(f"{self.path} lists no {missing} in its symbol table")
        if STATIC_VARIABLE not in self._entries[INFO_AT::ENTRY_SIZE]:
            raise SymbolsMissing(
                f"{self.path} lists no static variables in its symbol table"
            )

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

    def link_address(self, name: str) -> int | None:
        """The address that the linker gave; None also where namesakes leave it open."""
        found = self.linked(name)
        return None if found is None else found.address

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
        return [Evidence("symbols", "vmlinux", f"{self.path} (.symtab)")]

    def _find(self, name: str) -> Iterator[LinkedSymbol]:
        # Linkers let a name be the end of a longer one: every place counts.
        needle = name.encode() + b"\0"
        at = self._names.find(needle)
        while at >= 0:
            yield from self._entries_of(at)
            at = self._names.find(needle, at + 1)

    def _entries_of(self, name_offset: int) -> Iterator[LinkedSymbol]:
        last, previous = self._numbers
        number = last.get(name_offset, NO_ENTRY)
        while number != NO_ENTRY:
            _, info, _, section, address, size = struct.unpack_from(
                self._order + "IBBHQQ", self._entries, number * ENTRY_SIZE
            )
            if section != SHN_UNDEF:
                yield LinkedSymbol(address, size, info >> 4 == STB_LOCAL, section)
            number = previous[number]

    @cached_property
    def _numbers(self) -> tuple[dict[int, int], array[int]]:
        """{place of a name: last entry that has it}, and each entry's one before.

        Chains, since a damaged table may give one name to all entries.
        """
        words = array("I")
        whole = len(self._entries) // ENTRY_SIZE * ENTRY_SIZE
        words.frombytes(self._entries[:whole])
        if (sys.byteorder == "little") != (self._order == "<"):
            words.byteswap()
        places = words[:: ENTRY_SIZE // words.itemsize]
        last: dict[int, int] = {}
        previous = array("I", bytes(places.itemsize * len(places)))
        for number, place in enumerate(places):
            previous[number] = last.get(place, NO_ENTRY)
            last[place] = number
        return last, previous
