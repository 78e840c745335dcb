# SPDX-License-Identifier: LGPL-2.1-or-later
"""Rules S1 to S3: mem_section entries.

Mirrors ``include/linux/mmzone.h`` and ``mm/sparse.c``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from ...kernel.bit_numbers import bit_number
from ...kernel.sections import Section
from ...target.base import Fault
from .context import Context
from .findings import Place, Violation, hexed
from .known import WRONG_MAP_MASK
from .registry import rule
from .section_words import states_agree, usages_are_sound, words_are_clear

__all__: list[str] = []

HIGHEST = ("__highest_present_section_nr", "__highest_used_section_nr")


def place(section: Section) -> Place:
    return Place("section", section.nr)


@rule(
    "S1",
    "a section with a memmap is marked present, online as its memory block is, has a "
    "usage structure of its own, lies below the highest present section and has no "
    "unknown flag bits",
    severity="E",
    holds="all",
    reads=("mem_section", "mem_section_usage", "memory blocks"),
    bug="memory corruption; a reader with the wrong SECTION_MAP_LAST_BIT",
    why="sparse_init_one_section() and section_activate() set these together; "
    "pfn_valid() and the hot-remove path dereference usage without a test.",
    look="vmemmap sections NR; in drgn: prog['mem_section'][root][slot]",
    racy=True,
    exceptions="SECTION_MARKED_PRESENT goes away in future kernels; hot remove "
    "clears HAS_MEM_MAP before it zeroes the word: a warning. Flags below "
    "SECTION_MAP_LAST_BIT that this tool does not know belong to a newer kernel: "
    "information.",
)
def section_is_whole(context: Context) -> Iterator[Violation]:
    yield from _words(context)
    yield from usages_are_sound(context)
    yield from states_agree(context)
    if not context.is_booting:
        yield from words_are_clear(context)


def _words(context: Context) -> Iterator[Violation]:
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
    racy=True,
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
    "a section has some subsection, a hot-added one none outside known memory; memory "
    "in use is in one",
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
    "says yes: of memory that is reserved or never set up. While booting the bitmaps "
    "are being filled.",
)
def subsections_are_memory(context: Context) -> Iterator[Violation]:
    if context.is_booting:
        context.leave_out("the kernel was still booting: bitmaps were being filled")
        return
    kernel, g = context.kernel, context.geometry
    for section in kernel.sections:
        if not section.has_mem_map or not section.usage_va:
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
        if section.is_early:
            yield from _unmarked_memory(context, section, bits)
            continue
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


def _unmarked_memory(
    context: Context, section: Section, bits: int
) -> Iterator[Violation]:
    """Subsections of an early section that are in use, yet not in its bitmap."""
    kernel, step = context.kernel, context.geometry.pages_per_subsection
    reserved = bit_number(kernel.target, "PG_reserved")
    if reserved is None or not context.flags_trusted or not section.is_online:
        return
    for i in range(kernel.sections.subsections_per_section):
        pfn = section.start_pfn + i * step + step // 2
        if bits >> i & 1:
            continue
        try:
            page = kernel.pages.page(pfn)
        except Fault as fault:
            if fault.kind != "unmapped":  # S4 tells of holes
                context.unread(fault, "struct pages of subsections")
            continue
        zone = kernel.zones.get(kernel.pages.node(page), kernel.pages.zone_index(page))
        is_used = page.flags and not page.is_poisoned and not page.flags >> reserved & 1
        if is_used and zone is not None and zone.spans(pfn):
            yield Violation(
                place(section),
                "memory without a subsection",
                f"section {section.nr} does not claim subsection {i} (pfn "
                f"{pfn - step // 2:#x}), whose struct pages are those of memory in use",
                "set",
                "clear",
                hexed(subsection_map=bits, usage_va=section.usage_va, flags=page.flags),
            )
