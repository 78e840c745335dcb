# SPDX-License-Identifier: LGPL-2.1-or-later
"""Rules S6 to S11: the compound order of sections, mixed and pre-initialised ones.

``mem_section.order`` (later ``compound_page_order``) belongs to the section-based
framework; at run time it means device DAX, since hugetlb resets it after boot.
"""

from __future__ import annotations

from collections.abc import Iterator

from ...kernel.sections import Section
from .context import Context
from .findings import Place, Violation, hexed
from .registry import rule

__all__: list[str] = []

ORDER_KERNELS = "kernels with mem_section.order or compound_page_order"


def place(section: Section) -> Place:
    return Place("section", section.nr)


def _without_order(context: Context) -> str | None:
    return context.lacks("section-order")


def _ordered(context: Context) -> Iterator[tuple[Section, int]]:
    """Sections with a memmap and a compound order."""
    for section in context.kernel.sections:
        if section.has_mem_map and section.order is not None:
            context.saw()
            if section.order:
                yield section, section.order


def _order_is_sane(context: Context, order: int) -> bool:
    minimum = context.geometry.min_optimisable_order
    return minimum <= order <= context.max_folio_order


@rule(
    "S6",
    "a section's order is 0 or within [VMEMMAP_TAIL_MIN_ORDER, MAX_FOLIO_ORDER]",
    severity="E",
    holds=ORDER_KERNELS,
    reads=("mem_section",),
    bug="memory corruption",
    why="population shares tail pages by this order; it indexes zone.vmemmap_tails.",
    look="vmemmap sections NR: ORDER",
    applies=_without_order,
    racy=True,
)
def order_is_possible(context: Context) -> Iterator[Violation]:
    minimum = context.geometry.min_optimisable_order
    for section, order in _ordered(context):
        if not _order_is_sane(context, order):
            yield Violation(
                place(section),
                "impossible section order",
                f"section {section.nr} has order {order}, which no optimised "
                "compound page can have",
                [0, f"{minimum} to {context.max_folio_order}"],
                order,
                hexed(section_mem_map=section.word),
            )


def _order_at_run_time(context: Context) -> str | None:
    if context.is_booting:
        return "the kernel was still booting: hugetlb pages may carry their order"
    return _without_order(context)


@rule(
    "S7",
    "a section with an order is device memory of a pgmap with that vmemmap_shift and "
    "without an altmap, and not early; device memory that shares by order has it",
    severity="E",
    holds=ORDER_KERNELS,
    reads=("mem_section", "pgmaps"),
    bug="an order left behind by the gathering of boot-time huge pages or by the "
    "removal of a device",
    why="the next population of the section would share tail pages where every struct "
    "page is needed; memmap_init() would skip pages that nobody initialises.",
    look="vmemmap sections NR; vmemmap dax",
    applies=_order_at_run_time,
    needs=("device maps",),
    racy=True,
    exceptions="While booting hugetlb sections carry their order. With a zone in "
    "mem_section hugetlb may keep it for good: a warning there.",
)
def order_means_device(context: Context) -> Iterator[Violation]:
    severity = "W" if context.kernel.has("section-zone") else None
    for section, order in _ordered(context):
        if not _order_is_sane(context, order):
            continue
        end = section.start_pfn + context.geometry.pages_per_section
        maps = [r.pgmap for r in context.device_ranges_in(section.start_pfn, end)]
        wrong = None
        if section.is_early:
            wrong = "it is an early section"
        elif not maps:
            wrong = "no device memory is there"
        elif all(p.vmemmap_shift != order for p in maps):
            shifts = ", ".join(str(p.vmemmap_shift) for p in maps)
            wrong = f"its pgmap has vmemmap_shift {shifts}"
        elif any(p.altmap is not None for p in maps):
            wrong = "its pgmap has an altmap"
        if wrong:
            yield Violation(
                place(section),
                "order without optimised device memory",
                f"section {section.nr} has order {order}, but {wrong}",
                0,
                order,
                hexed(section_mem_map=section.word),
                severity=severity,
            )
    if context.kernel.sections.order_member == "compound_page_order":
        yield from _shared_without_order(context)


