# SPDX-License-Identifier: LGPL-2.1-or-later
"""struct page: flags, node, zone, compound head and order, hugetlb test.

Mirrors ``include/linux/page-flags.h`` and ``mm_types.h``. Struct pages are read through
the vmemmap page tables and always decoded at their *virtual* address: the same frame
read through the direct map would give other heads (masks, fake heads).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property, partial
from itertools import islice

from ..target.base import Fault, Target
from .bare import finds_pointers, types_are_known
from .bit_numbers import bit_number, bit_numbers
from .features import uses_compound_mask
from .flag_widths import find_nodes_width, find_zones_width
from .folio_layout import ORDER_IN_FLAGS, find_compound_layout
from .layout import Geometry, LayoutError, require_struct
from .memory import Memory
from .page import Page
from .vmemmap import HOLE, Vmemmap

__all__ = ["UNKNOWN_ZONE", "Page", "Pages"]

PAGES_OF_FOLIO_HEAD = 4
"""struct folio overlays this many struct pages at most."""
UNKNOWN_ZONE = -1
"""In the place of a zone's index, where types do not tell it."""
MAX_SAMPLED_SLOTS = 1 << 8
MAX_SEARCHED_SLOTS = 1 << 6
"""Slots of which all struct pages are looked at: 8 GiB, a second."""
SAMPLES_OF_A_SLOT = 16


