# SPDX-License-Identifier: LGPL-2.1-or-later
"""Rules P2 to P4: struct pages, pageblocks and page tables of device memory.

Mirrors ``memmap_init_zone_device()`` of ``mm/mm_init.c`` and x86's
``sync_global_pgds()``.
"""

from __future__ import annotations

from collections.abc import Iterator

from ...kernel.pages import PAGES_OF_FOLIO_HEAD
from ...kernel.pgds import Pgds
from ...kernel.pgmap import Pgmap
from ...kernel.strided import strided_u64
from ...target.base import Fault
from ..dax import compounds_of
from .context import Context, DeviceRange
from .findings import Place, Violation, hexed
from .known import DAX_MIGRATETYPE, DAX_UNINITIALISED, MISSING_PGD_SYNC
from .pgmaps import place
from .registry import rule

__all__: list[str] = []

POISON = (1 << 64) - 1
CHUNK_PAGES = 1 << 15


def _has_maps(context: Context) -> str | None:
    if context.kernel.target.variable("pgmap_array") is None:
        return "this kernel has no pgmap_array"
    return None


@rule(
    "P2",
    "every struct page of device memory is initialised: zone Device, its node, "
    "PG_reserved; heads name their map and have its order",
    severity="E",
    holds="all",
    reads=("struct pages of device memory", "pgmaps", "zones"),
    bug='"mm/mm_init: fix uninitialized struct pages for ZONE_DEVICE": memory added to '
    "an early section was initialised as if its vmemmap were shared",
    why="page_zone(), page_to_nid() and the map of a page are taken from here by "
    "everything that gets hold of a device page.",
    look="vmemmap page pfn:N",
    applies=_has_maps,
    racy=True,
    thorough=True,
    exceptions="The struct pages of what an altmap reserves are not initialised.",
)
def device_pages_are_initialised(context: Context) -> Iterator[Violation]:
    if context.device_zone is None:
        return
    for one in context.device_ranges:
        if not context.shift_is_sane(one.pgmap):
            continue  # P8 tells
        parts = _parts(context, one.pgmap, one.first_pfn, one.end)
        for head, pfn, count in context.track("device struct pages", parts):
            yield from _judge_pages(context, one.pgmap, one.first_pfn, head, pfn, count)


def _parts(
    context: Context, pgmap: Pgmap, start: int, end: int
) -> Iterator[tuple[int | None, int, int]]:
    """(head pfn, first pfn, count) of struct pages that are each compound's own."""
    kernel, spp = context.kernel, context.geometry.struct_pages_per_page
    per_section = context.geometry.pages_per_section
    if not pgmap.vmemmap_shift or not context.geometry.vmemmap_pages(
        pgmap.vmemmap_shift
    ):
        for section in kernel.sections.between(start, end):
            low = max(start, section.start_pfn)
            high = min(end, section.start_pfn + per_section)
            yield None, low, high - low
        return
    for head, backing in compounds_of(kernel, pgmap, start, end):
        if backing.layout == "page1-shared":
            yield head, head, 2 * spp
        elif backing.is_optimised:
            yield head, head, spp
        else:
            step = min(1 << pgmap.vmemmap_shift, CHUNK_PAGES)
            for first in range(head, head + (1 << pgmap.vmemmap_shift), step):
                yield head, first, step


def _judge_pages(
    context: Context, pgmap: Pgmap, start: int, head: int | None, pfn: int, count: int
) -> Iterator[Violation]:
    kernel, pages = context.kernel, context.kernel.pages
    flags_at, map_at = pages.flags_offset, _pgmap_offset(context)
    # Pages that are no part of a compound each name their map. The other words are
    # for `page`, which asks a capsule about any of these struct pages.
    offsets = sorted({*pages.decoded_words, *([] if map_at is None else [map_at])})
    is_first = head is None or head == pfn
    try:
        if is_first and pgmap.vmemmap_shift:
            data = pages.read_heads(pfn, count, offsets)
        else:
            data = pages.read_words(pfn, count, offsets)
    except Fault as fault:
        if fault.kind != "unmapped":  # S4 tells of holes
            context.unread(fault, "struct pages of device memory", count)
        return
    context.saw(count)
    flags = strided_u64(data, flags_at, pages.size, kernel.target.byteorder)
    node = context.map_nodes.of(pgmap)
    bad_values = {f for f in set(flags) if not _is_device_page(context, f, pfn, node)}
    if bad_values:
        bad = [i for i, f in enumerate(flags) if f in bad_values]
        first = pfn + bad[0]
        value = flags[bad[0]]
        blank = value in (0, POISON)
        section = kernel.sections.of_pfn(first)
        late = (
            head is None or first - head >= 2 * context.geometry.struct_pages_per_page
        )
        is_early = section is not None and section.is_early
        yield Violation(
            place(start),
            "uninitialised struct pages" if blank else "struct pages of another zone",
            f"{len(bad)} struct pages of device memory from pfn {first:#x} on "
            + (
                "were never initialised"
                if blank
                else f"say node {pages.node_of(value)}, zone "
                f"{kernel.zone_name(pages.zone_index_of(value))}"
            ),
            "zone Device, PG_reserved",
            f"{value:#x}",
            {
                **hexed(page_va=pages.va(first), pgmap_va=pgmap.va),
                "first_pfn": first,
                "struct_pages": len(bad),
            },
            known_issue=DAX_UNINITIALISED if is_early and late and head else None,
        )
    elif is_first:
        if pgmap.vmemmap_shift:
            data = data[: PAGES_OF_FOLIO_HEAD * pages.size]
            yield from _judge_order(context, pgmap, start, pfn, data)
            data = data[: pages.size]
        if map_at is not None:
            maps = strided_u64(data, map_at, pages.size, kernel.target.byteorder)
            yield from _judge_maps(context, pgmap, start, pfn, maps)


