# SPDX-License-Identifier: LGPL-2.1-or-later
"""Rules P3 and P4: pageblocks and top-level page tables of device memory.

Mirrors ``memmap_init_zone_device()`` of ``mm/mm_init.c`` and x86's
``sync_global_pgds()``.
"""

from __future__ import annotations

from collections.abc import Iterator

from ...kernel.pgds import Pgds
from ...target.base import Fault
from .context import Context, DeviceRange
from .findings import Place, Violation, hexed
from .known import DAX_MIGRATETYPE, MISSING_PGD_SYNC
from .pgmaps import place, without_maps
from .registry import rule

__all__: list[str] = []


def _pageblocks_apply(context: Context) -> str | None:
    if not context.pageblocks.is_known:
        return "this kernel's pageblock flags cannot be decoded"
    return without_maps(context)


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
    assert blocks.order is not None
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