def _shared_without_order(context: Context) -> Iterator[Violation]:
    """Sections of device memory whose tails are shared, though no order says so."""
    kernel, per_section = context.kernel, context.geometry.pages_per_section
    for one in context.compound_ranges:
        for section in kernel.sections.between(one.first_pfn, one.end):
            end = section.start_pfn + per_section
            if section.order or not section.has_mem_map or section.is_early:
                continue
            if section.start_pfn < one.first_pfn or one.end < end:
                continue
            shift = one.pgmap.vmemmap_shift
            offset = section.start_pfn - one.first_pfn
            head = one.first_pfn + (offset >> shift << shift)
            if head + (1 << shift) > one.end:
                continue
            backing = context.backing_of(head, shift)
            if backing.layout == "zone-shared":
                yield Violation(
                    place(section),
                    "optimised device memory without its order",
                    f"section {section.nr} shares its vmemmap as compounds of order "
                    f"{shift} do, but has no order: its removal frees what it does not "
                    "have",
                    shift,
                    section.order,
                    hexed(section_mem_map=section.word, pgmap_va=one.pgmap.va),
                )


@rule(
    "S8",
    "no huge leaf maps the vmemmap of a section with an order",
    severity="E",
    holds=ORDER_KERNELS,
    reads=("mem_section", "vmemmap page tables"),
    bug="the populate path took a huge page although the section is to be shared",
    why="struct pages in a huge leaf cannot be shared page by page; the accounting "
    "has credited only the pages kept.",
    look="vmemmap map --section NR",
    applies=_without_order,
    racy=True,
)
def no_huge_leaf_with_order(context: Context) -> Iterator[Violation]:
    kernel = context.kernel
    per_section = context.geometry.pages_per_section
    for section, order in _ordered(context):
        if not _order_is_sane(context, order):
            continue
        first = kernel.pages.vmemmap_page(section.start_pfn)
        last = kernel.vmemmap.page_number(
            kernel.pages.va(section.start_pfn + per_section) - 1
        )
        step = kernel.vmemmap.pages_per_slot
        numbers = [first, *range(first - first % step + step, last + 1, step)]
        huge = [n for n in numbers if kernel.vmemmap.slot_kind(n) == "huge"]
        if huge:
            yield Violation(
                place(section),
                "huge leaf in a section with an order",
                f"section {section.nr} has order {order}, yet a huge leaf maps its "
                "vmemmap",
                "base pages",
                "huge leaf",
                hexed(
                    va=kernel.vmemmap.page_va(huge[0]),
                    entry=kernel.vmemmap.entries(huge[0], 1)[0],
                ),
            )


@rule(
    "S9",
    "all sections of one compound page have the same order, and a zone recorded for a "
    "section is one that it lies in",
    severity="E",
    holds=ORDER_KERNELS,
    reads=("mem_section", "pgmaps"),
    bug="a range that was activated in part",
    why="a compound page larger than a section is shared as a whole: each of its "
    "sections must be populated by the same rule.",
    look="vmemmap sections A-B",
    applies=_without_order,
    needs=("zones",),
    racy=True,
)
def compound_has_one_order(context: Context) -> Iterator[Violation]:
    kernel, per_section = context.kernel, context.geometry.pages_per_section
    for one in context.compound_ranges:
        start, end = one.first_pfn, one.end
        step = 1 << one.pgmap.vmemmap_shift
        if step <= per_section:
            continue
        groups: dict[int, list[Section]] = {}
        for section in kernel.sections.between(start, end):
            if section.has_mem_map:
                head = max(0, section.start_pfn - start) // step
                groups.setdefault(head, []).append(section)
        for head, group in groups.items():
            context.saw()
            states = {(s.order, s.zone_word) for s in group}
            if len(states) <= 1:
                continue
            first = group[0]
            odd = next(
                s
                for s in group
                if (s.order, s.zone_word) != (first.order, first.zone_word)
            )
            yield Violation(
                place(odd),
                "sections of one compound differ",
                f"the compound page at pfn {start + head * step:#x} spans sections "
                f"whose orders differ: section {odd.nr} has {odd.order}, section "
                f"{first.nr} has {first.order}",
                first.order,
                odd.order,
                {"sections": [s.nr for s in group]},
            )

    yield from _recorded_zones(context)


