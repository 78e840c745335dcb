# SPDX-License-Identifier: LGPL-2.1-or-later
"""Rules Z1 and Z3 to Z7: the zones' shared tail pages (``zone->vmemmap_tails``).

Mirrors ``vmemmap_get_tail()`` of ``mm/hugetlb_vmemmap.c``. One frame backs the tails of
every optimised folio of its order in the zone: what is wrong with it is wrong with all.
"""

from __future__ import annotations

from collections.abc import Iterator

from ...kernel.table_frames import for_each_table_frame
from ...kernel.zones import TailPage, Zone
from ...target.base import Fault
from .context import Context
from .findings import Place, Violation, hexed
from .folios import is_protected_short
from .known import BOOT_TAIL_WRITABLE
from .registry import rule
from .sharing import Odd

__all__: list[str] = []

TAIL_KERNELS = "kernels with zone.vmemmap_tails"


def _without_tails(context: Context) -> str | None:
    return context.lacks("zone-shared-tails")


def _tails(context: Context) -> Iterator[tuple[Zone, TailPage, int]]:
    """(zone, tail, frame) of every shared tail page."""
    context.leave_out_gaps("zones")
    for zone in context.kernel.zones:
        for tail in zone.tails or ():
            context.saw()
            yield zone, tail, context.kernel.pages.pfn(tail.page_va)


def _place(context: Context, zone: Zone, tail: TailPage) -> Place:
    return Place("zone", f"{context.zone_label(zone)} order {tail.order}")


def _is_struct_page(context: Context, va: int) -> bool:
    """Whether an address is that of a struct page of a valid pfn.

    Of a section whose map of subsections is not here, every pfn may be.
    """
    pages, (start, end) = context.kernel.pages, context.geometry.vmemmap_window
    if not start <= va < end or (va - pages.base_va) % pages.size:
        return False
    try:
        return context.kernel.sections.pfn_is_valid(pages.pfn(va)) is not False
    except Fault as fault:
        context.unread(fault, "mem_section_usage")
        return True


def _has_memory_for_kernel(context: Context, node: int) -> bool:
    """Whether a node has memory that unmovable allocations may come from."""
    kernel = context.kernel
    movable = kernel.target.enumerator("ZONE_MOVABLE")
    return any(
        zone.managed and (movable is None or zone.index < movable)
        for zone in kernel.zones
        if zone.node == node
    )


@rule(
    "Z1",
    "a zone's tail pointer leads to a struct page of valid memory, of its own node",
    severity="E",
    holds=TAIL_KERNELS,
    reads=("zone.vmemmap_tails", "mem_section"),
    bug="memory corruption",
    why="the pointer is turned into the frame that every optimised folio of this "
    "order maps.",
    look="vmemmap zones; vmemmap page ADDRESS",
    applies=_without_tails,
    needs=("sections",),
    racy=True,
    exceptions="Memory may come from another node when the own one is full (no "
    "__GFP_THISNODE): a warning. It always does where all of a node is in ZONE_MOVABLE "
    "or of devices: nothing is said.",
)
def tail_pointer_is_page(context: Context) -> Iterator[Violation]:
    pages = context.kernel.pages
    yield from _wild_pointers(context)
    for zone, tail, frame in _tails(context):
        evidence = {**hexed(zone_va=zone.va, page_va=tail.page_va), "frame_pfn": frame}
        if not _is_struct_page(context, tail.page_va):
            yield _no_struct_page(context, zone, tail)
            continue
        try:
            page = pages.page(frame)
        except Fault as fault:
            context.unread(fault, "struct pages of tail frames")
            continue
        if context.flags_trusted and page.flags and not page.is_poisoned:
            node = pages.node(page)
            if node != zone.node and _has_memory_for_kernel(context, zone.node):
                yield Violation(
                    _place(context, zone, tail),
                    "tail page of another node",
                    f"the tail page of order {tail.order} of "
                    f"{context.zone_label(zone)} lies on node {node}",
                    zone.node,
                    node,
                    evidence,
                    severity="W",
                )


def _wild_pointers(context: Context) -> Iterator[Violation]:
    """Pointers that the view of zones leaves out of a dynamic array.

    Its length is in no debug info, so that what lies beyond it may be anything: only
    orders that are in use say something.
    """
    kernel, g = context.kernel, context.geometry
    struct = kernel.target.struct("zone")
    if struct is None or struct["vmemmap_tails"].kind != "pointer":
        return
    start, end = g.vmemmap_window
    orders = {*context.pools, *(p.vmemmap_shift for p in kernel.pgmaps)}
    usable = range(g.min_optimisable_order, context.max_folio_order + 1)
    for zone in kernel.zones:
        if not zone.spanned:
            continue
        try:
            array_va = kernel.memory.unsigned(zone.va + struct.offset("vmemmap_tails"))
            for order in sorted(orders.intersection(usable)) if array_va else ():
                slot_va = array_va + 8 * (order - g.min_optimisable_order)
                va = kernel.memory.unsigned(slot_va)
                if va and not start <= va < end:
                    yield _no_struct_page(context, zone, TailPage(order, va))
        except Fault as fault:
            context.unread(fault, "slots of shared tail pages")


