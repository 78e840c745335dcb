# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a page is used for: states in which it cannot back the vmemmap.

Mirrors ``include/linux/page-flags.h``. Works on the words of many struct pages at once
(`FrameStates`), because every frame behind the vmemmap has to be looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Callable

from ..target.base import Fault, Target
from .bit_numbers import bit_number, bit_numbers
from .layout import require_struct
from .pages import Pages
from .strided import strided_u32, strided_u64

__all__ = ["FrameState", "FrameStates"]

ANON_MAPPING = 1 << 0
"""``PAGE_MAPPING_ANON`` (FOLIO_MAPPING_ANON): bit 0 of ``mapping``."""
TYPE_BASE = 0xF0000000
"""Before 6.12 a page type is a cleared bit in a word whose top bits are set."""
POISON = (1 << 64) - 1
MAX_SELF_HOSTED = 1 << 22
"""Self-hosted frames that are noted: the vmemmap of a terabyte."""
TYPE_PREFIX = "PGTY_"
NO_TYPE = "mapcount_underflow"
"""What a word without a type reads as: the counts below -1."""
TABLE = "table"


@dataclass(frozen=True)
class FrameState:
    """A frame and the reason why it cannot be in use as vmemmap."""

    pfn: int
    reason: str
    flags: int
    refcount: int
    mapcount_word: int
    mapping: int
    is_unreferenced: bool = False


