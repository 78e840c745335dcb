# SPDX-License-Identifier: LGPL-2.1-or-later
"""Words of a model machine that may be corrupted, and which of their bits may be so.

What is excused follows from the model's types and books, never from what the tool
reads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import hypothesis.strategies as st

from tests.model.kernels import MIB
from vmemmap_tools.model.boot import NodeMemory
from vmemmap_tools.model.hugetlb import FREE
from vmemmap_tools.model.image.sections import section_bit
from vmemmap_tools.model.machine import Machine

from .overlay import Bench

__all__ = ["Patient", "Word", "machine"]

ALL = (1 << 64) - 1
PAGE = 4096
LRU_FLAGS = ["lru", "slab", "reserved", "writeback", "unevictable", "mlocked"]
FREED_WITHOUT = (*LRU_FLAGS, *["locked", "private", "private_2", "active"])
SECOND = [
    "double_map",
    "has_hwpoisoned",
    "hugetlb",
    "large_rmappable",
    "partially_mapped",
]
SECTION_MEMBERS = (
    *("section_mem_map", "usage", "page_ext"),
    *("order", "compound_page_order", "zone"),
)
Excuses = dict[str, int]
"""{class of harmless corruption: bits}"""


def machine(generation: str, levels: int = 4) -> Machine:
    """The smallest machine with folios of all kinds, devices and hot-added memory."""
    one = Machine(
        generation,
        {
            0: NodeMemory([(0, 480 * MIB)]),
            1: NodeMemory([(1024 * MIB, 1280 * MIB)]),
        },
        levels=levels,
    )
    one.hugetlb_alloc("2M", 12, 0).hugetlb_use("2M", 3)
    if one.core.generation.splits:
        one.set_hvo(False)
    one.hugetlb_alloc("2M", 3, 1).set_hvo(True)
    one.dax_add("dax0", "2G", "256M", align="2M", namespace=False, dumped=True)
    one.dax_add("pmem1", "480M", "32M", fsdax=True, dumped=True)
    return one.memory_add("4G", "128M", node=1)


@dataclass(frozen=True)
class Word:
    """A 64-bit word in physical memory, and the bits that are excused."""

    what: str
    pa: int
    old: int
    excuses: tuple[tuple[str, int], ...]

    def changed(self, how: tuple[str, int]) -> int:
        """The word after a corruption of `Patient.corruptions`."""
        kind, value = how
        if kind == "flip":
            return self.old ^ 1 << value
        return value if kind == "set" else self.old + value & ALL

    def is_excused(self, new: int) -> bool:
        """Whether every bit that changed belongs to a class of harmless ones."""
        bits = self.old ^ new
        for _, mask in self.excuses:
            bits &= ~mask
        return not bits


class Patient:
    """A machine of one generation, its dump, and its words."""

    def __init__(self, generation: str, levels: int = 4):
        self.bench = Bench(machine(generation, levels))
        self._levels = levels
        self.image = self.bench.machine.image()
        self._types = self.image.types
        self._size = self._types.sizeof("struct page")
        self._table = self.bench.machine.hugetlb.table

    corruptions = st.one_of(
        st.tuples(st.just("flip"), st.integers(0, 63)),
        st.tuples(st.just("flip"), st.integers(0, 63)),
        st.tuples(st.just("set"), st.sampled_from((0, ALL)) | st.integers(0, ALL)),
        st.tuples(st.just("add"), st.sampled_from((-64, -8, 8, 64, PAGE))),
    )

    def frames(self, word: Word, new: int) -> dict[int, bytes]:
        """The frame that holds a word, corrupted."""
        page = bytearray(self._read(word.pa // PAGE * PAGE, PAGE))
        at = word.pa % PAGE
        page[at : at + 8] = new.to_bytes(8, "little")
        return {word.pa // PAGE: bytes(page)}

    def words(self, kind: str) -> st.SearchStrategy[Word]:
        """Words of tails, heads, page tables or sections."""
        if kind == "section":
            return self._section_words
        if kind == "table":
            return st.builds(self._table_word, *self._table_places)
        indices: st.SearchStrategy[int] = st.just(0)
        if kind == "tail":
            indices = st.integers(1, 5) | st.integers(1, 511)
        rows = st.integers(0, len(self._table) - 1)
        return st.builds(
            self._page_word, rows, indices, st.integers(0, self._size // 8 - 1)
        )

    def _word(self, what: str, pa: int, excuses: Excuses) -> Word:
        old = int.from_bytes(self._read(pa, 8), "little")
        return Word(what, pa, old, tuple(excuses.items()))

    def _read(self, pa: int, size: int) -> bytes:
        return self.bench.target.read_physical(pa, size)

    # Struct pages

    def _page_word(self, row: int, index: int, word: int) -> Word:
        folio = self._table[row]
        is_free = folio["list"] == FREE
        is_shared = False
        if folio["optimised"]:
            kept = self.image.core.generation.kept * PAGE // self._size
            is_shared = index >= kept and self.image.core.generation.mask
            if index >= kept and not is_shared:
                index %= kept  # an alias of the kept page
        pa = self.image.page_pa(int(folio["pfn"]) + index) + 8 * word
        what = f"word {word} of struct page {index} of {folio}"
        if index == 0:
            return self._word(what, pa, dict(self._of_head(word, is_free)))
        return self._word(
            what, pa, dict(self._of_tail(word, index, is_free, is_shared))
        )

    def _flags(self, names: Sequence[str]) -> int:
        known = self._types.enumerators("pageflags")
        return sum(1 << known[f"PG_{n}"] for n in names if f"PG_{n}" in known)

    @cached_property
    def _flag_bits(self) -> int:
        return (1 << self._types.enumerator("__NR_PAGEFLAGS")) - 1

    @cached_property
    def _middle(self) -> int:
        """The bits between the flags and the zone."""
        nodes = self._types.array_length("hstate.nr_huge_pages_node")
        zones = self._types.enumerator("__MAX_NR_ZONES")
        width = (nodes - 1).bit_length() + (zones - 1).bit_length()
        return ALL >> width & ~self._flag_bits

    def _bits(self, path: str, word: int, index: int = 0) -> int:
        """The bits that a member takes of a word of a struct page; 0 if it is not."""
        if not self._types.has(path):
            return 0
        m = self._types.member(path)
        at = m.offset - index * self._size - 8 * word
        return (1 << 8 * m.size) - 1 << 8 * at if 0 <= at < 8 else 0

    def _of_head(self, word: int, is_free: bool) -> Iterator[tuple[str, int]]:
        def page(name: str) -> int:
            return self._bits(f"page.{name}", word)

        if page("flags"):
            yield "flags-middle", self._middle
            yield "head-state", self._flag_bits & ~self._flags([*LRU_FLAGS, "head"])
        if page("private"):
            bits = self._types.enumerators("hugetlb_page_flags")
            free = sum(1 << b for n, b in bits.items() if n.startswith("HPG_"))
            told = 1 << bits["HPG_freed"] | 1 << bits["HPG_vmemmap_optimized"]
            yield "hugetlb-flags", free & ~told
        contents = page("index") | page("__folio_index")
        if not is_free:
            contents |= page("mapping") | page("_refcount") | page("memcg_data")
        mapcount = page("_mapcount")
        if self._types.has_enumerator("PGTY_hugetlb"):
            mapcount &= ~(0xFF << 24)  # the type
        yield "head-contents", contents | mapcount

    def _of_tail(
        self, word: int, index: int, is_free: bool, is_shared: bool
    ) -> Iterator[tuple[str, int]]:
        def page(name: str) -> int:
            return self._bits(f"page.{name}", word)

        if page("flags"):
            yield "flags-middle", self._middle
            told = self._flags([*FREED_WITHOUT, "head"])
            if index == 1:
                told &= ~(self._flags(SECOND) | 0xFF) | self._flags(["head"])
                order = 0 if self._has_order_member else 0xFF
                yield "first-tails", self._flags(SECOND) & ~order
                told |= order
            yield "tail-state", self._flag_bits & ~told
        if index < 4 and not page("flags"):
            yield "first-tails", self._folio_members(word, index, is_free)
            return
        contents = page("index") | page("__folio_index") | page("private")
        yield "tail-links", page("lru.prev") | (0 if is_shared else contents)

    @cached_property
    def _has_order_member(self) -> bool:
        members = ("folio._folio_order", "page.compound_order")
        return any(map(self._types.has, members))

    def _folio_members(self, word: int, index: int, is_free: bool) -> int:
        """A word but for the way to the head, refcount, order and number of pages."""
        judged = ["_folio_order", "_folio_dtor", "_nr_pages", "_folio_nr_pages"]
        if is_free:
            judged += ["_entire_mapcount", "_large_mapcount", "_pincount"]
            judged += [f"_hugetlb_{n}" for n in ("subpool", "cgroup", "cgroup_rsvd")]
        told = self._bits("page._refcount", word)
        told |= ALL if word == 1 else 0  # compound_head, compound_info
        for name in judged:
            told |= self._bits(f"folio.{name}", word, index)
        if index == 1:
            for name in ("compound_dtor", "compound_order", "compound_nr"):
                told |= self._bits(f"page.{name}", word)
        return ALL & ~told

    # Page tables

    @property
    def _table_places(self) -> Sequence[st.SearchStrategy[int]]:
        """A level from the root on, a page of the vmemmap, mapped or near it."""
        vmemmap = self.image.core.vmemmap
        blocks = sorted(
            {b for start, end, _ in vmemmap.runs() for b in vmemmap.blocks(start, end)}
        )
        mapped = st.sampled_from([b * vmemmap.entries for b in blocks])
        near = st.integers(0, 255).map(lambda block: block * vmemmap.entries)
        return (
            st.integers(0, 4),
            mapped | mapped | mapped | near,
            st.integers(0, vmemmap.entries - 1),
        )

    def _table_word(self, level: int, first: int, inside: int) -> Word:
        number = first + inside
        steps = list(self._walk(self.image.vmemmap_va(number)))
        depth, pa, entry, is_leaf = steps[min(level, len(steps) - 1)]
        excuses: Excuses = {}
        if not entry & 1:
            excuses["leaf-accounting"] = 3 << 5
        else:
            excuses["software-bits"] = 7 << 9 | 0x7F << 52
            excuses["protection-key"] = 0xF << 59
            if is_leaf:
                excuses["leaf-accounting"] = 3 << 5 | 1 << 8
                if self._is_shared_device_tail(number):
                    excuses["device-permission"] = 2
            else:
                excuses["table-flags"] = 0b101111100 & ~(1 << 7) | 1 << 63
        return self._word(f"entry of depth {depth} for page {number:#x}", pa, excuses)

    def _walk(self, va: int) -> Iterator[tuple[int, int, int, bool]]:
        """(depth, address, entry, is leaf) from the root to a leaf or a hole."""
        table = self.image.root_va + self.image.phys_base - self.image.arch.image_map
        for depth, shift in enumerate((48, 39, 30, 21, 12)[-self._levels :]):
            pa = table + 8 * (va >> shift & 511)
            entry = int.from_bytes(self._read(pa, 8), "little")
            is_leaf = shift == 12 or bool(entry & 1 << 7)
            yield depth, pa, entry, is_leaf
            if is_leaf or not entry & 1:
                return
            table = entry & 0x000FFFFFFFFFF000

    def _is_shared_device_tail(self, number: int) -> bool:
        vmemmap = self.image.core.vmemmap
        section = number * vmemmap.spp // self.image.arch.pages_per_section
        found = self.image.core.sections.get(section)
        if found is None or found.early or found.online:
            return False
        _, tails = vmemmap.frames(number, number + 1)
        return bool(tails[0]) or number % 8 == 1

    # Sections

    @property
    def _section_words(self) -> st.SearchStrategy[Word]:
        size = self._types.sizeof("struct mem_section") // 8
        return st.builds(
            self._section_word,
            st.sampled_from(sorted(self.image.sections)),
            st.integers(0, size - 1),
        )

    def _section_word(self, nr: int, word: int) -> Word:
        entry, section = self.image.sections[nr], self.image.core.sections[nr]

        def member(name: str) -> int:
            return self._bits(f"mem_section.{name}", word)

        used = sum(map(member, SECTION_MEMBERS))
        excuses: Excuses = {"section-padding": ALL & ~used}
        if member("section_mem_map"):
            if not section.taint:
                excuses["section-taint"] = section_bit(
                    self.image, "SECTION_TAINT_ZONE_DEVICE"
                )
            name = "SECTION_IS_VMEMMAP_PREINIT"
            if self._types.has_enumerator(f"{name}_BIT"):
                excuses["section-preinit"] = section_bit(self.image, name)
            if section.early and section.subsections == ALL:
                excuses["section-early"] = section_bit(self.image, "SECTION_IS_EARLY")
        return self._word(f"word {word} of section {nr}", entry.pa + 8 * word, excuses)
