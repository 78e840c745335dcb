# SPDX-License-Identifier: LGPL-2.1-or-later
"""Rule Z2: every struct page of a shared tail page is the same proper tail.

Mirrors ``init_compound_tail()`` of ``mm/internal.h``. Members that only
``__init_single_page()`` decides (list pointers, last_cpupid) are not judged.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ...kernel.zones import TailPage, Zone
from ...target.base import Fault
from .context import Context
from .findings import Place, Violation, hexed
from .known import BOOT_TAIL_REFCOUNT
from .registry import rule
from .tail_words import Member, difference, tail_members

__all__ = ["has_boot_references"]


def template(context: Context, zone: Zone, order: int) -> list[Member]:
    """What each struct page of a zone's tail page of this order must hold."""
    struct = context.kernel.pages.struct
    is_device = zone.index == context.device_zone
    members = tail_members(
        context, zone.node, zone.index, ("PG_reserved",) if is_device else ()
    )
    for name, value in (
        (context.kernel.pages.compound_member, context.tail_word(order, 0)),
        ("private", 0),
        ("index", 0),
        ("__folio_index", 0),
    ):
        if name in struct:
            m = struct[name]
            members.append(Member(name, m.offset, m.size, (1 << 8 * m.size) - 1, value))
    return members


def _wrong(
    context: Context, zone: Zone, order: int, data: bytes
) -> dict[str, list[tuple[int, int]]]:
    """{member: (number of the struct page, value) where it is not as in a tail}."""
    size, byteorder = context.geometry.struct_page_size, context.kernel.target.byteorder
    members = template(context, zone, order)
    wrong: dict[str, list[tuple[int, int]]] = {}
    for i in range(len(data) // size):
        for m in members:
            value = m.of(data, i * size, byteorder) & m.mask
            if value != m.value:
                wrong.setdefault(m.name, []).append((i, value))
    return wrong


def _is_boot_refcount(
    context: Context, wrong: Mapping[str, Sequence[tuple[int, int]]]
) -> bool:
    """Whether nothing is wrong but a refcount of 1 in every struct page."""
    all_ones = [(i, 1) for i in range(context.geometry.struct_pages_per_page)]
    return wrong == {"_refcount": all_ones}


def has_boot_references(context: Context, zone: Zone, tail: TailPage) -> bool:
    """Whether the struct pages of a tail page have the refcount that booting left.

    Raises `Fault`.
    """
    frame = context.kernel.pages.pfn(tail.page_va)
    if frame < 0:
        return False
    g = context.geometry
    data = context.kernel.memory.read_physical(frame << g.page_shift, g.page_size)
    return _is_boot_refcount(context, _wrong(context, zone, tail.order, data))


def _applies(context: Context) -> str | None:
    if context.is_booting:
        return "the kernel was still booting: tail pages are filled late"
    if not context.kernel.pages.has_mask:
        return context.lacks("zone-shared-tails", "compound-mask")
    return context.lacks("zone-shared-tails")


@rule(
    "Z2",
    "a shared tail page holds identical struct pages, tails of its zone, node and "
    "order",
    severity="E",
    holds="kernels with zone.vmemmap_tails",
    reads=("frames of the shared tail pages",),
    bug="a stray write before write protection; a boot-time tail page that was never "
    "filled; a template of the wrong order",
    why="these struct pages stand for the tails of every optimised folio of the order; "
    "their compound word leads each tail to its head.",
    look="vmemmap zones; then read the frame: in drgn prog.read(pfn << 12, 4096, True)",
    applies=_applies,
    racy=True,
    exceptions="7.2 and 7.3 leave refcount 1 in boot-time tail pages (known issue "
    "boot-tail-refcount).",
)
def tail_holds_template(context: Context) -> Iterator[Violation]:
    kernel, g = context.kernel, context.geometry
    context.leave_out_gaps("zones")
    for zone in kernel.zones:
        for tail in zone.tails or ():
            frame = kernel.pages.pfn(tail.page_va)
            if frame < 0:
                continue
            try:
                data = kernel.memory.read_physical(frame << g.page_shift, g.page_size)
            except Fault as fault:
                context.unread(fault, "shared tail pages")
                continue
            context.saw()
            yield from _judge(context, zone, tail, frame, data)


def _judge(
    context: Context, zone: Zone, tail: TailPage, frame: int, data: bytes
) -> Iterator[Violation]:
    where = Place("zone", f"{context.zone_label(zone)} order {tail.order}")
    name = f"the shared tail page of order {tail.order} of {context.zone_label(zone)}"
    evidence = {**hexed(page_va=tail.page_va), "frame_pfn": frame}
    if not any(data):
        yield Violation(
            where,
            "empty tail page",
            f"{name} is all zero: it was never filled",
            "tails",
            "zeros",
            evidence,
        )
        return
    wrong = _wrong(context, zone, tail.order, data)
    if not wrong:
        return
    count = len(data) // context.geometry.struct_page_size
    is_known = _is_boot_refcount(context, wrong)
    expected = {
        m.name: f"{m.value:#x}"
        for m in template(context, zone, tail.order)
        if m.name in wrong
    }
    found = {
        name: [f"{value:#x}" for value in sorted({v for _, v in places})[:4]]
        for name, places in wrong.items()
    }
    first = min(places[0][0] for places in wrong.values())
    how_many = len({number for places in wrong.values() for number, _ in places})
    differences = "; ".join(
        difference(m.name, (value for _, value in wrong[m.name]), m.value)
        for m in template(context, zone, tail.order)
        if m.name in wrong
    )
    which = f"all {count}" if how_many == count else f"{how_many} of its {count}"
    start = "" if how_many == count else f" (the first is number {first})"
    yield Violation(
        where,
        "wrong refcount in a tail page" if is_known else "damaged tail page",
        f"{name}: {which} struct pages have {differences}{start}",
        expected,
        found,
        {**evidence, "struct_pages": how_many, "first": first},
        known_issue=BOOT_TAIL_REFCOUNT if is_known else None,
    )
