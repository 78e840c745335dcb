# SPDX-License-Identifier: LGPL-2.1-or-later
"""Rules S1 to S5: mem_section entries and the mapping of their memmap.

Mirrors ``include/linux/mmzone.h`` and ``mm/sparse.c``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from ...kernel.sections import Section
from ...target.base import Fault
from .context import Context
from .findings import Place, Violation, hexed
from .known import ALTMAP_ERROR_PATH, WRONG_MAP_MASK
from .registry import rule

__all__ = ["expected_in_slot"]

HIGHEST = ("__highest_present_section_nr", "__highest_used_section_nr")


def place(section: Section) -> Place:
    return Place("section", section.nr)


@rule(
    "S1",
    "a section with a memmap is marked present, has a usage structure, lies below "
    "the highest present section and has no unknown flag bits",
    severity="E",
    holds="all",
    reads=("mem_section",),
    bug="memory corruption; a reader with the wrong SECTION_MAP_LAST_BIT",
    why="sparse_init_one_section() and section_activate() set these together; "
    "pfn_valid() and the hot-remove path dereference usage without a test.",
    look="vmemmap sections NR; in drgn: prog['mem_section'][root][slot]",
    racy=True,
    exceptions="SECTION_MARKED_PRESENT goes away in future kernels; hot remove "
    "clears HAS_MEM_MAP before it zeroes the word. Flags below SECTION_MAP_LAST_BIT "
    "that this tool does not know belong to a newer kernel: information.",
)
def section_is_whole(context: Context) -> Iterator[Violation]:
    flags = context.kernel.sections.flags
    named = [
        flags.marked_present,
        flags.has_mem_map,
        flags.is_online,
        flags.is_early,
        flags.taint_zone_device,
        flags.is_vmemmap_preinit,
    ]
    defined = sum(1 << bit for bit in named if bit is not None)
    unknown = (1 << flags.last_bit) - 1 & ~defined
    target = context.kernel.target
    highest = next(filter(None, map(target.unsigned, HIGHEST)), None)
    for section in context.kernel.sections:
        context.saw()
        word = hexed(section_mem_map=section.word)
        if not section.has_mem_map:
            continue
        if flags.marked_present is not None and not (
            section.word >> flags.marked_present & 1
        ):
            yield Violation(
                place(section),
                "memmap without the present flag",
                f"section {section.nr} has a memmap but is not marked present",
                "SECTION_MARKED_PRESENT",
                section.flag_names(),
                word,
            )
        if "usage" in context.kernel.sections.struct and not section.usage_va:
            yield Violation(
                place(section),
                "memmap without usage",
                f"section {section.nr} has a memmap but no mem_section_usage",
                "a pointer",
                None,
                word,
            )
        if section.word & unknown:
            yield Violation(
                place(section),
                "unknown flag bits",
                f"section {section.nr} has flags that this tool does not know",
                "0x0",
                f"{section.word & unknown:#x}",
                word,
                severity="I",
            )
        if highest is not None and section.nr > highest:
            yield Violation(
                place(section),
                "above the highest section",
                f"section {section.nr} has a memmap, yet the highest present section "
                f"is {highest}",
                highest,
                section.nr,
                word,
            )


def _base_candidates(context: Context) -> tuple[int, str] | None:
    """The value of the kernel's ``vmemmap``, where the window starts with it."""
    text = context.kernel.target.vmcoreinfo.get("SYMBOL(vmemmap)")
    if text is not None:
        return int(text, 16), "VMCOREINFO SYMBOL(vmemmap)"
    value = context.kernel.target.unsigned("vmemmap_base")
    return None if value is None else (value, "variable vmemmap_base")


@rule(
    "S2",
    "all sections with a memmap decode to the same map pointer, and it is vmemmap",
    severity="E",
    holds="all",
    reads=("mem_section", "vmemmap_base"),
    bug="memory corruption; decoding with the wrong number of flag bits, which "
    "shifts the pointer (0x20 for SECTION_IS_VMEMMAP_PREINIT)",
    why="section_mem_map holds the memmap minus the section's first pfn, and the "
    "vmemmap is one array: pfn_to_page() never reads the section.",
    look="vmemmap sections --format json | jq '.rows[].memmap_va'",
)
def one_map_base(context: Context) -> Iterator[Violation]:
    sections = [s for s in context.kernel.sections if s.has_mem_map]
    context.saw(len(sections))
    if not sections:
        return
    bases = Counter(s.map_base for s in sections)
    known = _base_candidates(context)
    expected, source = known or (bases.most_common(1)[0][0], "most sections")
    assert expected is not None
    for section in sections:
        base = section.map_base
        if base is None or base == expected:
            continue
        shift = base - expected
        is_flag = shift in (0x8, 0x10, 0x20, 0x40) and len(bases) <= 2
        yield Violation(
            place(section),
            "map pointer off by a flag bit" if is_flag else "wrong map pointer",
            f"section {section.nr}'s memmap pointer decodes to {base:#x}, but vmemmap "
            f"is {expected:#x} ({source})",
            f"{expected:#x}",
            f"{base:#x}",
            hexed(section_mem_map=section.word, map_mask=section.flags.map_mask),
            known_issue=WRONG_MAP_MASK if is_flag else None,
        )


