# SPDX-License-Identifier: LGPL-2.1-or-later
"""Pageblocks: the migratetype of each, from ``mem_section_usage.pageblock_flags``.

Mirrors ``get_pfnblock_flags_mask()`` of ``mm/page_alloc.c`` and
``include/linux/pageblock-flags.h``.
"""

from __future__ import annotations

from collections import Counter
from functools import cached_property

from ..target.base import Fault, Target
from .bit_numbers import bit_numbers
from .layout import Geometry
from .memory import Memory
from .sections import Section, Sections

__all__ = ["Pageblocks"]

COUNTS = ("__NR_PAGEBLOCK_BITS", "NR_PAGEBLOCK_BITS")


class Pageblocks:
    """Migratetypes by pageblock."""

    def __init__(
        self, target: Target, memory: Memory, geometry: Geometry, sections: Sections
    ):
        self._target = target
        self._memory = memory
        self._sections = sections
        self._byteorder = target.byteorder
        self._geometry = geometry
        self.migratetypes = {
            name: value
            for name, value in target.enumerators("migratetype").items()
            if name.startswith("MIGRATE_") and name != "MIGRATE_TYPES"
        }
        names = bit_numbers(target, "pageblock_bits")
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

    @cached_property
    def order(self) -> int | None:
        """``pageblock_order``: a variable, or a macro that no type shows.

        It is a huge page's where there are some, MAX_PAGE_ORDER in kernels without, and
        less where PAGE_BLOCK_MAX_ORDER says so. None where nothing tells.
        """
        return self._target.unsigned("pageblock_order") or (
            self._order_of_boot_sections()
        )

    def _order_of_boot_sections(self) -> int | None:
        """The order for whose flags the usage structures of boot sections have room.

        ``sparse_init_nid()`` puts those of a node side by side.
        """
        addresses = sorted(s.usage_va for s in self._sections if s.is_early)
        distances = Counter(b - a for a, b in zip(addresses, addresses[1:]))
        if not distances or not self._bits:
            return None
        room, _ = distances.most_common(1)[0]
        orders = range(self._section_order + 1)
        return next((o for o in orders if self._bytes(o) == room), None)

    @property
    def is_known(self) -> bool:
        """Whether this kernel's pageblock flags can be decoded."""
        return bool(
            self._bits
            and self._at is not None
            and self.migratetypes
            and self.order is not None
        )

    @property
    def usage_bytes(self) -> int:
        """``mem_section_usage_size()``: the struct and its flexible array.

        Where the size of pageblocks is unknown, what it has at the least.
        """
        return self._bytes(self._section_order if self.order is None else self.order)

    @property
    def _section_order(self) -> int:
        return self._geometry.pages_per_section.bit_length() - 1

    def _bytes(self, order: int) -> int:
        count = self._geometry.pages_per_section >> order
        words = -(-count * (self._bits or 0) // 64)
        return (0 if self._at is None else self._at) + 8 * words

    def of_section(self, section: Section) -> list[int]:
        """The migratetype of every pageblock of a section. Raises `Fault`."""
        assert self._bits is not None and self._at is not None
        assert self.order is not None
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
        assert self.order is not None
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