def _is_device_page(context: Context, flags: int, pfn: int, node: int | None) -> bool:
    """Whether these are the flags of a struct page of device memory on a node.

    Where the node is unknown, any will do whose device zone spans the pfn.
    """
    if flags == POISON or not flags:
        return False
    reserved = context.kernel.target.enumerator("PG_reserved")
    if reserved is not None and not flags >> reserved & 1:
        return False
    if not context.flags_trusted:
        return True
    pages = context.kernel.pages
    index = pages.zone_index_of(flags)
    if node is not None and pages.node_of(flags) != node:
        return False
    zone = context.kernel.zones.get(pages.node_of(flags), index)
    if zone is None and context.gap("zones") is not None:
        return index == context.device_zone
    return index == context.device_zone and zone is not None and zone.spans(pfn)


def _pgmap_offset(context: Context) -> int | None:
    """Where a head keeps its map: ``folio.pgmap``, before 6.15 ``page.pgmap``."""
    page = context.kernel.pages.struct
    if "pgmap" in page:
        return page.offset("pgmap")
    folio = context.kernel.target.struct("folio")
    return folio.offset("pgmap") if folio is not None and "pgmap" in folio else None


def _judge_order(
    context: Context, pgmap: Pgmap, start: int, pfn: int, data: bytes
) -> Iterator[Violation]:
    pages = context.kernel.pages
    found = None
    if pages.flags_of(data) & pages.head_bit:
        found = pages.compound.order_of(data)
    if found != pgmap.vmemmap_shift:
        yield Violation(
            place(start),
            "device head of another order",
            f"the struct page at pfn {pfn:#x} should be the head of a device "
            f"compound of order {pgmap.vmemmap_shift}, but has "
            f"{'no head flag' if found is None else f'order {found}'}",
            pgmap.vmemmap_shift,
            found,
            hexed(page_va=pages.va(pfn), pgmap_va=pgmap.va),
        )


def _judge_maps(
    context: Context, pgmap: Pgmap, start: int, pfn: int, words: list[int]
) -> Iterator[Violation]:
    """The words of struct pages from ``pfn`` on where a head keeps its map."""
    wrong = [
        (i, v)
        for i, v in enumerate(words)
        if v != pgmap.va and not _is_tail_of_range(context, pgmap, start, pfn + i, v)
    ]
    if wrong:
        i, value = wrong[0]
        yield Violation(
            place(start),
            "device page of another map",
            f"{len(wrong)} struct pages from pfn {pfn + i:#x} on do not name the map "
            "of their range",
            f"{pgmap.va:#x}",
            f"{value:#x}",
            {
                **hexed(page_va=context.kernel.pages.va(pfn + i), pgmap_va=pgmap.va),
                "struct_pages": len(wrong),
            },
        )


def _is_tail_of_range(
    context: Context, pgmap: Pgmap, start: int, pfn: int, word: int
) -> bool:
    """Whether a word says that a page is a tail of a large folio before it.

    File systems on DAX (since 6.15) and drivers with memory of their own make large
    folios of single device pages while those are in use; the map stands in the head.
    """
    if pgmap.vmemmap_shift or not word & 1:
        return False
    pages = context.kernel.pages
    head_va = pages.va(pfn) & word if pages.has_mask else word - 1
    return start <= pages.pfn(head_va) < pfn


def _pageblocks_apply(context: Context) -> str | None:
    if not context.pageblocks.is_known:
        return "this kernel's pageblock flags cannot be decoded"
    return _has_maps(context)