def _no_struct_page(context: Context, zone: Zone, tail: TailPage) -> Violation:
    return Violation(
        _place(context, zone, tail),
        "no struct page",
        f"the tail page of order {tail.order} of {context.zone_label(zone)} is at "
        f"{tail.page_va:#x}, where no struct page is",
        "a struct page",
        f"{tail.page_va:#x}",
        hexed(zone_va=zone.va, page_va=tail.page_va),
    )


def _not_while_booting(context: Context) -> str | None:
    if context.is_booting:
        return "the kernel was still booting: tail pages are filled late"
    return _without_tails(context)


@rule(
    "Z3",
    "the frame of a shared tail page is in use: not free, not slab nor of another "
    "type, refcount above 0",
    severity="E",
    holds=TAIL_KERNELS,
    reads=("struct page of the frame",),
    bug="a shared tail page freed while folios map it",
    why="the frame would be given to somebody else, whose writes appear as struct "
    "pages of every optimised folio.",
    look="vmemmap page pfn:FRAME",
    applies=_without_tails,
    racy=True,
    exceptions="Struct pages of boot memory are set up late: empty ones say nothing "
    "while the kernel boots.",
)
def tail_frame_is_in_use(context: Context) -> Iterator[Violation]:
    for zone, tail, frame in _tails(context):
        if not _is_struct_page(context, tail.page_va):
            continue
        try:
            state = context.frame_states.judge(frame)
        except Fault as fault:
            context.unread(fault, "struct pages of tail frames")
            continue
        if state is not None and context.is_told(state):
            yield Violation(
                _place(context, zone, tail),
                "tail frame is not in use",
                f"the frame {frame:#x} of the tail page of order {tail.order} of "
                f"{context.zone_label(zone)} cannot be in use: {state.reason}",
                "a page in use",
                state.reason,
                {
                    **hexed(
                        page_va=tail.page_va,
                        flags=state.flags,
                        mapcount_word=state.mapcount_word,
                    ),
                    "refcount": state.refcount,
                    "frame_pfn": frame,
                },
            )


def _owner_text(odd: Odd) -> str:
    if odd.folio is not None:
        return f"the hugetlb folio of order {odd.folio.order} at pfn {odd.folio.pfn:#x}"
    if odd.pgmap is not None:
        return f"a device compound of order {odd.pgmap.vmemmap_shift}"
    return "no compound page at all"


def _odd_place(context: Context, odd: Odd) -> Place:
    if odd.folio is not None:
        return Place("folio", odd.folio.pfn)
    return Place(
        "pfn", context.kernel.pages.pfn(context.kernel.vmemmap.page_va(odd.first))
    )


def _odd_evidence(context: Context, odd: Odd) -> dict[str, object]:
    return {
        **hexed(va=context.kernel.vmemmap.page_va(odd.first), entry=odd.entry),
        "pages": odd.count,
        "frame_pfn": odd.frame,
    }


@rule(
    "Z4",
    "every mapping of a shared tail page belongs to a compound page of its order in "
    "its zone",
    severity="E",
    holds=TAIL_KERNELS,
    reads=("vmemmap page tables", "hugetlb folios", "pgmaps"),
    bug="the tail page of the wrong zone, as for a gigantic boot page that crossed "
    "zones; memory freed without restoring its vmemmap",
    why="tails carry zone and node in their flags, and the mask of their order in "
    "the compound word: a wrong tail page leads to a wrong head.",
    look="vmemmap page VA; vmemmap zones",
    applies=_without_tails,
    needs=("zones", "folios", "device maps"),
    racy=True,
)
def tail_mapping_fits(context: Context) -> Iterator[Violation]:
    context.saw(len(context.kernel.tail_frames))
    for odd in context.sharing.of_kind("foreign-tail"):
        node, zone, order = context.kernel.tail_frames[odd.frame]
        name = context.kernel.zone_name(zone)
        yield Violation(
            _odd_place(context, odd),
            "shared tail page of another order or zone",
            f"{_owner_text(odd)} maps the shared tail page of order {order} of node "
            f"{node} {name}",
            "the tail page of its own order and zone",
            {"node": node, "zone": name, "order": order},
            _odd_evidence(context, odd),
        )


