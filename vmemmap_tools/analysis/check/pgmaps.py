# SPDX-License-Identifier: LGPL-2.1-or-later
"""Rules P1, P5 to P8: how the vmemmap of device memory is laid out and backed.

Mirrors ``vmemmap_populate_compound_pages()`` of ``mm/sparse-vmemmap.c``,
``struct vmem_altmap`` and ``mm/memremap.c``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ...kernel.compound import CompoundBacking
from ...kernel.pgmap import Altmap, Pgmap
from ...target.base import Fault
from ..dax import compounds_of, expected_saving, vmemmap_spans
from .context import Context
from .findings import Place, Violation, hexed
from .known import ALTMAP_ERROR_PATH
from .registry import rule

__all__ = ["place", "without_compounds", "without_maps"]


def place(start: int) -> Place:
    return Place("pgmap", start)


def without_maps(context: Context) -> str | None:
    """Why there are no device maps to look at, None if there may be some."""
    unknown = context.lacks_maps()
    if unknown is None and context.kernel.target.variable("pgmap_array") is None:
        return "this kernel has no pgmap_array"
    return unknown


def _compounds(
    context: Context,
) -> Iterator[tuple[Pgmap, int, int, int, CompoundBacking]]:
    """(map, first pfn, end pfn, head pfn, backing) of every device compound.

    Those whose page tables are not all here are left out, and those whose tails may
    be a zone's that is not here.
    """
    for one in context.compound_ranges:
        pgmap, start, end = one.pgmap, one.first_pfn, one.end
        for head, backing in compounds_of(context.kernel, pgmap, start, end):
            if not backing.is_known:
                context.leave_out(
                    f"compound at pfn {head:#x}: a page table or a zone is missing"
                )
                continue
            context.saw()
            yield pgmap, start, end, head, backing


def without_compounds(context: Context) -> str | None:
    return context.lacks("dax-compound") or context.lacks_maps()


def _backing_evidence(context: Context, head: int, pgmap: Pgmap) -> dict[str, object]:
    number = context.kernel.pages.vmemmap_page(head)
    entries = context.kernel.vmemmap.entries(number, 2)
    return {
        **hexed(
            head_va=context.kernel.pages.va(head),
            pgmap_va=pgmap.va,
            head_entry=entries[0],
            tail_entry=entries[1],
        ),
        "head_pfn": head,
        "vmemmap_shift": pgmap.vmemmap_shift,
    }


@rule(
    "P1",
    "each device compound shares its vmemmap exactly as the kernel's conditions say",
    severity="E",
    holds="kernels with dev_pagemap.vmemmap_shift",
    reads=("pgmaps", "mem_section", "vmemmap page tables"),
    bug="altmap and pgmap mixed up; a section activated with the wrong order",
    why="vmemmap_can_optimize() decides when a range is added and again when it is "
    "removed: populated otherwise, removal frees the wrong frames.",
    look="vmemmap dax: SAVED against EXPECTED; vmemmap map --pfn HEAD+N",
    applies=without_compounds,
    needs=("sections", "zones"),
    racy=True,
    exceptions="Memory added to an early section uses the boot memmap as it is; parts "
    "of sections are not shared where sections carry the order.",
)
def compound_is_shared_as_predicted(context: Context) -> Iterator[Violation]:
    kernel, forms = context.kernel, _forms(context)
    layouts = [LAYOUTS[is_generalised] for is_generalised in forms]
    is_predictable = _sharing_is_predictable(context)
    for pgmap, start, end, head, backing in _compounds(context):
        if not backing.mapped:
            continue  # S4 tells
        saved = backing.saved_pages
        wanted = sorted(
            {expected_saving(kernel, pgmap, start, end, head, form) for form in forms}
        )
        is_number_right = saved in wanted or not is_predictable
        if is_number_right and (not saved or backing.layout in layouts):
            if saved and backing.tail_readonly is None:
                yield Violation(
                    place(start),
                    "tails partly read-only",
                    f"some shared tail pages of the device compound at pfn {head:#x} "
                    "are read-only, others writable",
                    "all alike",
                    "both",
                    _backing_evidence(context, head, pgmap),
                    severity="W",
                )
            continue
        instead = "" if is_number_right else f" instead of {_either(wanted)}"
        yield Violation(
            place(start),
            "compound not shared as predicted",
            f"the device compound at pfn {head:#x} is mapped {backing.layout} and "
            f"saves {saved} of {backing.pages} vmemmap pages{instead}",
            _either(layouts)
            if is_number_right
            else (wanted[0] if len(wanted) == 1 else _either(wanted)),
            backing.layout if is_number_right else saved,
            _backing_evidence(context, head, pgmap),
        )


LAYOUTS = {False: "page1-shared", True: "zone-shared"}
"""Of compounds that share, by whether sections carry the order of device compounds."""


def _forms(context: Context) -> tuple[bool, ...]:
    """Whether sections carry the order of device compounds in this kernel.

    Either may be while they do for hugetlb folios: each compound decides.
    """
    order = context.kernel.sections.order_member
    if order == "order":
        return (False, True)
    return (order is not None,)


def _either(choices: Iterable[object]) -> str:
    return " or ".join(map(str, choices))


def _sharing_is_predictable(context: Context) -> bool:
    """Whether types tell if this kernel shares the vmemmap of devices.

    x86-64 does wherever it can. Other architectures choose when the kernel is built,
    which no type shows: there one compound that is shared has to do.
    """
    kernel = context.kernel
    if kernel.unknown_feature("dax-dedup"):
        return False
    if not kernel.has("dax-dedup") or context.geometry.arch.name == "x86_64":
        return True
    return any(
        backing.is_optimised
        for one in context.compound_ranges
        for _, backing in compounds_of(kernel, one.pgmap, one.first_pfn, one.end)
    )


def _without_sharing(context: Context) -> str | None:
    return context.lacks("dax-dedup") or context.lacks_maps()


@rule(
    "P5",
    "the frame of a device compound's shared page has a reference for each mapping",
    severity="E",
    holds="kernels whose device DAX shares its vmemmap",
    reads=("vmemmap page tables", "struct page of the frame"),
    bug="a range removed with the wrong pgmap: leaked or freed too early",
    why="removal drops one reference per page-table entry and frees the frame with "
    "the last; too few and it is freed while others map it.",
    look="vmemmap page pfn:FRAME: refcount, backs",
    applies=_without_sharing,
    needs=("page tables", "zones"),
    racy=True,
    exceptions="Zones' shared tail pages may be counted once and for each mapping.",
)
def shared_frame_is_counted(context: Context) -> Iterator[Violation]:
    kernel = context.kernel
    seen: set[int] = set()
    for pgmap, start, _, head, backing in _compounds(context):
        frame = backing.tail_frame
        if backing.layout not in ("page1-shared", "zone-shared") or frame < 0:
            continue
        is_zone_tail = backing.layout == "zone-shared"
        if is_zone_tail and frame in seen:
            continue
        if is_zone_tail:
            seen.add(frame)
        mappings = kernel.vmemmap.frames.mappings(frame)
        try:
            refcount = kernel.pages.page(frame).refcount
        except Fault as fault:
            context.unread(fault, "struct pages of shared frames")
            continue
        allowed = (1, 1 + mappings) if is_zone_tail else (mappings,)
        if refcount not in allowed:
            yield Violation(
                place(start),
                "shared frame counted wrongly",
                f"the frame {frame:#x} backs {mappings} vmemmap pages of the device "
                f"compound at pfn {head:#x}, but its refcount is {refcount}",
                allowed[-1],
                refcount,
                {**_backing_evidence(context, head, pgmap), "frame_pfn": frame},
            )


def _altmaps(context: Context) -> Iterator[tuple[Pgmap, Altmap, int, int]]:
    for one in context.device_ranges:
        if one.pgmap.altmap is not None and not one.index:
            context.saw()
            yield one.pgmap, one.pgmap.altmap, one.start, one.end


@rule(
    "P6",
    "the vmemmap of a map with an altmap lies inside the altmap, which counts it",
    severity="E",
    holds="all",
    reads=("pgmaps", "vmemmap page tables"),
    bug='"mm/memory_hotplug: fix incorrect altmap passing in error path"',
    why="vmem_altmap_free() takes frames back by count: what lies elsewhere is never "
    "freed, and what is not counted is given out twice.",
    look="vmemmap dax; vmemmap map --pfn A-B",
    needs=("page tables", "sections"),
    racy=True,
    exceptions="Page tables never come from the altmap. Memory added to an early "
    "section uses the boot memmap, a part of a section may use RAM.",
)
def altmap_holds_vmemmap(context: Context) -> Iterator[Violation]:
    for pgmap, altmap, start, end in _altmaps(context):
        low, high = altmap.base_pfn + altmap.reserve, altmap.end_pfn
        evidence = {**hexed(pgmap_va=pgmap.va), "altmap": [low, high]}
        if altmap.alloc + altmap.align > altmap.free:
            yield Violation(
                place(start),
                "altmap overdrawn",
                f"the altmap at pfn {low:#x} has {altmap.free} pages, yet "
                f"{altmap.alloc} are allocated and {altmap.align} lost to alignment",
                altmap.free,
                altmap.alloc + altmap.align,
                evidence,
                known_issue=None,
            )
        outside = _frames_outside(context, start, end, low, high)
        if outside:
            yield Violation(
                place(start),
                "vmemmap outside its altmap",
                f"{len(outside)} frames behind the vmemmap of pfn {start:#x}-{end:#x} "
                f"lie outside its altmap, the first at {outside[0]:#x}",
                f"{low:#x} to {high:#x}",
                [f"{pfn:#x}" for pfn in outside[:4]],
                evidence,
                known_issue=ALTMAP_ERROR_PATH,
            )
        used = context.kernel.vmemmap.frames.distinct_in(low, min(high, low + MAX_PFNS))
        if used != altmap.alloc:
            yield Violation(
                place(start),
                "altmap miscounted",
                f"{used} pages of the altmap at pfn {low:#x} back the vmemmap, but "
                f"{altmap.alloc} are counted",
                used,
                altmap.alloc,
                evidence,
            )


MAX_PFNS = 1 << 34
"""64 TiB: more of one altmap is not looked at."""
MAX_OUTSIDE = 1 << 16


def _frames_outside(
    context: Context, start: int, end: int, low: int, high: int
) -> list[int]:
    """Frames behind a range's vmemmap that do not lie in ``low`` to ``high``.

    Of sections that the range fills: x86's vmemmap_populate() takes the base pages of
    a smaller part from RAM whether there is an altmap or not.
    """
    kernel, fmt = context.kernel, context.geometry.table_format
    shift, per_section = context.geometry.page_shift, context.geometry.pages_per_section
    outside: list[int] = []
    for first, count in vmemmap_spans(kernel, start, end):
        pfn = kernel.pages.pfn(kernel.vmemmap.page_va(first))
        section = kernel.sections.of_pfn(pfn)
        if section is None or section.is_early or len(outside) > MAX_OUTSIDE:
            continue
        if section.start_pfn < start or end < section.start_pfn + per_section:
            continue
        entries = kernel.vmemmap.entries(first, count)
        frames = {
            (e & fmt.address_mask) >> shift
            for e in set(entries)
            if (e & fmt.present_mask)
        }
        outside += sorted(f for f in frames if not low <= f < high)
    return outside


@rule(
    "P7",
    "later sections of a compound larger than a section hold only its one shared frame",
    severity="W",
    holds="kernels whose device DAX keeps two vmemmap pages of a compound",
    reads=("pgmaps", "vmemmap page tables"),
    bug="sections populated again in another order",
    why="each later section is mapped whole to the frame found just below it.",
    look="vmemmap map --section NR",
    applies=lambda context: (
        _without_sharing(context)
        or (
            "here tails are the zones' shared tail pages"
            if context.kernel.sections.order_member == "compound_page_order"
            else None
        )
    ),
    needs=("zones",),
    racy=True,
)
def later_sections_alias(context: Context) -> Iterator[Violation]:
    kernel, per_section = context.kernel, context.geometry.pages_per_section
    for pgmap, _, _, head, backing in _compounds(context):
        if 1 << pgmap.vmemmap_shift <= per_section or not backing.is_optimised:
            continue
        for section in kernel.sections.between(head, head + (1 << pgmap.vmemmap_shift)):
            if section.start_pfn <= head:
                continue
            first = kernel.pages.vmemmap_page(section.start_pfn)
            count = context.geometry.vmemmap_pages(per_section.bit_length() - 1)
            frames = set(kernel.vmemmap.backing(first, count).mapped)
            if frames - {backing.tail_frame}:
                yield Violation(
                    Place("section", section.nr),
                    "later section with frames of its own",
                    f"section {section.nr} continues the device compound at pfn "
                    f"{head:#x}, but has {len(frames - {backing.tail_frame})} frames "
                    "besides the shared one",
                    [f"{backing.tail_frame:#x}"],
                    [f"{frame:#x}" for frame in sorted(frames)[:4]],
                    _backing_evidence(context, head, pgmap),
                )
