# SPDX-License-Identifier: LGPL-2.1-or-later
"""mem_section entries: state, mem_map, order, zone field, subsections, memory block.

Mirrors ``include/linux/mmzone.h`` and ``mm/sparse.c``. Entries are found by division,
never by masks: since the size of struct mem_section need not be a power of two.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from ..target.base import Fault, Target
from . import xarray
from .features import section_zone_member
from .layout import Geometry, SectionFlags, find_section_flags, require_struct
from .memory import Memory, Record

__all__ = ["STATE_LETTERS", "Section", "Sections"]

STATE_LETTERS = "PMOEDV"
MEM_ONLINE = 1 << 0
MEM_OFFLINE = 1 << 2


@dataclass(frozen=True)
class Section:
    """One used entry of mem_section. ``order`` is None where there is no such member.

    ``zone_word`` is the raw zone field (a pointer or an index), likewise optional.
    """

    nr: int
    start_pfn: int
    word: int
    usage_va: int
    order: int | None
    zone_word: int | None
    flags: SectionFlags
    page_ext_va: int = 0
    va: int = 0
    """Address of the entry itself."""

    def _has(self, bit: int | None) -> bool:
        return bit is not None and bool(self.word >> bit & 1)

    @property
    def is_present(self) -> bool:
        return self._has(self.flags.marked_present) or self.has_mem_map

    @property
    def has_mem_map(self) -> bool:
        return self._has(self.flags.has_mem_map)

    @property
    def is_online(self) -> bool:
        return self._has(self.flags.is_online)

    @property
    def is_early(self) -> bool:
        return self._has(self.flags.is_early)

    @property
    def is_mixed(self) -> bool:
        """SECTION_TAINT_ZONE_DEVICE: RAM and device memory share the section."""
        return self._has(self.flags.taint_zone_device)

    @property
    def is_preinit(self) -> bool:
        return self._has(self.flags.is_vmemmap_preinit)

    @property
    def map_base(self) -> int | None:
        """``section_mem_map`` without flags: the address of pfn 0's struct page.

        None without HAS_MEM_MAP: early boot keeps a node number in the word.
        """
        return self.word & self.flags.map_mask if self.has_mem_map else None

    @property
    def has_unnamed_flags(self) -> bool:
        """Whether a flag is set of which nothing gives the name."""
        low = 1 << self.flags.is_early + 1
        unnamed = (1 << self.flags.last_bit) - low
        return not self.flags.are_named and bool(self.word & unnamed)

    @property
    def state(self) -> str:
        """crash's letters (P M O E D) and V for PREINIT, in that order."""
        tests = (
            self.is_present,
            self.has_mem_map,
            self.is_online,
            self.is_early,
            self.is_mixed,
            self.is_preinit,
        )
        return "".join(c for c, has in zip(STATE_LETTERS, tests) if has)

    def flag_names(self) -> list[str]:
        """The SECTION_* flags that are set, and undefined bits by number."""
        names = {
            self.flags.marked_present: "MARKED_PRESENT",
            self.flags.has_mem_map: "HAS_MEM_MAP",
            self.flags.is_online: "IS_ONLINE",
            self.flags.is_early: "IS_EARLY",
            self.flags.taint_zone_device: "TAINT_ZONE_DEVICE",
            self.flags.is_vmemmap_preinit: "IS_VMEMMAP_PREINIT",
        }
        return [
            names.get(bit, f"bit {bit}")
            for bit in range(self.flags.last_bit)
            if self.word >> bit & 1
        ]


