# SPDX-License-Identifier: LGPL-2.1-or-later
"""struct page: flags, node, zone, compound head and order, hugetlb test.

Mirrors ``include/linux/page-flags.h`` and ``mm_types.h``. Struct pages are read through
the vmemmap page tables and always decoded at their *virtual* address: the same frame
read through the direct map would give other heads (masks, fake heads).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Callable

from ..target.base import Fault, Target
from .features import uses_compound_mask
from .layout import Geometry, LayoutError, require_struct
from .memory import Memory
from .vmemmap import HOLE, Vmemmap

__all__ = ["Page", "Pages"]

PAGES_OF_FOLIO_HEAD = 4
"""struct folio overlays this many struct pages at most."""
ORDER_IN_FLAGS = "folio._flags_1"
MASK_64 = (1 << 64) - 1
MAX_NODES = 1 << 16


@dataclass(frozen=True)
class Page:
    """One struct page as it stands in memory. ``head_va`` is its true compound head."""

    pfn: int
    va: int
    data: bytes
    flags: int
    compound_word: int
    refcount: int
    mapcount_word: int
    head_va: int
    is_fake_head: bool

    @property
    def is_tail(self) -> bool:
        return self.head_va != self.va

    @property
    def is_poisoned(self) -> bool:
        """All ones: ``PagePoisoned``, never initialised."""
        return self.flags == MASK_64


@dataclass(frozen=True)
class CompoundLayout:
    """Where a folio keeps its order, and how a hugetlb folio is told.

    Both read the bytes of a head's first struct pages.
    """

    order_of: Callable[[bytes], int]
    order_source: str
    is_hugetlb: Callable[[bytes], bool]
    hugetlb_source: str


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
        self.has_mask = uses_compound_mask(target)
        self.flags_offset = page.offset("flags")
        self.compound_word_offset = page.offset(word)
        self._refcount_at = page.offset("_refcount")
        self._mapcount_at = page.offset("_mapcount")
        self.private_offset = page.offset("private")
        head = target.enumerator("PG_head")
        if head is None:
            raise LayoutError("the debug info has no enumerator PG_head")
        self.head_bit = 1 << head
        self.compound = find_compound_layout(target, geometry)
        self.nodes_width = find_nodes_width(target)
        self.zones_width = find_zones_width(target)
        self._node_shift = 64 - self.nodes_width
        self._zone_shift = self._node_shift - self.zones_width
        self._flag_names: dict[int, str] | None = None
        self.base_va = vmemmap.start_va
        """Address of pfn 0's struct page; the Kernel corrects it from the sections."""

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

    # Reading

    def read(self, pfn: int, count: int = 1) -> bytes:
        """The bytes of ``count`` struct pages. Raises `Fault`."""
        va, size = self.va(pfn), count * self.size
        page_size = self.geometry.page_size
        parts: list[bytes] = []
        while size:
            offset = va % page_size
            length = min(size, page_size - offset)
            frame = self._vmemmap.frame(self._vmemmap.page_number(va))
            if frame == HOLE:
                raise Fault(va, size, "unmapped")
            parts.append(self._memory.read_physical(frame * page_size + offset, length))
            va += length
            size -= length
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def page(self, pfn: int) -> Page:
        """One decoded struct page. Raises `Fault`."""
        data = self.read(pfn)
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
            mapcount_word=self._u32(data, self._mapcount_at),
            head_va=head,
            is_fake_head=is_fake,
        )

    def head_pfn(self, pfn: int) -> int:
        """pfn of ``compound_head(page)``. Raises `Fault`."""
        return self.pfn(self.page(pfn).head_va)

    def _head(self, pfn: int, va: int, flags: int, word: int) -> tuple[int, bool]:
        """True head and whether the page is a fake head (5.18 to 7.0)."""
        if word & 1:
            return (va & word if self.has_mask else word - 1), False
        is_candidate = (
            not self.has_mask
            and flags & self.head_bit
            and va % self.geometry.page_size == 0
        )
        if is_candidate:
            # page_fixed_fake_head(): an alias of the head page shows the head's flags;
            # the page behind it tells the truth. Right for true heads as well.
            try:
                next_word = self._u64(self.read(pfn + 1), self.compound_word_offset)
            except Fault:
                return va, False
            if next_word & 1:
                return next_word - 1, next_word - 1 != va
        return va, False

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
        return flags >> self._zone_shift & (1 << self.zones_width) - 1

    @property
    def place_shift(self) -> int:
        """Flags shifted right by this leave node and zone."""
        return self._zone_shift

    def flags_of(self, data: bytes) -> int:
        """The flags word of the first struct page in ``data``."""
        return self._u64(data, self.flags_offset)

    def private_of(self, data: bytes) -> int:
        """``page->private``; of a hugetlb head its HPG_* flags."""
        return self._u64(data, self.private_offset)

    def flag_names(self, page: Page) -> list[str]:
        """Names of the PG_* flags that are set, by bit number.

        Without the order that a folio keeps in the flags of its second page (6.6+),
        and in what looks like a second page through an alias of the first vmemmap page.
        """
        if self._flag_names is None:
            self._flag_names = {}
            for name, bit in self._target.enumerators("pageflags").items():
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

    @property
    def flag_count(self) -> int:
        """``__NR_PAGEFLAGS``"""
        return self._target.enumerator("__NR_PAGEFLAGS") or 0

    def has_flag(self, page: Page, name: str) -> bool:
        """Whether a PG_* flag is set; False for one this kernel lacks."""
        bit = self._target.enumerator(name)
        return bit is not None and bool(page.flags >> bit & 1)

    def type_name(self, page: Page) -> str | None:
        """The page type ("buddy", "hugetlb", ...), in kernels with enum pagetype."""
        for name, value in self._target.enumerators("pagetype").items():
            if name.startswith("PGTY_") and page.mapcount_word >> 24 == value:
                return None if name == "PGTY_mapcount_underflow" else name[5:]
        return None

    def compound_order(self, head_pfn: int) -> int:
        """Order of the folio whose head this is, 0 for a single page."""
        data = self.read(head_pfn, PAGES_OF_FOLIO_HEAD)
        if not self._u64(data, self.flags_offset) & self.head_bit:
            return 0
        return self.compound.order_of(data)

    def hugetlb_order(self, pfn: int) -> int | None:
        """Order of the hugetlb folio that has its head here, None if there is none.

        An order that no folio can have is none. Raises `Fault`.
        """
        data = self.read(pfn, PAGES_OF_FOLIO_HEAD)
        if self.compound.is_hugetlb(data) and self.is_hugetlb_head(self.va(pfn), data):
            order = self.compound.order_of(data)
            return order if order <= self.geometry.max_folio_order else None
        return None

    def is_hugetlb_head(self, va: int, data: bytes) -> bool:
        """Whether these first struct pages of a hugetlb type are a head and its tails.

        The second has to agree that it is a tail of the first, so that remains of a
        freed folio are not taken for one.
        """
        if not self.flags_of(data) & self.head_bit:
            return False
        word = self._u64(data, self.size + self.compound_word_offset)
        head = va + self.size & word if self.has_mask else word - 1
        return bool(word & 1) and head == va

    def _u64(self, data: bytes, offset: int) -> int:
        return int.from_bytes(data[offset : offset + 8], self.byteorder)

    def _u32(self, data: bytes, offset: int) -> int:
        return int.from_bytes(data[offset : offset + 4], self.byteorder)

    def _s32(self, data: bytes, offset: int) -> int:
        return int.from_bytes(data[offset : offset + 4], self.byteorder, signed=True)


