# SPDX-License-Identifier: LGPL-2.1-or-later
"""A kernel by hand: sections, zones, struct pages and what maps them.

m = Machine("7.3")
m.add_section(1)
kernel = m.kernel()
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from vmemmap_tools.kernel.kernel import Kernel
from vmemmap_tools.target.base import Member, Struct, Target

from .facts import enums, functions, vmcoreinfo
from .layouts import (
    GENERATIONS,
    MAX_NODES,
    TAIL_ORDERS,
    ZONE_SIZE,
    ZONES,
    array,
    pointer,
    structs,
)
from .memory import PAGE, SparseMemory
from .tables import RW, P, PageTables
from .target import FakeTarget

__all__ = [
    "DEVICE",
    "DMA32",
    "KERNEL_HALF",
    "MOVABLE",
    "NORMAL",
    "SECTION_PAGES",
    "Machine",
]

DMA, DMA32, NORMAL, MOVABLE, DEVICE = range(5)
SECTION_PAGES = 32768
SECTION_FRAMES = 512
MAX_HSTATES = 4
KERNEL_HALF = 0xFFFFC90000000000
"""An address of the kernel that no table maps by itself."""
VMEMMAP = {4: 0xFFFFEA0000000000, 5: 0xFFD4000000000000}
DIRECT_MAP = {4: 0xFFFF888000000000, 5: 0xFF11000000000000}
FIRST_FRAME = 0x400000
"""Frames behind the vmemmap are taken from here on (16 GiB)."""
LETTERS = "PMOEDV"


class Machine:
    """One kernel being put together; ``like`` is a key of `GENERATIONS`."""

    def __init__(
        self,
        like: str = "7.3",
        *,
        levels: int = 4,
        page_struct: int = 64,
        section_entry: int | None = None,
        is_static: bool = False,
        nodes: int = 2,
    ):
        self.generation = GENERATIONS[like]
        self.page_struct = page_struct
        self.is_static = is_static
        self.memory = SparseMemory()
        self.target = FakeTarget(self.memory, DIRECT_MAP[levels])
        self.tables = PageTables(self.memory, self.target.allocate_page, levels)
        self.vmemmap = VMEMMAP[levels]
        self.sections: dict[int, dict[str, int]] = {}
        self.pools: list[int] = []
        self.pgmaps: list[tuple[int, int, int]] = []
        self._behind: dict[int, int] = {}
        self._next_frame = FIRST_FRAME
        size = section_entry or (16, 32)[bool(self.generation.section)]
        self.target.structs = structs(self.generation, page_struct, size)
        self.target.vmcoreinfo = vmcoreinfo(
            self.generation, levels, self.tables.root_pa, self.vmemmap
        )
        self.target.functions = functions(self.generation)
        self.target.enums = enums(self.generation)
        self._add_nodes(nodes)
        for name in self.generation.variables:
            self.target.define_int(name, 1, 4)
        # No pool, and no device memory, yet.
        self.target.define("pgmap_array", pointer(0))
        self.target.define_int("hugetlb_max_hstate", 0, 4)
        self.target.allocate_page()
        size = self.target.structs["hstate"].size
        self.target.define("hstates", array(0, MAX_HSTATES, size, "struct"))

    def kernel(self) -> Kernel:
        """Read this machine, its sections written as they now are."""
        self.write_sections()
        return self.reading()

    def forget_member(self, path: str) -> None:
        """Let a struct's member be unknown: ``struct.member``."""
        name, member = path.split(".", 1)
        known = self.target.structs[name]
        members = {k: v for k, v in known.members.items() if k != member}
        assert len(members) < len(known.members)
        self.target.structs[name] = Struct(name, known.size, members)

    def reading(self) -> Kernel:
        """Read this machine as it stands in memory."""
        return Kernel(cast(Target, self.target))

    # Sections

    def add_section(
        self,
        nr: int,
        state: str = "PMOE",
        *,
        leaf: str | None = "base",
        subsections: int = (1 << 64) - 1,
        base: int | None = None,
        **members: int,
    ) -> None:
        """An entry of mem_section; ``leaf`` says how its vmemmap is mapped, if it is.

        ``members`` are further members of mem_section: order, zone, ...
        """
        word = sum(1 << LETTERS.index(letter) for letter in state)
        if "M" in state:
            word |= self.vmemmap if base is None else base
        usage = self.target.record("mem_section_usage")
        self.target.write(usage, subsections.to_bytes(8, "little"))
        self.sections[nr] = {"section_mem_map": word, "usage": usage, **members}
        if leaf == "huge":
            frame = self.frames(SECTION_FRAMES, SECTION_FRAMES)
            self.map_huge(nr * SECTION_FRAMES, frame)
        elif leaf == "base":
            frame = self.frames(SECTION_FRAMES, SECTION_FRAMES)
            for i in range(SECTION_FRAMES):
                self.map(nr * SECTION_FRAMES + i, frame + i)

    def write_sections(self) -> None:
        target, size = self.target, self.target.structs["mem_section"].size
        highest = max(self.sections, default=0)
        if self.is_static:
            type_ = array(0, highest + 1, size, "struct")
            table = target.define("mem_section", type_)
            for nr, values in self.sections.items():
                target.record("mem_section", table + nr * size, **values)
            target.vmcoreinfo.pop("SYMBOL(mem_section)", None)
        else:
            self._write_roots(PAGE // size)
        target.define_int("__highest_present_section_nr", highest)

    def _write_roots(self, per_root: int) -> None:
        """Roots of whole pages; SYMBOL(mem_section) is the value of the pointer."""
        target, size = self.target, self.target.structs["mem_section"].size
        bits = int(target.vmcoreinfo["NUMBER(MAX_PHYSMEM_BITS)"])
        roots = target.allocate(8 * -(-(1 << bits - 27) // per_root), PAGE)
        made: dict[int, int] = {}
        for nr, values in self.sections.items():
            root, slot = divmod(nr, per_root)
            if root not in made:
                made[root] = target.allocate(PAGE, PAGE)
                target.write(roots + 8 * root, made[root].to_bytes(8, "little"))
            target.record("mem_section", made[root] + slot * size, **values)
        target.define("mem_section", pointer(0, 2), roots.to_bytes(8, "little"))
        target.vmcoreinfo["SYMBOL(mem_section)"] = f"{roots:x}"

    # Backing

    def frames(self, count: int = 1, align: int = 1) -> int:
        """The first of so many adjoining frames that nothing uses yet."""
        first = -(-self._next_frame // align) * align
        self._next_frame = first + count
        return first

    def map(self, page: int, frame: int, *, is_writable: bool = True) -> None:
        """Put a frame behind a vmemmap page (numbered from the vmemmap's start)."""
        self._behind[page] = frame
        flags = P | RW if is_writable else P
        self.tables.map(self.vmemmap + page * PAGE, frame * PAGE, flags)

    def map_huge(self, page: int, frame: int) -> None:
        """Put 512 frames behind 512 vmemmap pages, as one leaf."""
        self._behind.update((page + i, frame + i) for i in range(SECTION_FRAMES))
        self.tables.map_huge(self.vmemmap + page * PAGE, frame * PAGE)

    def unmap(self, page: int) -> None:
        del self._behind[page]
        self.tables.set(self.vmemmap + page * PAGE, 1, 0)

    def frame(self, page: int) -> int:
        return self._behind[page]

    def vmemmap_page(self, pfn: int) -> int:
        return pfn * self.page_struct // PAGE

    def page_va(self, pfn: int) -> int:
        return self.vmemmap + pfn * self.page_struct

    # Struct pages

    def set_page(self, pfn: int, **members: int) -> None:
        """Write members of a struct page through the frame behind it."""
        layout = self.target.structs["page"]
        for name, value in members.items():
            member = layout[name]
            mask = (1 << 8 * member.size) - 1
            self.write_page(
                pfn, member.offset, (value & mask).to_bytes(member.size, "little")
            )

    def write_page(self, pfn: int, offset: int, data: bytes) -> None:
        """Write bytes at an offset from a struct page."""
        at = pfn * self.page_struct + offset
        for i, byte in enumerate(data):
            page, inside = divmod(at + i, PAGE)
            self.memory.write(self._behind[page] * PAGE + inside, bytes([byte]))

    @staticmethod
    def place_bits(node: int, zone: int) -> int:
        """Node and zone in a flags word: 10 bits and 3 from the top (3.)."""
        return node << 54 | zone << 51

    # Nodes and zones

    def _add_nodes(self, count: int) -> None:
        target = self.target
        self.pgdats = [target.record("pglist_data") for _ in range(count)]
        names = [target.put(name.encode() + b"\0") for name in ZONES]
        for node in range(count):
            for index, name in enumerate(names):
                target.record("zone", self.zone_va(node, index), name=name)
        data = b"".join(va.to_bytes(8, "little") for va in self.pgdats)
        target.define("node_data", array(0, MAX_NODES, kind="pointer"), data)
        online = ((1 << count) - 1).to_bytes(MAX_NODES // 8, "little")
        type_ = array(0, 6, MAX_NODES // 8, "struct")
        target.define("node_states", type_, bytes(MAX_NODES // 8) + online)

    def zone_va(self, node: int, index: int) -> int:
        return self.pgdats[node] + index * ZONE_SIZE

    def set_zone(self, node: int, index: int, start: int, pages: int) -> None:
        """A zone's span, all of it present and managed, but for device memory."""
        held = 0 if index == DEVICE else pages
        self.target.record(
            "zone",
            self.zone_va(node, index),
            zone_start_pfn=start,
            spanned_pages=pages,
            present_pages=held,
            managed_pages=held,
        )

    def set_tail(self, node: int, index: int, order: int, page_va: int) -> None:
        """``zone->vmemmap_tails``, of either form; its first entry is order 7 (4.2)."""
        zone = self.zone_va(node, index)
        offset = self.target.structs["zone"].offset("vmemmap_tails")
        tails = zone + offset
        if self.generation.tails == "pointer":
            value = int.from_bytes(self.target.read(tails, 8), "little")
            if not value:
                value = self.target.allocate(8 * TAIL_ORDERS)
                self.target.record("zone", zone, vmemmap_tails=value)
            tails = value
        self.target.write(tails + 8 * (order - 7), page_va.to_bytes(8, "little"))

    # Counters

    def add_counters(self, runtime: int, boot: int) -> None:
        """nr_memmap_pages and nr_memmap_boot_pages (4.4)."""
        type_ = Member(0, 8, "struct", "atomic_long_t")
        for name, value in (
            ("nr_memmap_pages", runtime),
            ("nr_memmap_boot_pages", boot),
        ):
            self.target.define(name, type_, value.to_bytes(8, "little", signed=True))

    def add_sections(self, numbers: Iterable[int], state: str = "PMOE") -> None:
        for nr in numbers:
            self.add_section(nr, state)