def _is_known_memory(context: Context, section: Section, start: int, end: int) -> bool:
    """Whether a device map or a memory block has any of these pfns.

    RAM is hot-added by whole memory blocks. Zones say less: their spans have holes, and
    count only where no block could be found.
    """
    kernel = context.kernel
    if any(context.device_ranges_in(start, end)):
        return True
    if context.has_memory_blocks:
        return kernel.sections.memory_block(section) is not None
    return any(z.start_pfn < end and start < z.end_pfn for z in kernel.zones)


@rule(
    "S3",
    "a hot-added section has some subsection, and none outside known memory",
    severity="E",
    holds="all",
    reads=("mem_section_usage", "memory blocks", "pgmaps"),
    bug="an error path of section activation that leaves bits of subsection_map set",
    why="section_deactivate() frees the section when its last subsection goes; a bit "
    "left behind makes pfn_valid() true for memory that is not there.",
    look="vmemmap sections NR: the count of subsections; /proc/iomem of the machine",
    needs=("zones", "device maps", "memory blocks"),
    racy=True,
    exceptions="Early sections may have holes in the bitmap although pfn_valid() "
    "says yes.",
)
def subsections_are_memory(context: Context) -> Iterator[Violation]:
    kernel, g = context.kernel, context.geometry
    for section in kernel.sections:
        if section.is_early or not section.has_mem_map or not section.usage_va:
            continue
        try:
            bits = kernel.sections.subsection_map(section)
        except Fault as fault:
            context.unread(fault, "mem_section_usage")
            continue
        if bits is None:
            continue
        context.saw()
        if not bits:
            yield Violation(
                place(section),
                "no subsection",
                f"section {section.nr} has a memmap but no subsection in its bitmap",
                "some bit",
                "0x0",
                hexed(usage_va=section.usage_va),
            )
        for i in range(kernel.sections.subsections_per_section):
            start = section.start_pfn + i * g.pages_per_subsection
            if not bits >> i & 1 or _is_known_memory(
                context, section, start, start + g.pages_per_subsection
            ):
                continue
            yield Violation(
                place(section),
                "subsection outside known memory",
                f"section {section.nr} claims subsection {i} (pfn {start:#x}), where "
                "no zone, memory block or device map is",
                "clear",
                "set",
                hexed(subsection_map=bits, usage_va=section.usage_va),
            )


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
    "every struct page of a populated section or subsection is mapped",
    severity="E",
    holds="all",
    reads=("mem_section", "vmemmap page tables"),
    bug='shared PMD or PTE pages freed too early; the class of "x86/mm: fix freeing of '
    'PMD-sized vmemmap pages"; a compound depopulated with the wrong size',
    why="pfn_valid() promises a struct page: whoever follows it into a hole faults.",
    look="vmemmap map --section NR; vmemmap walk VA",
    racy=True,
)
def populated_is_mapped(context: Context) -> Iterator[Violation]:
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
            if first < 0:
                continue
            entries = kernel.vmemmap.entries(first, last - first + 1)
            holes = [i for i, e in enumerate(entries) if not e & present]
            if not holes:
                continue
            if kernel.vmemmap.is_absent(first, len(entries)):
                context.leave_out(
                    f"section {section.nr}: a page table of its vmemmap is not here"
                )
                continue
            va = kernel.vmemmap.page_va(first + holes[0])
            yield Violation(
                place(section),
                "populated but not mapped",
                f"{len(holes)} of {len(entries)} vmemmap pages of section {section.nr} "
                f"from pfn {pfn:#x} on are not mapped, though the section says that "
                "they are populated",
                "mapped",
                "hole",
                {**hexed(va=va), "holes": len(holes), "start_pfn": pfn},
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
    "0xFD) and, where sections are small, several sections.",
)
def mapped_is_populated(context: Context) -> Iterator[Violation]:
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