class Sections:
    """The section table, read root by root."""

    def __init__(self, target: Target, memory: Memory, geometry: Geometry):
        self._memory = memory
        self._target = target
        self.geometry = geometry
        self.flags = find_section_flags(target)
        self.struct = require_struct(target, "mem_section", "section_mem_map")
        self.order_member = self.struct.first("compound_page_order", "order")
        self.zone_member = section_zone_member(self.struct)
        self._usage = target.struct("mem_section_usage")
        self._entries: dict[int, Section] | None = None
        self._unread: list[range] = []
        self._block_va: dict[int, int] | None = None
        self._per_block = 0

    @property
    def per_root(self) -> int:
        """``SECTIONS_PER_ROOT``"""
        return self.geometry.page_size // self.struct.size if self._is_extreme else 1

    def __iter__(self) -> Iterator[Section]:
        """Every entry that is not zero, by number."""
        return iter(self._table().values())

    def __len__(self) -> int:
        return len(self._table())

    def get(self, nr: int) -> Section | None:
        """``__nr_to_section``; None for an unused entry."""
        return self._table().get(nr)

    def of_pfn(self, pfn: int) -> Section | None:
        """``__pfn_to_section``"""
        return self.get(pfn // self.geometry.pages_per_section)

    def at(self, va: int) -> Section | None:
        """The used section whose struct mem_section lies at this address."""
        return self._by_va.get(va)

    @cached_property
    def _by_va(self) -> dict[int, Section]:
        return {section.va: section for section in self}

    def between(self, start_pfn: int, end_pfn: int) -> Iterator[Section]:
        """The used sections that a range of pfns touches, in order."""
        table, size = self._table(), self.geometry.pages_per_section
        for nr in self._numbers[bisect_left(self._numbers, start_pfn // size) :]:
            if nr * size >= end_pfn:
                return
            yield table[nr]

    @cached_property
    def _numbers(self) -> list[int]:
        return sorted(self._table())

    @property
    def unknown(self) -> str | None:
        """What is not known without which no section is found; None if they are."""
        if self._array_text is not None or self._target.variable("mem_section"):
            return None
        return "neither VMCOREINFO nor symbols give the address of mem_section"

    @property
    def _array_text(self) -> str | None:
        """``SYMBOL(mem_section)``: the pointer's value, unlike most SYMBOL() keys."""
        return self._target.vmcoreinfo.get("SYMBOL(mem_section)")

    def has_unread(self, start_pfn: int, end_pfn: int) -> bool:
        """Whether an entry of these pfns could not be read: there may be a section."""
        size = self.geometry.pages_per_section
        self._table()
        first, last = start_pfn // size, (end_pfn - 1) // size
        return any(r.start <= last and first < r.stop for r in self._unread)

    def vmemmap(self) -> int | None:
        """The mem_map base that the sections agree on; None when they disagree."""
        bases = {s.map_base for s in self if s.has_mem_map}
        return bases.pop() if len(bases) == 1 else None

    def usage(self, section: Section) -> Record | None:
        """The section's struct mem_section_usage. Raises `Fault`."""
        if not section.usage_va or self._usage is None:
            return None
        return self._memory.record(self._usage, section.usage_va)

    def subsection_map(self, section: Section) -> int | None:
        """``usage->subsection_map`` as one integer, bit 0 first. Raises `Fault`."""
        usage = self.usage(section)
        if usage is None or "subsection_map" not in usage:
            return None
        bits = 0
        for i, word in enumerate(usage.array("subsection_map")):
            bits |= word << 64 * i
        return bits & (1 << self.subsections_per_section) - 1

    @property
    def subsections_per_section(self) -> int:
        g = self.geometry
        return max(1, g.pages_per_section // g.pages_per_subsection)

    def pfn_is_valid(self, pfn: int) -> bool | None:
        """``pfn_valid``: early sections whole, others by subsection. Raises `Fault`.

        None where the entry could not be read, or the map of subsections is unknown.
        """
        section = self.of_pfn(pfn)
        if section is None and self.has_unread(pfn, pfn + 1):
            return None
        if section is None or not section.has_mem_map:
            return False
        if section.is_early:
            return True
        bits = self.subsection_map(section)
        if bits is None:
            return None if self._usage is None else True
        g = self.geometry
        return bool(bits >> pfn % g.pages_per_section // g.pages_per_subsection & 1)

    def memory_block(self, section: Section) -> int | None:
        """Number of the memory block (/sys/devices/system/memory) of a section."""
        blocks = self._memory_blocks()
        number = section.nr // self._per_block if self._per_block else None
        return number if number in blocks else None

    def memory_block_va(self, number: int) -> int | None:
        """Address of a block's struct memory_block."""
        return self._memory_blocks().get(number)

    def block_is_online(self, section: Section) -> bool | None:
        """Whether a section's memory block is; None in between, or if there is none.

        ``memory_block.state``; an enum since 6.18, macros before. Raises `Fault`.
        """
        block = self.memory_block(section)
        struct = self._target.struct("memory_block")
        if block is None or struct is None or "state" not in struct:
            return None
        states = {
            self._enumerator("MEM_ONLINE", MEM_ONLINE): True,
            self._enumerator("MEM_OFFLINE", MEM_OFFLINE): False,
        }
        member = struct["state"]
        va = self._memory_blocks()[block] + member.offset
        return states.get(self._memory.unsigned(va, member.size))

    def _enumerator(self, name: str, otherwise: int) -> int:
        value = self._target.enumerator(name)
        return otherwise if value is None else value

    def _memory_blocks(self) -> dict[int, int]:
        """{number: address} of every registered block (``memory_blocks``, 5.9+)."""
        if self._block_va is not None:
            return self._block_va
        found: dict[int, int] = {}
        self._block_va = found
        self._per_block = self._target.unsigned("sections_per_block") or 0
        blocks = self._target.variable("memory_blocks")
        if self._per_block and blocks is not None:
            try:
                found.update(xarray.for_each_entry(self._memory, blocks.address))
            except Fault as fault:
                self._memory.missing.record(fault, "memory blocks")
        return found

    # Reading the table

    def _table(self) -> dict[int, Section]:
        if self._entries is None:
            self._entries = {s.nr: s for s in self._read_table()}
        return self._entries

    def _read_table(self) -> Iterator[Section]:
        size, per_root = self.struct.size, self.per_root
        taken: set[int] = set()
        for root, va in self._roots():
            first = root * per_root
            place = va // (per_root * size)
            if place in taken:
                # Roots never overlap; a page named by all would be a million sections.
                fault = Fault(va, per_root * size, "damaged")
                self._lose(fault, "mem_section roots linked twice", first, per_root)
                continue
            taken.add(place)
            try:
                data = self._memory.read(va, per_root * size)
            except Fault as fault:
                self._lose(fault, "mem_section roots", first, per_root)
                continue
            for slot in range(per_root):
                entry = data[slot * size : (slot + 1) * size]
                if any(entry):
                    section = self.decode(first + slot, entry, va + slot * size)
                    if section.word:
                        yield section

    def _lose(self, fault: Fault, concern: str, first: int, count: int) -> None:
        """Note that the entries of these sections could not be read."""
        self._memory.missing.record(fault, concern)
        self._unread.append(range(first, first + count))

    def decode(self, nr: int, data: bytes, va: int) -> Section:
        """An entry from its bytes; ``nr`` and ``va`` are what the caller knows."""
        entry = Record(self.struct, 0, data, self._target.byteorder)
        return Section(
            nr=nr,
            start_pfn=nr * self.geometry.pages_per_section,
            word=entry["section_mem_map"],
            usage_va=entry.get("usage") or 0,
            order=entry[self.order_member] if self.order_member else None,
            zone_word=entry[self.zone_member] if self.zone_member else None,
            flags=self.flags,
            page_ext_va=entry.get("page_ext") or 0,
            va=va,
        )

    @property
    def _is_extreme(self) -> bool:
        """SPARSEMEM_EXTREME: an array of pointers to roots, allocated as needed."""
        variable = self._target.variable("mem_section")
        return variable is None or variable.type.kind == "pointer"

    def _roots(self) -> Iterator[tuple[int, int]]:
        """(root number, address) of the roots that exist."""
        g = self.geometry
        variable = self._target.variable("mem_section")
        count = -(-g.section_count // self.per_root)
        highest = self._highest_section()
        if highest is not None:
            count = min(count, highest // self.per_root + 1)
        if variable is not None and not self._is_extreme:
            for root in range(count):
                yield root, variable.address + root * self.struct.size
            return
        array_va = self._root_array()
        if array_va is None:
            return
        for first in range(0, count, g.page_size // 8):
            number = min(g.page_size // 8, count - first)
            try:
                data = self._memory.read(array_va + 8 * first, 8 * number)
            except Fault as fault:
                sections = first * self.per_root, number * self.per_root
                self._lose(fault, "mem_section root pointers", *sections)
                continue
            for i in range(number):
                va = int.from_bytes(data[8 * i : 8 * i + 8], self._target.byteorder)
                if va:
                    yield first + i, va

    def _root_array(self) -> int | None:
        """Address of the array of root pointers; None if it is not known."""
        if self._array_text is not None:
            return int(self._array_text, 16)
        variable = self._target.variable("mem_section")
        if variable is None:
            return None
        try:
            return self._memory.unsigned(variable.address)
        except Fault as fault:
            everything = 0, self.geometry.section_count
            self._lose(fault, "mem_section root pointers", *everything)
            return None

    def _highest_section(self) -> int | None:
        """``__highest_present_section_nr``, to be ``__highest_used_section_nr``."""
        for name in ("__highest_present_section_nr", "__highest_used_section_nr"):
            value = self._target.unsigned(name)
            if value is not None and value < self.geometry.section_count:
                return value
        return None
