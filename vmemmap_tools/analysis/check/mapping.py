# SPDX-License-Identifier: LGPL-2.1-or-later
"""Rules S4 and S5: what of the vmemmap is mapped, and how.

Mirrors ``mm/sparse-vmemmap.c`` and ``section_activate()`` of ``mm/sparse.c``.
"""

from __future__ import annotations

from collections.abc import Iterator

from ...kernel.sections import Section
from ...kernel.table_frames import for_each_upper_entry
from ...target.base import Fault
from .context import Context
from .findings import Place, Violation, hexed
from .known import ALTMAP_ERROR_PATH
from .registry import rule

__all__ = ["expected_in_slot"]

MAX_REMAINS = 1024
"""Remains of entries that are told one by one."""


def _populated(context: Context, section: Section) -> list[tuple[int, int]]:
    """(first pfn, pages) of what must have struct pages. Raises `Fault`."""
    g = context.geometry
    if section.is_early:
        return [(section.start_pfn, g.pages_per_section)]
    bits = context.kernel.sections.subsection_map(section)
    if bits is None:
        return []
    step = g.pages_per_subsection
    return [
        (section.start_pfn + i * step, step)
        for i in range(context.kernel.sections.subsections_per_section)
        if bits >> i & 1
    ]


@rule(
    "S4",
    "every struct page of a populated section or subsection is mapped, as kernel data",
    severity="E",
    holds="all",
    reads=("mem_section", "vmemmap page tables"),
    bug='shared PMD or PTE pages freed too early; the class of "x86/mm: fix freeing of '
    'PMD-sized vmemmap pages"; a compound depopulated with the wrong size',
    why="pfn_valid() promises a struct page: whoever follows it into a hole, or "
    "through an entry with reserved bits, faults; user access, execution and other "
    "cacheability are not for kernel data.",
    look="vmemmap map --section NR; vmemmap walk VA",
    racy=True,
    exceptions="Flags that all leaves have alike are the kernel's choice.",
)
def populated_is_mapped(context: Context) -> Iterator[Violation]:
    yield from _holes(context)
    yield from _odd_flags(context)
    yield from _reserved_bits(context)


def _holes(context: Context) -> Iterator[Violation]:
    kernel, present = context.kernel, context.geometry.table_format.present_mask
    for section in kernel.sections:
        if not section.has_mem_map:
            continue
        context.saw()
        try:
            units = _populated(context, section)
        except Fault as fault:
            context.unread(fault, "mem_section_usage")
            continue
        for pfn, count in units:
            first = kernel.pages.vmemmap_page(pfn)
            last = kernel.vmemmap.page_number(kernel.pages.va(pfn + count) - 1)
            if first < 0 or kernel.vmemmap.is_full(first, last - first + 1):
                continue
            entries = kernel.vmemmap.entries(first, last - first + 1)
            holes = [i for i, e in enumerate(entries) if not e & present]
            if not holes:
                continue
            if kernel.vmemmap.is_absent(first, len(entries)):
                context.leave_out(
                    f"section {section.nr}: a page table of its vmemmap is not here, "
                    "or is that of another part (F11)"
                )
                continue
            va = kernel.vmemmap.page_va(first + holes[0])
            yield Violation(
                Place("section", section.nr),
                "populated but not mapped",
                f"{len(holes)} of {len(entries)} vmemmap pages of section {section.nr} "
                f"from pfn {pfn:#x} on are not mapped, though the section says that "
                "they are populated",
                "mapped",
                "hole",
                {**hexed(va=va), "holes": len(holes), "start_pfn": pfn},
            )