class Pages:
    """Struct pages by pfn."""

    def __init__(
        self, target: Target, memory: Memory, geometry: Geometry, vmemmap: Vmemmap
    ):
        self._target = target
        self._memory = memory
        self._vmemmap = vmemmap
        self.geometry = geometry
        self.size = geometry.struct_page_size
        self.byteorder = target.byteorder
        page = require_struct(
            target, "page", "flags", "_refcount", "_mapcount", "private"
        )
        word = page.first("compound_info", "compound_head")
        if word is None:
            raise LayoutError("struct page has neither compound_info nor compound_head")
        self.struct = page
        self.compound_member = word
        self.flags_offset = page.offset("flags")
        self.compound_word_offset = page.offset(word)
        self._refcount_at = page.offset("_refcount")
        self.mapcount_offset = page.offset("_mapcount")
        self.private_offset = page.offset("private")
        head = bit_number(target, "PG_head")
        if head is None:
            raise LayoutError("the debug info has no enumerator PG_head")
        self.head_bit = 1 << head
        self.compound = find_compound_layout(target, geometry)
        self.nodes_width, self.nodes_source = find_nodes_width(target)
        self.zones_width = find_zones_width(target)
        self._node_shift = 64 - self.nodes_width
        self._zone_shift = self._node_shift - (self.zones_width or 0)
        self._flag_names: dict[int, str] | None = None
        self.base_va = vmemmap.start_va
        """Address of pfn 0's struct page; the Kernel corrects it from the sections."""

    @property
    def has_mask(self) -> bool:
        """Whether tails hold a mask instead of the head's address."""
        return self.mask_evidence is not False

    @cached_property
    def mask_evidence(self) -> bool | None:
        """As `has_mask`; None where there are no types, and no tail was found."""
        if types_are_known(self._target):
            return uses_compound_mask(self._target)
        power_of_two = self.geometry.struct_page_size_is_power_of_two
        if self.compound_member != "compound_info" or not power_of_two:
            return False
        step = self._vmemmap.pages_per_slot // SAMPLES_OF_A_SLOT
        # Without huge pages there may be few tails, and all in some corner.
        for slots, every in (MAX_SAMPLED_SLOTS, step), (MAX_SEARCHED_SLOTS, 1):
            pointers = finds_pointers(
                partial(self._samples, slots, every),
                self.compound_word_offset,
                self.size,
                self.geometry.vmemmap_window,
                self.byteorder,
            )
            if pointers is not None:
                return not pointers
        return None

    def _samples(self, slots: int, every: int) -> Iterator[bytes]:
        """Struct pages of some vmemmap pages, where there may be tails."""
        page_size, per_slot = self.geometry.page_size, self._vmemmap.pages_per_slot
        for first, _ in islice(self._vmemmap.slots(), slots):
            for number in range(first, first + per_slot, every):
                frame = self._vmemmap.frame(number)
                if frame != HOLE:
                    with suppress(Fault):
                        yield self._memory.read_physical(frame * page_size, page_size)

    # Addresses

    def va(self, pfn: int) -> int:
        """``pfn_to_page``"""
        return self.base_va + pfn * self.size

    def pfn(self, va: int) -> int:
        """``page_to_pfn``, rounded down for an address inside a struct page."""
        return (va - self.base_va) // self.size

    def vmemmap_page(self, pfn: int) -> int:
        """Number of the vmemmap page that holds the pfn's struct page."""
        return self._vmemmap.page_number(self.va(pfn))

    def vmemmap_pages(self, pfns: Iterable[int]) -> list[int]:
        """`vmemmap_page` of many pfns."""
        size, shift = self.size, self.geometry.page_shift
        base = self.base_va - self._vmemmap.start_va
        return [base + pfn * size >> shift for pfn in pfns]

    # Reading

    def read(self, pfn: int, count: int = 1) -> bytes:
        """The bytes of ``count`` struct pages. Raises `Fault`."""
        va, size = self.va(pfn), count * self.size
        page_size = self.geometry.page_size
        parts: list[bytes] = []
        while size:
            offset = va % page_size
            length = min(size, page_size - offset)
            number = self._vmemmap.page_number(va)
            frame = self._vmemmap.frame(number)
            if frame == HOLE:
                raise Fault(va, size, self._vmemmap.why_not_mapped(number))
            parts.append(self._memory.read_physical(frame * page_size + offset, length))
            va += length
            size -= length
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def read_words(self, pfn: int, count: int, offsets: Sequence[int]) -> bytes:
        """``count`` struct pages, of which the 64-bit words at these offsets matter.

        As `Memory.read_words`. Raises `Fault`.
        """
        if self.geometry.page_size % self.size or self.size % 8:
            return self.read(pfn, count)  # some straddle vmemmap pages
        parts = [
            self._memory.read_words(pa, self.size, number, offsets)
            for pa, number in self._adjoining(self.va(pfn), count)
        ]
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def read_heads(self, pfn: int, count: int, offsets: Sequence[int]) -> bytes:
        """As `read_words`, but the struct pages that make a folio's head are whole.

        The words of these differ from folio to folio, those of the tails do not.
        """
        first = min(count, PAGES_OF_FOLIO_HEAD)
        if first == count or not self._memory.has_words:
            return self.read(pfn, count)
        heads = self.read(pfn, first)
        return heads + self.read_words(pfn + first, count - first, offsets)

    def read_first(self, pfn: int) -> bytes:
        """The first struct pages of a folio with its head here, as many as are there.

        At the end of the vmemmap there may be one alone; elsewhere two at least, which
        have all that an order and the hugetlb test need. Raises `Fault`.
        """
        for count in range(PAGES_OF_FOLIO_HEAD, 1, -1):
            try:
                return self.read(pfn, count)
            except Fault as fault:
                if count == 2 and fault.kind != "unmapped":
                    raise
        return self.read(pfn)

    def _adjoining(self, va: int, count: int) -> Iterator[tuple[int, int]]:
        """(physical address, struct pages) of runs that lie in frames side by side."""
        page_size, per_slot = self.geometry.page_size, self._vmemmap.pages_per_slot
        start = length = 0
        end = va + count * self.size
        while va < end:
            number = self._vmemmap.page_number(va)
            frame, pages = self._vmemmap.frame(number), 1
            if frame == HOLE:
                raise Fault(va, end - va, self._vmemmap.why_not_mapped(number))
            if self._vmemmap.slot_kind(number) == "huge":
                pages = per_slot - number % per_slot
            offset = va % page_size
            part = min(end - va, pages * page_size - offset)
            pa = frame * page_size + offset
            if length and pa != start + length:
                yield start, length // self.size
                start = length = 0
            start = start if length else pa
            length += part
            va += part
        if length:
            yield start, length // self.size

    def page(self, pfn: int) -> Page:
        """One decoded struct page. Raises `Fault`.

        A capsule may hold the words alone that are decoded here; others are zero then.
        """
        data = self._decodable(pfn)
        va = self.va(pfn)
        flags = self._u64(data, self.flags_offset)
        word = self._u64(data, self.compound_word_offset)
        head, is_fake = self._head(pfn, va, flags, word)
        return Page(
            pfn=pfn,
            va=va,
            data=data,
            flags=flags,
            compound_word=word,
            refcount=self._s32(data, self._refcount_at),
            mapcount_word=self._u32(data, self.mapcount_offset),
            head_va=head,
            is_fake_head=is_fake,
        )

    @cached_property
    def decoded_words(self) -> list[int]:
        """Offsets of the 64-bit words that `page` decodes."""
        counts = self._refcount_at, self.mapcount_offset
        places = self.flags_offset, self.compound_word_offset, *counts
        return sorted({at // 8 * 8 for at in places})

    def _decodable(self, pfn: int) -> bytes:
        try:
            return self.read(pfn)
        except Fault:
            if not self._memory.has_words:
                raise
        return self.read_words(pfn, 1, self.decoded_words)

    def head_pfn(self, pfn: int) -> int:
        """pfn of ``compound_head(page)``. Raises `Fault`."""
        return self.pfn(self.page(pfn).head_va)

    def _head(self, pfn: int, va: int, flags: int, word: int) -> tuple[int, bool]:
        """True head and whether the page is a fake head (5.18 to 7.0)."""
        if word & 1:
            return self.head_va_of_tail(va, word), False
        is_candidate = (
            not self.has_mask
            and flags & self.head_bit
            and va % self.geometry.page_size == 0
        )
        if is_candidate:
            # page_fixed_fake_head(): an alias of the head page shows the head's flags;
            # the page behind it tells the truth. Right for true heads as well.
            try:
                next_page = self._decodable(pfn + 1)
                next_word = self._u64(next_page, self.compound_word_offset)
            except Fault:
                return va, False
            if next_word & 1:
                return next_word - 1, next_word - 1 != va
        return va, False

    def head_va_of_tail(self, va: int, word: int) -> int:
        """Where the compound word of the tail at ``va`` leads, wherever that is."""
        return va & word if self.has_mask else word - 1

    def share_a_frame(self, pfn: int, other: int) -> bool:
        """Whether two pfns have their struct pages in the same frame."""
        frames = [self._vmemmap.frame(self.vmemmap_page(p)) for p in (pfn, other)]
        return frames[0] == frames[1] != HOLE

    # Decoding

    def node(self, page: Page) -> int:
        """``page_to_nid``"""
        return self.node_of(page.flags)

    def zone_index(self, page: Page) -> int:
        """``page_zonenum``"""
        return self.zone_index_of(page.flags)

    def node_of(self, flags: int) -> int:
        return flags >> self._node_shift if self.nodes_width else 0

    def zone_index_of(self, flags: int) -> int:
        """`UNKNOWN_ZONE` where the width of the field is unknown."""
        if self.zones_width is None:
            return UNKNOWN_ZONE
        return flags >> self._zone_shift & (1 << self.zones_width) - 1

    @property
    def place_shift(self) -> int:
        """Flags shifted right by this leave node and zone."""
        return self._zone_shift

    def flags_of(self, data: bytes) -> int:
        """The flags word of the first struct page in ``data``."""
        return self._u64(data, self.flags_offset)

    def compound_word_of(self, data: bytes) -> int:
        """The compound word of the first struct page in ``data``."""
        return self._u64(data, self.compound_word_offset)

    def private_of(self, data: bytes) -> int:
        """``page->private``; of a hugetlb head its HPG_* flags."""
        return self._u64(data, self.private_offset)

    def flag_names(self, page: Page) -> list[str] | None:
        """Names of the PG_* flags that are set, by bit number; None if unknown.

        Without the order that a folio keeps in the flags of its second page (6.6+),
        and in what looks like a second page through an alias of the first vmemmap page.
        """
        if not self.knows_flags:
            return None
        if self._flag_names is None:
            self._flag_names = {}
            for name, bit in bit_numbers(self._target, "pageflags").items():
                if bit < self.flag_count:
                    # Aliases follow the flag whose bit they share.
                    self._flag_names.setdefault(bit, name.replace("PG_", "", 1))
        flags, per_page = page.flags, self.geometry.struct_pages_per_page
        index = (page.va - page.head_va) // self.size
        if self.compound.order_source == ORDER_IN_FLAGS and index % per_page == 1:
            flags &= ~0xFF
        return [
            self._flag_names.get(bit, f"bit {bit}")
            for bit in range(self.flag_count)
            if flags >> bit & 1
        ]

    @cached_property
    def _flag_bits(self) -> Mapping[str, int]:
        """``enum pageflags``, or the flags that VMCOREINFO exports."""
        return bit_numbers(self._target, "pageflags")

    @property
    def knows_flags(self) -> bool:
        """Whether a type names all flags: ``enum pageflags``."""
        return self.flag_count > 0

    @property
    def flag_count(self) -> int:
        """``__NR_PAGEFLAGS``"""
        return bit_number(self._target, "__NR_PAGEFLAGS") or 0

    @cached_property
    def hwpoison_bit(self) -> int | None:
        """PG_hwpoison as a mask, 0 in a kernel without it; None if it is unknown."""
        bit = self._flag_bits.get("PG_hwpoison")
        if bit is None:
            return 0 if self.knows_flags else None
        return 1 << bit

    def has_flag(self, page: Page, name: str) -> bool | None:
        """Whether a PG_* flag is set, False for one it lacks, None without types."""
        return self.has_flag_in(page.flags, name)

    def has_flag_in(self, flags: int, name: str) -> bool | None:
        """The same of a flags word."""
        bit = self._flag_bits.get(name)
        if bit is None:
            return False if self.knows_flags else None
        return bool(flags >> bit & 1)

    def type_name(self, page: Page) -> str | None:
        """The page type ("buddy", "hugetlb", ...), in kernels with enum pagetype."""
        for name, value in self._target.enumerators("pagetype").items():
            if name.startswith("PGTY_") and page.mapcount_word >> 24 == value:
                return None if name == "PGTY_mapcount_underflow" else name[5:]
        return None

    def _u64(self, data: bytes, offset: int) -> int:
        return int.from_bytes(data[offset : offset + 8], self.byteorder)

    def _u32(self, data: bytes, offset: int) -> int:
        return int.from_bytes(data[offset : offset + 4], self.byteorder)

    def _s32(self, data: bytes, offset: int) -> int:
        return int.from_bytes(data[offset : offset + 4], self.byteorder, signed=True)