class FrameStates:
    """Judges the struct pages of frames that something must own."""

    def __init__(self, target: Target, pages: Pages):
        self._pages = pages
        page = require_struct(target, "page", "flags", "_refcount", "_mapcount")
        self._size = page.size
        self._flags_at = page.offset("flags")
        self._refcount_at = page.offset("_refcount")
        self._type_at = page.offset("_mapcount")
        self._mapping_at = page.offset("mapping") if "mapping" in page else None
        self._order = target.byteorder
        places = {self._flags_at, self._refcount_at, self._type_at}
        if self._mapping_at is not None:
            places.add(self._mapping_at)
        self._words = sorted({at // 8 * 8 for at in places})
        self._bad_flags = {
            1 << bit: name
            for name, bit in bit_numbers(target, "pageflags").items()
            if name in ("PG_lru", "PG_slab")
        }
        self.self_hosted: set[int] = set()
        """Frames with PG_vmemmap_self_hosted, of those looked at so far."""
        reserved = bit_number(target, "PG_reserved")
        self._reserved = 0 if reserved is None else 1 << reserved
        hosted = bit_number(target, "PG_vmemmap_self_hosted")
        self._self_hosted = 0 if hosted is None else 1 << hosted
        self._types = {
            value: name[len(TYPE_PREFIX) :]
            for name, value in target.enumerators("pagetype").items()
            if name.startswith(TYPE_PREFIX) and name != TYPE_PREFIX + NO_TYPE
        }
        text = target.vmcoreinfo.get("NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)")
        self._buddy_bit = None
        if not self._types and text is not None:
            self._buddy_bit = ~int(text, 0) & 0xFFFFFFFF

    def type_of(self, mapcount_word: int) -> str | None:
        """The name of a page's type: pages that back the vmemmap have none."""
        if self._types:
            return self._types.get(mapcount_word >> 24)
        bit = self._buddy_bit
        if bit and mapcount_word & (TYPE_BASE | bit) == TYPE_BASE:
            return "buddy"
        return None

    def judge(self, pfn: int, is_table: bool = False) -> FrameState | None:
        """Why this frame cannot be in use as vmemmap, or as a page table.

        Raises `Fault`.
        """
        return next(self._judge_run(pfn, 1, lambda _: False, is_table), None)

    def unusable(
        self,
        runs: Iterable[tuple[int, int]],
        may_be_unreferenced: Callable[[int], bool] = lambda pfn: False,
        chunk: int = 1 << 12,
    ) -> Iterator[FrameState | tuple[int, int, Fault]]:
        """The frames of (first pfn, count) runs that cannot back the vmemmap.

        Yields (first pfn, count, fault) for frames whose struct pages are missing. Of a
        block that was allocated as one and is no compound page, only the first page
        has a reference: ``may_be_unreferenced`` names the others.
        """
        for start, count in runs:
            pfn, end = start, start + count
            while pfn < end:
                number = min(end - pfn, chunk - pfn % chunk)
                yield from self._chunk(pfn, number, may_be_unreferenced)
                pfn += number

    def _chunk(
        self, pfn: int, count: int, exempt: Callable[[int], bool]
    ) -> Iterator[FrameState | tuple[int, int, Fault]]:
        try:
            yield from self._judge_run(pfn, count, exempt)
        except Fault as fault:
            step = self._pages.geometry.struct_pages_per_page
            if count <= step:
                yield pfn, count, fault
                return
            # A hole within: go on in pieces of a vmemmap page.
            at, end = pfn, pfn + count
            while at < end:
                number = min(end - at, step - at % step)
                yield from self._chunk(at, number, exempt)
                at += number

    def _judge_run(
        self,
        pfn: int,
        count: int,
        exempt: Callable[[int], bool],
        is_table: bool = False,
    ) -> Iterator[FrameState]:
        data = self._pages.read_words(pfn, count, self._words)
        size = self._size
        for i in self._suspects(data, pfn):
            state = self._judge(pfn + i, data[i * size : (i + 1) * size], is_table)
            if state is None or (state.is_unreferenced and exempt(pfn + i)):
                continue
            yield state

    def _suspects(self, data: bytes, pfn: int) -> Iterable[int]:
        """A cheap look at all words of a run; for almost every one it finds nothing."""
        size, order = self._size, self._order
        if size % 8:
            return range(len(data) // size)
        flags = strided_u64(data, self._flags_at, size, order)
        refcounts = strided_u32(data, self._refcount_at, size, order)
        types = strided_u32(data, self._type_at, size, order)
        mappings: list[int] = []
        if self._mapping_at is not None:
            mappings = strided_u64(data, self._mapping_at, size, order)
        hosted = self._self_hosted
        if hosted and any(f & hosted for f in set(flags)):
            self._note_self_hosted(pfn, flags)
        bad_flags = {f for f in set(flags) if any(f & b for b in self._bad_flags)}
        bad_counts = {r for r in set(refcounts) if r == 0 or r >> 31}
        bad_types = {t for t in set(types) if self.type_of(t) is not None}
        bad_mappings = {m for m in set(mappings) if m & ANON_MAPPING}
        found: set[int] = set()
        for values, bad in (
            (flags, bad_flags),
            (refcounts, bad_counts),
            (types, bad_types),
            (mappings, bad_mappings),
        ):
            if bad:
                found.update(i for i, value in enumerate(values) if value in bad)
        return sorted(found)

    def _note_self_hosted(self, pfn: int, flags: list[int]) -> None:
        for i, word in enumerate(flags):
            if word & self._self_hosted and word != POISON:
                if len(self.self_hosted) >= MAX_SELF_HOSTED:
                    return
                self.self_hosted.add(pfn + i)

    def _judge(self, pfn: int, data: bytes, is_table: bool) -> FrameState | None:
        def word(at: int, size: int, signed: bool = False) -> int:
            return int.from_bytes(data[at : at + size], self._order, signed=signed)

        flags = word(self._flags_at, 8)
        refcount = word(self._refcount_at, 4, signed=True)
        kind = word(self._type_at, 4)
        mapping = 0 if self._mapping_at is None else word(self._mapping_at, 8)
        if flags == POISON:
            return None  # Never initialised: says nothing about its use.
        reason, is_unreferenced = None, False
        names = [name for bit, name in self._bad_flags.items() if flags & bit]
        type_name = self.type_of(kind)
        is_typed_table = is_table and type_name == TABLE
        if type_name is not None and not is_typed_table:
            reason = f"it is a {type_name} page"
        elif names:
            reason = f"it has {' and '.join(names)}"
        elif refcount <= 0 and not (is_typed_table or self._has_owner(flags)):
            # Free pages on a pcp list have no type; a refcount of 0 is all they show.
            # Tables that have a type (in use for the kernel's since 6.16) may be
            # allocated without a reference.
            reason, is_unreferenced = f"its refcount is {refcount}", refcount == 0
        elif mapping & ANON_MAPPING and not flags & self._reserved:
            reason = "it is an anonymous page"
        if reason is None:
            return None
        return FrameState(pfn, reason, flags, refcount, kind, mapping, is_unreferenced)

    def _has_owner(self, flags: int) -> bool:
        """Whether this page has an owner, be there references to it or not."""
        return bool(flags & (self._reserved | self._self_hosted))