def find_nodes_width(target: Target) -> int:
    """``NODES_WIDTH``: from array lengths, since NODES_SHIFT is a macro."""
    for length in _node_counts(target):
        if length and 0 < length <= MAX_NODES:
            return (length - 1).bit_length()
    return 0


def _node_counts(target: Target) -> Iterator[int | None]:
    node_data = target.variable("node_data")
    if node_data is not None:
        yield node_data.type.length
    text = target.vmcoreinfo.get("LENGTH(node_data)")
    if text is not None:
        yield int(text, 0)
    hstate = target.struct("hstate")
    if hstate is not None and "nr_huge_pages_node" in hstate:
        yield hstate["nr_huge_pages_node"].length


def find_zones_width(target: Target) -> int:
    """``ZONES_WIDTH``: bits that number ``__MAX_NR_ZONES`` zones."""
    count = target.enumerator("__MAX_NR_ZONES") or 1
    return (count - 1).bit_length()


def find_compound_layout(target: Target, geometry: Geometry) -> CompoundLayout:
    """Order and hugetlb test, newest form first. Raises `LayoutError`."""
    order_at, order_source = _order_location(target, geometry)
    is_hugetlb, hugetlb_source = _hugetlb_test(target, geometry)
    return CompoundLayout(
        lambda data: data[order_at], order_source, is_hugetlb, hugetlb_source
    )