def _recorded_zones(context: Context) -> Iterator[Violation]:
    """Zones in mem_section; what the member means is inferred, so that W it is."""
    kernel, per_section = context.kernel, context.geometry.pages_per_section
    member = kernel.sections.zone_member
    if member is None:
        return
    is_pointer = kernel.sections.struct[member].kind == "pointer"
    for section in kernel.sections:
        end = section.start_pfn + per_section
        word = section.zone_word
        if not section.has_mem_map or word is None or (is_pointer and not word):
            continue
        context.saw()
        recorded = [
            zone
            for zone in kernel.zones
            if (zone.va if is_pointer else zone.index) == word
        ]
        if any(z.start_pfn < end and section.start_pfn < z.end_pfn for z in recorded):
            continue
        name = context.zone_label(recorded[0]) if recorded else f"{word:#x}"
        yield Violation(
            place(section),
            "recorded zone does not span the section",
            f"section {section.nr} records the zone {name}, which does not span it",
            [context.zone_label(z) for z in kernel.zones.spanning(section.start_pfn)],
            name,
            hexed(section_mem_map=section.word, zone_word=word),
            severity="W",
        )


def _without_taint(context: Context) -> str | None:
    if context.kernel.sections.flags.taint_zone_device is None:
        return "this kernel has no SECTION_TAINT_ZONE_DEVICE"
    return None


@rule(
    "S10",
    "an online section that also holds device memory is marked mixed",
    severity="W",
    holds="kernels with SECTION_TAINT_ZONE_DEVICE",
    reads=("mem_section", "pgmaps"),
    bug="a missing taint",
    why="pfn_to_online_page() trusts the section unless SECTION_TAINT_ZONE_DEVICE "
    "sends it to look at the pgmap: device pages would pass for RAM.",
    look="vmemmap sections NR: state letter D; vmemmap dax",
    applies=_without_taint,
    racy=True,
)
def mixed_section_is_marked(context: Context) -> Iterator[Violation]:
    kernel = context.kernel
    for one in context.device_ranges:
        for section in kernel.sections.between(one.start, one.end):
            if not section.has_mem_map or not section.is_online:
                continue
            context.saw()
            if not section.is_mixed:
                yield Violation(
                    place(section),
                    "mixed section without its flag",
                    f"section {section.nr} is online and holds device memory "
                    f"(pfn {one.start:#x}-{one.end:#x}), but is not marked as mixed",
                    "SECTION_TAINT_ZONE_DEVICE",
                    section.flag_names(),
                    hexed(section_mem_map=section.word),
                )


@rule(
    "S11",
    "sections populated in optimised form at boot are early and inside one gigantic "
    "hugetlb page",
    severity="I",
    holds="kernels with SECTION_IS_VMEMMAP_PREINIT",
    reads=("mem_section", "hugetlb folios"),
    bug="none: the flag is never cleared, so that it outlives a page that was freed "
    "or demoted",
    why="the flag says how the section was populated, not what it holds now.",
    look="vmemmap sections NR: state letter V; vmemmap hvo --folios",
    applies=lambda context: context.lacks("vmemmap-preinit"),
    needs=("folios",),
    racy=True,
)
def preinit_is_gigantic(context: Context) -> Iterator[Violation]:
    kernel, per_section = context.kernel, context.geometry.pages_per_section
    for section in kernel.sections:
        if not section.is_preinit or not section.has_mem_map:
            continue
        context.saw()
        folio = context.folio_at(kernel.pages.vmemmap_page(section.start_pfn))
        wrong = None
        if not section.is_early:
            wrong = "is not early"
        elif folio is None or folio.pfn + (1 << folio.order) < (
            section.start_pfn + per_section
        ):
            wrong = "is no longer inside a gigantic hugetlb page"
        if wrong:
            yield Violation(
                place(section),
                f"pre-initialised section {wrong}",
                f"section {section.nr} was populated for a gigantic hugetlb page at "
                f"boot but {wrong}",
                "early, inside one hugetlb page",
                section.flag_names(),
                hexed(section_mem_map=section.word),
            )