@rule(
    "Z5",
    "hugetlb folios map shared tail pages read-only",
    severity="E",
    holds=TAIL_KERNELS,
    reads=("vmemmap page tables",),
    bug="a missing write protection",
    why="a stray write to one tail would change the tails of all folios of that "
    "order; read-only mappings turn it into a fault with a culprit.",
    look="vmemmap walk VA: RW",
    applies=_not_while_booting,
    racy=True,
    exceptions="Device DAX maps its tails writable. Gigantic boot pages are writable "
    "until they are gathered; some kernels then protect only the first (known issue "
    "boot-tail-writable).",
)
def tail_mapping_is_readonly(context: Context) -> Iterator[Violation]:
    context.leave_out_gaps("zones", "folios")
    context.saw(len(context.kernel.tail_frames))
    for odd in context.sharing.of_kind("writable-tail"):
        node, zone, order = context.kernel.tail_frames[odd.frame]
        yield Violation(
            _odd_place(context, odd),
            "writable shared tail page",
            f"{_owner_text(odd)} maps {odd.count} of its vmemmap pages writable to "
            f"the shared tail page of order {order} of node {node} "
            f"{context.kernel.zone_name(zone)}",
            "read-only",
            "writable",
            _odd_evidence(context, odd),
            known_issue=BOOT_TAIL_WRITABLE
            if odd.folio is not None and is_protected_short(context, odd.folio)
            else None,
        )


@rule(
    "Z6",
    "shared tail pages have frames of their own: no two alike, none a folio's head "
    "page or a page table",
    severity="E",
    holds=TAIL_KERNELS,
    reads=("zone.vmemmap_tails", "vmemmap page tables", "hugetlb folios"),
    bug="double allocation",
    why="two zones or orders that share a frame read each other's flags and masks.",
    look="vmemmap zones: TAIL frames",
    applies=_without_tails,
    racy=True,
)
def tail_frames_are_distinct(context: Context) -> Iterator[Violation]:
    kernel = context.kernel
    context.leave_out_gaps("folios")
    users: dict[int, list[tuple[Zone, TailPage]]] = {}
    for zone, tail, frame in _tails(context):
        if _is_struct_page(context, tail.page_va):
            users.setdefault(frame, []).append((zone, tail))
    heads = {
        f.backing.head_frame: f.pfn
        for f in context.folios
        if (f.backing.head_frame in users)
    }
    start, end = context.geometry.vmemmap_window
    tables = {
        table.pfn: table
        for table in for_each_table_frame(kernel.page_table, start, end)
        if table.pfn in users
    }
    for frame, owners in users.items():
        zone, tail = owners[0]
        also = None
        if len(owners) > 1:
            other_zone, other = owners[1]
            also = (
                f"the tail page of order {other.order} of "
                f"{context.zone_label(other_zone)}"
            )
        elif frame in heads:
            also = f"the head page of the folio at pfn {heads[frame]:#x}"
        elif frame in tables:
            also = f"a page table of level {tables[frame].level} of the vmemmap"
        if also:
            yield Violation(
                _place(context, zone, tail),
                "tail frame with a second use",
                f"the frame {frame:#x} of the tail page of order {tail.order} of "
                f"{context.zone_label(zone)} is also {also}",
                "one use",
                also,
                {**hexed(page_va=tail.page_va), "frame_pfn": frame},
            )


@rule(
    "Z7",
    "shared tail pages do not lie in memory that is meant to be moved or taken away",
    severity="I",
    holds=TAIL_KERNELS,
    reads=("struct page of the frame", "pageblock flags"),
    bug="none by itself: such a page keeps its memory block from going offline",
    why="a shared tail page is never moved nor given back; in ZONE_MOVABLE or a CMA "
    "area it pins memory that was promised to be free for other uses.",
    look="vmemmap page pfn:FRAME: zone",
    applies=_without_tails,
    racy=True,
    exceptions="A MIGRATE_MOVABLE pageblock is no sign: unmovable allocations fall "
    "back on those, and boot memory begins as such.",
)
def tail_frame_is_unmovable(context: Context) -> Iterator[Violation]:
    pages, blocks = context.kernel.pages, context.pageblocks
    for zone, tail, frame in _tails(context):
        if not _is_struct_page(context, tail.page_va):
            continue
        try:
            page = pages.page(frame)
        except Fault as fault:
            context.unread(fault, "struct pages of tail frames")
            continue
        migratetype, where = None, None
        try:
            migratetype = blocks.of_pfn(frame)
        except Fault as fault:
            context.unread(fault, "pageblocks of tail frames")
        name = blocks.name(migratetype) if migratetype is not None else ""
        frame_zone = context.kernel.zone_name(pages.zone_index(page))
        if context.flags_trusted and frame_zone == "Movable":
            where = "in zone Movable"
        elif name in ("MIGRATE_CMA", "MIGRATE_ISOLATE"):
            where = f"in a {name} pageblock"
        if where:
            yield Violation(
                _place(context, zone, tail),
                "movable tail page",
                f"the tail page of order {tail.order} of {context.zone_label(zone)} "
                f"lies {where}",
                "unmovable memory",
                where,
                {**hexed(flags=page.flags), "frame_pfn": frame},
            )