def _order_location(target: Target, geometry: Geometry) -> tuple[int, str]:
    page, folio = target.struct("page"), target.struct("folio")
    if folio is not None and "_folio_order" in folio:
        return folio.offset("_folio_order"), "folio._folio_order"
    if page is not None and "compound_order" in page:
        at = geometry.struct_page_size + page.offset("compound_order")
        return at, "page[1].compound_order"
    if folio is not None and "_flags_1" in folio:
        at = folio.offset("_flags_1")
        # The low byte of the word (ebcab4e3b3a0, in 6.6).
        return at if target.byteorder == "little" else at + 7, ORDER_IN_FLAGS
    raise LayoutError(
        "no member tells the order of a folio (folio._flags_1, folio._folio_order, "
        "page.compound_order)"
    )


def _hugetlb_test(
    target: Target, geometry: Geometry
) -> tuple[Callable[[bytes], bool], str]:
    page, folio = target.struct("page"), target.struct("folio")
    assert page is not None
    size, order = geometry.struct_page_size, target.byteorder
    type_at = page.offset("_mapcount")

    def page_type(data: bytes) -> int:
        return int.from_bytes(data[type_at : type_at + 4], order)

    pgty = target.enumerator("PGTY_hugetlb")
    if pgty is not None:
        top_byte = type_at + 3 if order == "little" else type_at
        return lambda data: data[top_byte] == pgty, "enumerator PGTY_hugetlb"
    text = target.vmcoreinfo.get("NUMBER(PAGE_HUGETLB_MAPCOUNT_VALUE)")
    if text is not None:
        # 6.9 to 6.11: a type is a cleared bit in a word that else has its top bits set.
        cleared = ~int(text, 0) & 0xFFFFFFFF
        return (
            lambda data: page_type(data) & (0xF0000000 | cleared) == 0xF0000000,
            "VMCOREINFO NUMBER(PAGE_HUGETLB_MAPCOUNT_VALUE)",
        )
    flag = target.enumerators("pageflags").get("PG_hugetlb")
    if flag is not None and folio is not None and "_flags_1" in folio:
        flags_at = folio.offset("_flags_1")
        return (
            lambda data: bool(
                int.from_bytes(data[flags_at : flags_at + 8], order) >> flag & 1
            ),
            "PG_hugetlb of folio._flags_1",
        )
    dtor = target.enumerator("HUGETLB_PAGE_DTOR")
    if dtor is not None:
        if folio is not None and "_folio_dtor" in folio:
            at, source = folio.offset("_folio_dtor"), "folio._folio_dtor"
        elif "compound_dtor" in page:
            at, source = size + page.offset("compound_dtor"), "page[1].compound_dtor"
        else:
            return _no_hugetlb, "no member compound_dtor"
        return lambda data: data[at] == dtor, source
    return _no_hugetlb, "this kernel has no hugetlb pages"


def _no_hugetlb(data: bytes) -> bool:
    return False