@rule(
    "P3",
    "every pageblock of device memory is MIGRATE_MOVABLE",
    severity="E",
    holds="all",
    reads=("pageblock flags", "pgmaps"),
    bug='"mm/mm_init: fix pageblock migratetype for ZONE_DEVICE compound pages"',
    why="memmap_init_zone_device() sets it for each pageblock; with compounds larger "
    "than one only the first got it, the others read as MIGRATE_UNMOVABLE.",
    look="mem_section_usage.pageblock_flags of the section",
    applies=_pageblocks_apply,
    racy=True,
    exceptions="Parts of a section outside the range. Kernels known to set only the "
    "first: a warning, since nothing allocates from device memory.",
)
def device_pageblocks_are_movable(context: Context) -> Iterator[Violation]:
    blocks = context.pageblocks
    for one in context.device_ranges:
        compound = 1 << min(one.pgmap.vmemmap_shift, context.max_folio_order)
        wrong: list[tuple[int, int]] = []
        followers = 0
        for pfn, migratetype in _pageblocks(context, one):
            followers += (pfn - one.first_pfn) % compound != 0
            if migratetype != blocks.migratetypes.get("MIGRATE_MOVABLE"):
                wrong.append((pfn, migratetype))
        if not wrong:
            continue
        is_known = (
            len(wrong) == followers
            and all((pfn - one.first_pfn) % compound for pfn, _ in wrong)
            and {t for _, t in wrong} == {0}
        )
        pfn, migratetype = wrong[0]
        yield Violation(
            place(one.first_pfn),
            "only first pageblocks movable" if is_known else "unmovable pageblocks",
            f"{len(wrong)} pageblocks of the device range at pfn {one.start:#x} are "
            f"{blocks.name(migratetype)}, the first at pfn {pfn:#x}",
            "MIGRATE_MOVABLE",
            blocks.name(migratetype),
            {
                **hexed(pgmap_va=one.pgmap.va),
                "pageblocks": len(wrong),
                "first_pfn": pfn,
            },
            severity="W" if is_known else None,
            known_issue=DAX_MIGRATETYPE if is_known else None,
        )


def _pageblocks(context: Context, one: DeviceRange) -> Iterator[tuple[int, int]]:
    """(first pfn, migratetype) of the pageblocks that lie inside a range."""
    blocks = context.pageblocks
    step = 1 << blocks.order
    for section in context.kernel.sections.between(one.first_pfn, one.end):
        if not section.has_mem_map:
            continue
        try:
            types = blocks.of_section(section)
        except Fault as fault:
            context.unread(fault, "pageblock flags")
            continue
        for i, migratetype in enumerate(types):
            pfn = section.start_pfn + i * step
            if one.first_pfn <= pfn and pfn + step <= one.end:
                context.saw()
                yield pfn, migratetype


def _pgds(context: Context) -> Pgds:
    kernel = context.kernel
    return Pgds(kernel.target, kernel.memory, kernel.pages, kernel.page_table)


@rule(
    "P4",
    "the top-level page tables of all processes map the vmemmap as the kernel's own",
    severity="E",
    holds="x86-64",
    reads=("pgd_list", "top-level page tables"),
    bug='"x86/mm/64: define ARCH_PAGE_TABLE_SYNC_MASK and '
    'arch_sync_kernel_mappings()": populating device compounds bypassed the sync',
    why="each process has a top-level table of its own; an entry that is missing there "
    "faults when that process touches a struct page below it.",
    look="vmemmap walk VA; in drgn: task.mm.pgd[index] against init_mm.pgd[index]",
    applies=lambda context: (
        None if _pgds(context).is_known else "this kernel has no pgd_list"
    ),
    racy=True,
    exceptions="Only the first use of a top-level entry matters, once per 32 TiB of "
    "physical span with four levels.",
)
def top_levels_agree(context: Context) -> Iterator[Violation]:
    pgds, vmemmap = _pgds(context), context.kernel.vmemmap
    walk = pgds.walk()
    if walk.fault is not None:
        context.unread(walk.fault, "top-level page tables")
    if walk.damage is not None:
        yield Violation(
            Place("list", "pgd_list"),
            "damaged list",
            f"pgd_list has {walk.damage}",
            "a sound list",
            walk.damage,
            {"entries": len(walk.entries)},
        )
    slots = pgds.slots(vmemmap.page_va(first) for first, _ in vmemmap.slots())
    root = pgds.root()
    fmt = context.geometry.table_format
    mask = fmt.address_mask | fmt.present_mask
    for pfn in pgds.pfns(walk):
        context.saw()
        try:
            table = pgds.read(pfn)
        except Fault as fault:
            context.unread(fault, "top-level page tables")
            continue
        for slot in slots:
            if table[slot] & mask == root[slot] & mask:
                continue
            gone = not table[slot] & fmt.present_mask
            yield Violation(
                Place("frame", pfn),
                "top-level entry missing" if gone else "top-level entry differs",
                f"entry {slot} of the top-level page table in frame {pfn:#x} is "
                f"{table[slot]:#x}, the kernel's own is {root[slot]:#x}",
                f"{root[slot]:#x}",
                f"{table[slot]:#x}",
                {"index": slot, "frame_pfn": pfn},
                known_issue=MISSING_PGD_SYNC if gone else None,
            )
