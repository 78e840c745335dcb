# SPDX-License-Identifier: LGPL-2.1-or-later
"""The VMCOREINFO note of a simulated kernel: the full list of a real one, in order.

Mirrors kernel/vmcore_info.c (kernel/crash_core.c before 6.9) and the arch_ functions.
Which keys a generation has follows from its types and symbols. Left out are the keys
of the printk ring buffer, which only reading the log needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

from vmemmap_tools.model.types import TypeGraph

__all__ = ["Facts", "vmcoreinfo"]

KERNEL_IMAGE_SIZE = 1 << 30
PAGE_TYPES = {
    "SLAB": "PGTY_slab",
    "BUDDY": "PGTY_buddy",
    "HUGETLB": "PGTY_hugetlb",
    "OFFLINE": "PGTY_offline",
    "UNACCEPTED": "PGTY_unaccepted",
}
EARLIER_PAGE_TYPES = {"BUDDY": ~0x80, "OFFLINE": ~0x100}
"""Before enum pagetype they were macros: bits that are cleared."""

SIZES = (
    "struct page",
    "struct pglist_data",
    "struct zone",
    "struct free_area",
    "struct list_head",
    "nodemask_t",
)
OFFSETS = (
    "page.flags",
    "page._refcount",
    "page.mapping",
    "page.lru",
    "page._mapcount",
    "page.private",
    "page.compound_dtor",
    "page.compound_order",
    "page.compound_head",
    "page.compound_info",
    "pglist_data.node_zones",
    "pglist_data.nr_zones",
    "pglist_data.node_start_pfn",
    "pglist_data.node_spanned_pages",
    "pglist_data.node_id",
    "zone.free_area",
    "zone.vm_stat",
    "zone.spanned_pages",
    "free_area.free_list",
    "list_head.next",
    "list_head.prev",
)
PAGE_FLAGS = ("PG_lru", "PG_private", "PG_swapcache", "PG_swapbacked")
KALLSYMS = (
    "kallsyms_names",
    "kallsyms_num_syms",
    "kallsyms_token_table",
    "kallsyms_token_index",
    "kallsyms_offsets",
    "kallsyms_relative_base",
)
ARM64_NUMBERS = (
    ("VA_BITS", "d"),
    ("MODULES_VADDR", "x"),
    ("MODULES_END", "x"),
    ("VMALLOC_END", "x"),
    ("VMEMMAP_START", "x"),
    ("VMEMMAP_END", "x"),
    ("kimage_voffset", "x"),
    ("PHYS_OFFSET", "x"),
    ("TCR_EL1_T1SZ", "x"),
)


class Facts(Protocol):
    """What the note says of a machine besides its types.

    ``numbers``, all optional: ``vmalloc_start``, ``vmemmap`` and ``mem_section`` (the
    values of these pointers), ``section_roots``, ``section_size_bits``,
    ``max_physmem_bits``, ``levels``, ``node_data_length``, ``sme_mask``,
    ``crashtime``, and for arm64 the numbers under their own names.
    """

    @property
    def types(self) -> TypeGraph: ...
    @property
    def release(self) -> str: ...
    @property
    def arch_name(self) -> str: ...
    @property
    def page_size(self) -> int: ...
    @property
    def build_id(self) -> bytes: ...
    @property
    def kaslr_offset(self) -> int: ...
    @property
    def phys_base(self) -> int: ...
    @property
    def numbers(self) -> Mapping[str, int]: ...

    def address(self, symbol: str) -> int | None:
        """Run-time address of a symbol, None when the kernel has none."""


def vmcoreinfo(facts: Facts) -> bytes:
    """The text of the note: KEY=value lines, each ended by a newline."""
    return "".join(f"{line}\n" for line in _lines(facts)).encode()


def _lines(facts: Facts) -> Iterator[str]:
    graph = facts.types
    yield f"OSRELEASE={facts.release}"
    yield f"BUILD-ID={facts.build_id.hex()}"
    yield f"PAGESIZE={facts.page_size}"
    yield from _symbols(facts, "init_uts_ns")
    if graph.has("uts_namespace.name"):
        yield f"OFFSET(uts_namespace.name)={graph.offsetof('uts_namespace.name')}"
    yield from _symbols(
        facts, "node_online_map", "swapper_pg_dir", "_stext", "vmap_area_list"
    )
    is_new = _has_page_types(graph)
    if is_new and "vmalloc_start" in facts.numbers:
        yield f"NUMBER(VMALLOC_START)=0x{facts.numbers['vmalloc_start']:x}"
    if is_new and "vmemmap" in facts.numbers:
        yield f"SYMBOL(vmemmap)={facts.numbers['vmemmap']:x}"
    yield from _sections(facts)
    for text in SIZES:
        if graph.has_type(text):
            yield f"SIZE({text.split()[-1]})={graph.sizeof(text)}"
    for path in OFFSETS:
        if graph.has(path):
            yield f"OFFSET({path})={graph.offsetof(path)}"
    if not is_new:
        for path in ("vmap_area.va_start", "vmap_area.list"):
            if graph.has(path):
                yield f"OFFSET({path})={graph.offsetof(path)}"
    yield f"LENGTH(zone.free_area)={graph.array_length('zone.free_area')}"
    yield f"LENGTH(free_area.free_list)={graph.array_length('free_area.free_list')}"
    yield from _page_numbers(graph, is_new)
    yield from _symbols(facts, *KALLSYMS)
    yield from ARCHITECTURES[facts.arch_name](facts)
    if "crashtime" in facts.numbers:
        yield f"CRASHTIME={facts.numbers['crashtime']}"


def _sections(facts: Facts) -> Iterator[str]:
    """SYMBOL(mem_section) is the value of the pointer, not its address."""
    graph, numbers = facts.types, facts.numbers
    if "mem_section" in numbers:
        yield f"SYMBOL(mem_section)={numbers['mem_section']:x}"
    bits = numbers.get("section_size_bits"), numbers.get("max_physmem_bits")
    size = graph.sizeof("struct mem_section")
    roots = numbers.get("section_roots")
    if roots is None and bits[0] is not None and bits[1] is not None:
        per_root = facts.page_size // size
        roots = -(-(1 << (bits[1] - bits[0])) // per_root)
    if roots is not None:
        yield f"LENGTH(mem_section)={roots}"
    yield f"SIZE(mem_section)={size}"
    place = graph.offsetof("mem_section.section_mem_map")
    yield f"OFFSET(mem_section.section_mem_map)={place}"
    if bits[0] is not None:
        yield f"NUMBER(SECTION_SIZE_BITS)={bits[0]}"
    if bits[1] is not None:
        yield f"NUMBER(MAX_PHYSMEM_BITS)={bits[1]}"


def _page_numbers(graph: TypeGraph, is_new: bool) -> Iterator[str]:
    yield f"NUMBER(NR_FREE_PAGES)={graph.enumerator('NR_FREE_PAGES')}"
    names = PAGE_FLAGS if is_new else (*PAGE_FLAGS, "PG_slab")
    for name in (*names, "PG_hwpoison"):
        if graph.has_enumerator(name):
            yield f"NUMBER({name})={graph.enumerator(name)}"
    yield f"NUMBER(PG_head_mask)={1 << graph.enumerator('PG_head')}"
    if is_new:
        for name, constant in PAGE_TYPES.items():
            # 6.12 has unaccepted pages, but does not say so in the note yet; this
            # member is as old as the key.
            if name == "UNACCEPTED" and not graph.has("zone.unaccepted_cleanup"):
                continue
            if graph.has_enumerator(constant):
                value = (graph.enumerator(constant) << 24) - (1 << 32)
                yield f"NUMBER(PAGE_{name}_MAPCOUNT_VALUE)={value}"
        return
    for name, value in EARLIER_PAGE_TYPES.items():
        if name == "OFFLINE" and graph.has_enumerator("HUGETLB_PAGE_DTOR"):
            number = graph.enumerator("HUGETLB_PAGE_DTOR")
            yield f"NUMBER(HUGETLB_PAGE_DTOR)={number}"
        yield f"NUMBER(PAGE_{name}_MAPCOUNT_VALUE)={value}"


def _x86_64(facts: Facts) -> Iterator[str]:
    numbers = facts.numbers
    yield f"NUMBER(phys_base)={facts.phys_base}"
    yield from _symbols(facts, "init_top_pgt")
    yield f"NUMBER(pgtable_l5_enabled)={int(numbers.get('levels', 4) == 5)}"
    yield from _symbols(facts, "node_data")
    yield f"LENGTH(node_data)={numbers.get('node_data_length', 1024)}"
    yield f"KERNELOFFSET={facts.kaslr_offset:x}"
    yield f"NUMBER(KERNEL_IMAGE_SIZE)={KERNEL_IMAGE_SIZE}"
    yield f"NUMBER(sme_mask)={numbers.get('sme_mask', 0)}"


def _arm64(facts: Facts) -> Iterator[str]:
    numbers = facts.numbers
    yield from _symbols(facts, "node_data")
    yield f"LENGTH(node_data)={numbers.get('node_data_length', 16)}"
    for name, form in ARM64_NUMBERS:
        if name in numbers:
            prefix = "0x" if form == "x" else ""
            yield f"NUMBER({name})={prefix}{numbers[name]:{form}}"
    yield f"KERNELOFFSET={facts.kaslr_offset:x}"
    yield f"NUMBER(KERNELPACMASK)=0x{numbers.get('KERNELPACMASK', 0):x}"


ARCHITECTURES: Mapping[str, Callable[[Facts], Iterator[str]]] = {
    "x86_64": _x86_64,
    "aarch64": _arm64,
}


def _symbols(facts: Facts, *names: str) -> Iterator[str]:
    for name in names:
        address = facts.address(name)
        if address is None and name == "swapper_pg_dir":
            address = facts.address("init_top_pgt")
        if address is not None:
            yield f"SYMBOL({name})={address:x}"


def _has_page_types(graph: TypeGraph) -> bool:
    """Whether this is a kernel of 6.12 or later, as far as the note's list goes."""
    return graph.has_enumerator("PGTY_buddy")