def _section_of(context: Context, va: int) -> Place:
    pfn = max(0, context.kernel.pages.pfn(va))
    return Place("section", pfn // context.geometry.pages_per_section)


def _odd_flags(context: Context) -> Iterator[Violation]:
    """Leaves that other processors' users, or the fetching of code, may go through."""
    vmemmap, fmt = context.kernel.vmemmap, context.geometry.table_format
    leaves = vmemmap.base_leaves + vmemmap.huge_leaves
    names = dict(fmt.flags)
    for odd in vmemmap.flags.odd.values():
        if odd.leaves >= leaves:
            continue
        name = names.get(odd.bit) or f"bit {odd.bit}"
        is_set = odd.entry >> odd.bit & 1
        va = vmemmap.page_va(odd.page)
        yield Violation(
            _section_of(context, va),
            f"leaf {'with' if is_set else 'without'} {name}",
            f"{odd.leaves} of {leaves} leaves of the vmemmap, the first at {va:#x}, "
            f"are {'' if is_set else 'not '}marked {name}",
            f"{'clear' if is_set else 'set'}, as elsewhere",
            "set" if is_set else "clear",
            {**hexed(va=va, entry=odd.entry), "leaves": odd.leaves},
        )


def _reserved_bits(context: Context) -> Iterator[Violation]:
    kernel, fmt = context.kernel, context.geometry.table_format
    window = context.geometry.vmemmap_window
    for upper in for_each_upper_entry(kernel.page_table, *window):
        if not upper.entry & fmt.present_mask:
            continue
        wrong = fmt.reserved_bits(upper.entry, upper.level)
        if wrong:
            yield Violation(
                _section_of(context, upper.va),
                f"reserved bits at level {upper.level}",
                f"the entry of level {upper.level} for {upper.va:#x} has reserved bits "
                "set: every access below it faults",
                "0x0",
                f"{wrong:#x}",
                {**hexed(va=upper.va, entry=upper.entry), "level": upper.level},
            )


@rule(
    "S5",
    "nothing is mapped where no section or subsection is populated",
    severity="W",
    holds="all",
    reads=("mem_section", "vmemmap page tables"),
    bug="a leak on deactivation: freed with the wrong altmap in memory_hotplug's "
    "error path, or without its pgmap",
    why="depopulate_section_memmap() must undo what populating did; what stays mapped "
    "is memory lost, or a window onto memory that has another owner by now.",
    look="vmemmap map --section NR; vmemmap page VA: which frame is behind it",
    needs=("sections",),
    racy=True,
    exceptions="A huge leaf spans neighbouring subsections (x86 fills the rest with "
    "0xFD) and, where sections are small, several sections. Accessed and dirty bits "
    "in an empty entry are the processor's.",
)
def mapped_is_populated(context: Context) -> Iterator[Violation]:
    yield from _extra_leaves(context)
    yield from _remains(context)
    yield from _empty_tables(context)


def _empty_tables(context: Context) -> Iterator[Violation]:
    """Tables that map nothing: the kernel frees those that it has emptied."""
    kernel, vmemmap = context.kernel, context.kernel.vmemmap
    fmt, window = context.geometry.table_format, context.geometry.vmemmap_window
    entries = list(for_each_upper_entry(kernel.page_table, *window))
    for upper, below in zip(entries, [*entries[1:], None]):
        if not upper.entry & fmt.present_mask or fmt.is_leaf(upper.entry, upper.level):
            continue
        first = vmemmap.page_number(upper.va)
        if upper.level > 2:
            is_empty = below is None or below.level >= upper.level
        else:
            is_empty = not vmemmap.is_full(first) and not any(
                vmemmap.entries(first, vmemmap.pages_per_slot)
            )
        if is_empty and not vmemmap.is_absent(first):
            yield Violation(
                _section_of(context, upper.va),
                f"empty page table of level {upper.level - 1}",
                f"the entry of level {upper.level} for {upper.va:#x} leads to a page "
                "table that maps nothing",
                "no entry",
                "an empty table",
                {
                    **hexed(va=upper.va, entry=upper.entry),
                    "frame_pfn": (upper.entry & fmt.address_mask) >> fmt.page_shift,
                },
            )


def _remains(context: Context) -> Iterator[Violation]:
    """Entries that name nothing but are not empty: populating takes them for taken."""
    vmemmap, fmt = context.kernel.vmemmap, context.geometry.table_format
    per_slot, empty = vmemmap.pages_per_slot, fmt.present_mask | fmt.stray_mask
    places = [
        (upper.va, upper.entry, upper.level)
        for upper in for_each_upper_entry(
            context.kernel.page_table, *context.geometry.vmemmap_window
        )
        if not upper.entry & fmt.present_mask and upper.entry & ~empty
    ]
    for first, is_huge in vmemmap.slots():
        if is_huge or vmemmap.is_full(first):
            continue
        for i, entry in enumerate(vmemmap.entries(first, per_slot)):
            if not entry & fmt.present_mask and entry & ~empty:
                places.append((vmemmap.page_va(first + i), entry, 1))
                if len(places) >= MAX_REMAINS:
                    break
    for va, entry, level in places[:MAX_REMAINS]:
        yield Violation(
            _section_of(context, va),
            f"remains in an empty entry of level {level}",
            f"the entry of level {level} for {va:#x} maps nothing, but is not empty: "
            "whoever populates it takes it for populated",
            "0x0",
            f"{entry:#x}",
            {**hexed(va=va, entry=entry), "level": level},
        )


def _extra_leaves(context: Context) -> Iterator[Violation]:
    kernel, fmt = context.kernel, context.geometry.table_format
    vmemmap, per_slot = kernel.vmemmap, kernel.vmemmap.pages_per_slot
    for first, is_huge in vmemmap.slots():
        context.saw()
        expected = expected_in_slot(context, first, per_slot)
        if expected is None or all(expected) or (is_huge and any(expected)):
            continue
        entries = vmemmap.entries(first, per_slot)
        extra = [
            i
            for i, (entry, wanted) in enumerate(zip(entries, expected))
            if entry & fmt.present_mask and not wanted
        ]
        if not extra:
            continue
        number = first + extra[0]
        pfn = kernel.pages.pfn(vmemmap.page_va(number))
        frame = vmemmap.frame(number)
        altmap = any(
            r.pgmap.altmap is not None
            for r in context.device_ranges_in(frame, frame + 1)
        )
        yield Violation(
            Place("section", pfn // context.geometry.pages_per_section),
            "mapped without a section",
            f"{len(extra)} vmemmap pages from pfn {pfn:#x} on are mapped, but no "
            "populated section or subsection is there",
            "hole",
            "mapped",
            {
                **hexed(va=vmemmap.page_va(number), entry=entries[extra[0]]),
                "start_pfn": pfn,
                "frame_pfn": frame,
                "pages": len(extra),
            },
            known_issue=ALTMAP_ERROR_PATH if altmap else None,
        )


def expected_in_slot(context: Context, first: int, count: int) -> list[bool] | None:
    """For each vmemmap page of a slot whether a section accounts for it.

    None when a bitmap could not be read.
    """
    kernel, g = context.kernel, context.geometry
    expected = [False] * count
    start_pfn = max(0, kernel.pages.pfn(kernel.vmemmap.page_va(first)))
    end_pfn = kernel.pages.pfn(kernel.vmemmap.page_va(first + count) - 1) + 1
    for section in kernel.sections.between(start_pfn, end_pfn):
        if not section.has_mem_map:
            continue
        try:
            units = _populated(context, section)
        except Fault as fault:
            context.unread(fault, "mem_section_usage")
            return None
        if not units and not section.is_early and not section.usage_va:
            units = [(section.start_pfn, g.pages_per_section)]
        for pfn, pages in units:
            low = kernel.pages.vmemmap_page(pfn)
            high = kernel.vmemmap.page_number(kernel.pages.va(pfn + pages) - 1) + 1
            low, high = max(0, low - first), min(count, high - first)
            if low < high:
                expected[low:high] = [True] * (high - low)
    return expected
