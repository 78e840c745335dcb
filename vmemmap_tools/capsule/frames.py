# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a frame is used for, by its own struct page: may a capsule hold what it was
read as?

Mirrors include/linux/page-flags.h. A damaged pointer or page table leads anywhere; the
struct page of the frame that it leads to is seldom damaged as well.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from itertools import groupby

from ..kernel.kernel import Kernel
from ..kernel.layout import LayoutError
from ..kernel.page_role import hugetlb_order
from ..kernel.pages import Page
from ..kernel.strided import strided_u32, strided_u64
from ..target.base import Fault
from .kinds import FRAMES

__all__ = ["Frames"]

BUDDY_BEFORE_TYPES, NO_TYPE = 0xFFFFFF7F, 0xFFFFFFFF
"""In ``_mapcount``, unsigned."""
BLOCK = 64
"""Struct pages that are read at once."""

SAID = {
    "device": "it is memory of a device",
    "lru": "its struct page says that it is on an LRU list",
    "mapping": "its struct page has a mapping",
    "huge": "its struct page says that it is a huge page",
    "charged": "its struct page says that it is charged to a memory cgroup (a stack, "
    "vmalloc or user's memory)",
    "compound": "its struct page says that it is a compound page",
    "altmap": "it is memory of a device that holds struct pages",
    "self-hosted": "its struct page says that it holds struct pages",
}
"""State -> how it is told; others are page types."""
CARRIED = frozenset().union(*FRAMES.values())
"""States of frames that may hold something which a capsule carries."""


class Frames:
    """Judges frames by their struct pages."""

    def __init__(self, kernel: Kernel):
        self._kernel = kernel
        target, self._pages = kernel.target, kernel.pages
        page, folio = target.struct("page"), target.struct("folio")
        self._mapping_at = (
            page.offset("mapping") if page and "mapping" in page else None
        )
        # Both are where no other member of an allocated page of the kernel's is.
        found = page.first("memcg_data", "mem_cgroup") if page else None
        self._memcg_at = page.offset(found) if page and found else None
        if found is None and folio is not None and "memcg_data" in folio:
            self._memcg_at = folio.offset("memcg_data")
        names = ("PG_head", "PG_lru", "PG_slab", "PG_vmemmap_self_hosted")
        bits = map(target.enumerator, names)
        self._telling = sum(1 << bit for bit in bits if bit is not None)

    def why_not(self, pfn: int, kinds: Collection[str]) -> str | None:
        """Why a frame cannot be what it was read as, None if it can."""
        unknown = sorted(set(kinds) - set(FRAMES))
        if unknown:
            return f"read as {', '.join(unknown)}, which no capsule holds"
        try:
            state = self.state(pfn)
        except (Fault, LayoutError, OverflowError):
            return "its struct page cannot be read: nothing tells whose it is"
        impossible = sorted(kind for kind in kinds if state not in FRAMES[kind])
        if not impossible:
            return None
        said = SAID.get(state, f"its struct page says that it is {state}")
        if state not in CARRIED:
            return said
        return f"read as {', '.join(impossible)}, but {said}"

    def plain(self, pfns: Iterable[int]) -> Iterator[int]:
        """Those of these frames, in ascending order, that are plainly the kernel's.

        As `state` would say "kernel" of them, but from many struct pages at once.
        """
        pages, order = self._pages, self._kernel.target.byteorder
        word, zeros = pages.compound_word_offset, [self._mapping_at, self._memcg_at]
        for block, found in groupby(pfns, lambda pfn: pfn // BLOCK):
            first = block * BLOCK
            try:
                data = pages.read(first, BLOCK)
            except (Fault, OverflowError):
                continue

            def column(at: int, data: bytes = data) -> list[int]:
                return strided_u64(data, at, pages.size, order)

            tails, flags = column(word), column(pages.flags_offset)
            counts = strided_u32(data, pages.mapcount_offset, pages.size, order)
            empty = [column(at) for at in zeros if at is not None]
            for pfn in found:
                i = pfn - first
                if (
                    counts[i] == NO_TYPE
                    and not tails[i] & 1
                    and not flags[i] & self._telling
                    and not any([words[i] for words in empty])
                    and self._kernel.pgmaps.of_pfn(pfn) is None
                ):
                    yield pfn

    def state(self, pfn: int) -> str:
        """A frame's use, in the words of `FRAMES` and `SAID`, or its page type.

        Raises `Fault`, `LayoutError`, OverflowError.
        """
        pgmap = self._kernel.pgmaps.of_pfn(pfn)
        if pgmap is not None:
            # The struct pages of an altmap's own memory are never set up.
            altmap = pgmap.altmap
            is_inside = altmap is not None and altmap.base_pfn <= pfn < altmap.end_pfn
            return "altmap" if is_inside else "device"
        page = self._pages.page(pfn)
        if page.is_tail:
            page = self._pages.page(self._pages.pfn(page.head_va))
        return "kernel" if self._is_plain(page) else self._said_by(page)

    def _is_plain(self, page: Page) -> bool:
        """Whether nothing at all is said: so it is of nearly all frames."""
        return (
            page.mapcount_word == NO_TYPE
            and not page.flags & self._telling
            and self._mapping_at is not None
            and not self._has(page, self._mapping_at)
            and not self._has(page, self._memcg_at)
        )

    def _said_by(self, page: Page) -> str:
        pages = self._pages
        if page.is_poisoned or not any(page.data):
            return "uninitialized"
        kind = pages.type_name(page)
        if kind == "slab" or pages.has_flag(page, "PG_slab"):
            return "slab"
        if kind is not None:
            return kind
        if page.mapcount_word == BUDDY_BEFORE_TYPES:
            return "free"
        if pages.has_flag(page, "PG_lru"):
            return "lru"
        if self._has(page, self._mapping_at):
            return "mapping"
        if self._has(page, self._memcg_at):
            return "charged"
        # Only a head has struct pages behind it that tell; others may end a section.
        if page.flags & pages.head_bit:
            return "compound" if hugetlb_order(pages, page.pfn) is None else "huge"
        if pages.has_flag(page, "PG_vmemmap_self_hosted"):
            return "self-hosted"
        return "kernel"

    @staticmethod
    def _has(page: Page, at: int | None) -> bool:
        return at is not None and any(page.data[at : at + 8])
