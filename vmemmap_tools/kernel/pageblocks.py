# SPDX-License-Identifier: LGPL-2.1-or-later
"""Pageblocks: the migratetype of each, from ``mem_section_usage.pageblock_flags``.

Mirrors ``get_pfnblock_flags_mask()`` of ``mm/page_alloc.c`` and
``include/linux/pageblock-flags.h``.
"""

from __future__ import annotations

from ..target.base import Fault, Target
from .layout import Geometry
from .memory import Memory
from .sections import Section, Sections

__all__ = ["Pageblocks"]

COUNTS = ("__NR_PAGEBLOCK_BITS", "NR_PAGEBLOCK_BITS")


class Pageblocks:
    """Migratetypes by pageblock. ``order`` is None when this kernel's is unknown."""

    def __init__(
        self, target: Target, memory: Memory, geometry: Geometry, sections: Sections
    ):
        self._memory = memory
        self._sections = sections
        self._byteorder = target.byteorder
        self._geometry = geometry
        self.migratetypes = {
            name: value
            for name, value in target.enumerators("migratetype").items()
            if name.startswith("MIGRATE_") and name != "MIGRATE_TYPES"
        }
        names = target.enumerators("pageblock_bits")
        count = next((names[n] for n in COUNTS if n in names), None)
        # Groups are aligned to a power of two, so that none crosses a word.
        self._bits = 1 << (count - 1).bit_length() if count else None
        self._isolate = names.get("PB_migrate_isolate")
        usage = target.struct("mem_section_usage")
        self._at = (
            usage.offset("pageblock_flags")
            if usage is not None and "pageblock_flags" in usage
            else None
        )
        self.order = target.unsigned("pageblock_order") or (
            geometry.arch.huge_page_order
        )

    @property
    def is_known(self) -> bool:
        """Whether this kernel's pageblock flags can be decoded."""
        return bool(self._bits and self._at is not None and self.migratetypes)

    @property
    def usage_bytes(self) -> int:
        """``mem_section_usage_size()``: the struct and its flexible array."""
        count = self._geometry.pages_per_section >> self.order
        words = -(-count * (self._bits or 0) // 64)
        return (0 if self._at is None else self._at) + 8 * words

    def of_section(self, section: Section) -> list[int]:
        """The migratetype of every pageblock of a section. Raises `Fault`."""
        assert self._bits is not None and self._at is not None
        count = self._geometry.pages_per_section >> self.order
        if not section.usage_va:
            raise Fault(0, 0, "unmapped")
        size = -(-count * self._bits // 64) * 8
        data = self._memory.read(section.usage_va + self._at, size)
        flags = int.from_bytes(data, self._byteorder)
        if self._byteorder == "big":
            flags = sum(
                int.from_bytes(data[i : i + 8], "big") << 8 * i
                for i in range(0, size, 8)
            )
        return [self._decode(flags >> i * self._bits) for i in range(count)]

    def of_pfn(self, pfn: int) -> int | None:
        """``get_pageblock_migratetype``; None where there is none. Raises `Fault`."""
        section = self._sections.of_pfn(pfn)
        if section is None or not section.has_mem_map or not self.is_known:
            return None
        offset = pfn % self._geometry.pages_per_section
        return self.of_section(section)[offset >> self.order]

    def _decode(self, group: int) -> int:
        """Three bits of type; isolation is a bit of its own where it has one."""
        if self._isolate is not None and group >> self._isolate & 1:
            return self.migratetypes.get("MIGRATE_ISOLATE", group & 7)
        return group & 7

    def name(self, migratetype: int) -> str:
        """The enumerator's name; of several the last, which is the specific one."""
        found = [n for n, v in self.migratetypes.items() if v == migratetype]
        return found[-1] if found else f"migratetype {migratetype}"
