# SPDX-License-Identifier: LGPL-2.1-or-later
"""Rules P2 and P9: struct pages of device memory.

Mirrors ``memmap_init_zone_device()`` of ``mm/mm_init.c``.
"""

from __future__ import annotations

from collections.abc import Iterator

from ...kernel.bit_numbers import bit_number
from ...kernel.pages import PAGES_OF_FOLIO_HEAD
from ...kernel.pgmap import Pgmap
from ...kernel.strided import all_equal, strided_u64
from ...target.base import Fault
from ..dax import compounds_of
from .context import Context, DeviceRange
from .findings import Violation, hexed
from .known import DAX_UNINITIALISED
from .pgmaps import place, without_compounds, without_maps
from .registry import rule

__all__: list[str] = []

POISON = (1 << 64) - 1
CHUNK_PAGES = 1 << 15


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
    applies=without_maps,
    racy=True,
    thorough=True,
    exceptions="The struct pages of what a driver reserves in front of its altmap are "
    "not initialised; those of what the altmap may hand out name no map.",
)
def device_pages_are_initialised(context: Context) -> Iterator[Violation]:
    if context.device_zone is None:
        return
    if context.device_ranges and _pgmap_offset(context) is None:
        context.leave_out("no member tells where a page names its map")
    for one in context.device_ranges:
        if not context.shift_is_sane(one.pgmap):
            continue  # P8 tells
        parts = _parts(context, one.pgmap, one.first_pfn, one.end)
        for head, pfn, count in context.track("device struct pages", parts):
            yield from _judge_pages(context, one.pgmap, one.first_pfn, head, pfn, count)
        yield from _judge_metadata(context, one)


def _judge_metadata(context: Context, one: DeviceRange) -> Iterator[Violation]:
    """The struct pages of what an altmap may hand out.

    memmap_init_range() sets them up, no compounds and without a map, when the range is
    hot-added; but for those of the driver's reserve.
    """
    altmap, pages = one.pgmap.altmap, context.kernel.pages
    if altmap is None or one.index:
        return
    start = max(one.start, altmap.base_pfn + altmap.reserve)
    end = min(one.end, one.first_pfn, altmap.end_pfn)
    for pfn, count in _by_section(context, start, end):
        try:
            data = pages.read_words(pfn, count, pages.decoded_words)
        except Fault as fault:
            if fault.kind != "unmapped":
                context.unread(fault, "struct pages of device memory", count)
            continue
        context.saw(count)
        flags = strided_u64(data, pages.flags_offset, pages.size, pages.byteorder)
        yield from _judge_flags(context, one.pgmap, one.first_pfn, None, pfn, flags)


def _by_section(context: Context, start: int, end: int) -> Iterator[tuple[int, int]]:
    """(first pfn, count) of the parts of a range that sections know."""
    per_section = context.geometry.pages_per_section
    for section in context.kernel.sections.between(start, end):
        low = max(start, section.start_pfn)
        yield low, min(end, section.start_pfn + per_section) - low


def _parts(
    context: Context, pgmap: Pgmap, start: int, end: int
) -> Iterator[tuple[int | None, int, int]]:
    """(head pfn, first pfn, count) of struct pages that are each compound's own."""
    kernel, spp = context.kernel, context.geometry.struct_pages_per_page
    if not pgmap.vmemmap_shift or not context.geometry.vmemmap_pages(
        pgmap.vmemmap_shift
    ):
        for first, count in _by_section(context, start, end):
            yield None, first, count
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
    wrong = list(_judge_flags(context, pgmap, start, head, pfn, flags))
    yield from wrong
    if is_first and not wrong:
        if pgmap.vmemmap_shift:
            data = data[: PAGES_OF_FOLIO_HEAD * pages.size]
            yield from _judge_order(context, pgmap, start, pfn, data)
            data = data[: pages.size]
        if map_at is not None:
            maps = strided_u64(data, map_at, pages.size, kernel.target.byteorder)
            yield from _judge_maps(context, pgmap, start, pfn, maps)


def _judge_flags(
    context: Context,
    pgmap: Pgmap,
    start: int,
    head: int | None,
    pfn: int,
    flags: list[int],
) -> Iterator[Violation]:
    """The flags of struct pages from ``pfn`` on; of a compound, if it has a head."""
    kernel, pages = context.kernel, context.kernel.pages
    node = context.map_nodes.of(pgmap)
    bad_values = {f for f in set(flags) if not _is_device_page(context, f, pfn, node)}
    if not bad_values:
        return
    bad = [i for i, f in enumerate(flags) if f in bad_values]
    first = pfn + bad[0]
    value = flags[bad[0]]
    blank = value in (0, POISON)
    section = kernel.sections.of_pfn(first)
    late = head is None or first - head >= 2 * context.geometry.struct_pages_per_page
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


def _is_device_page(context: Context, flags: int, pfn: int, node: int | None) -> bool:
    """Whether these are the flags of a struct page of device memory on a node.

    Where the node is unknown, any will do whose device zone spans the pfn.
    """
    if flags == POISON or not flags:
        return False
    reserved = bit_number(context.kernel.target, "PG_reserved")
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


MAX_SHOWN = 4


@rule(
    "P9",
    "each tail of a device compound leads to its head",
    severity="E",
    holds="kernels with dev_pagemap.vmemmap_shift",
    reads=("struct pages of device memory", "pgmaps", "vmemmap page tables"),
    bug="a damaged tail; a wrong mask; a compound initialised for another order",
    why="compound_head() of every page must find the folio: get_user_pages() and "
    "memory failure take references and locks in the head alone.",
    look="vmemmap page pfn:N: head",
    applies=without_compounds,
    racy=True,
    thorough=True,
    exceptions="Shared tail pages of zones are judged once, by Z2; struct pages that "
    "are not those of device memory, by P2; compounds that are mapped in no known "
    "layout, by P1. An altmap takes the head of its range, where no compounds are.",
)
def device_tails_lead_to_head(context: Context) -> Iterator[Violation]:
    ranges = context.compound_ranges
    for one in context.track("decoding device tails", ranges, len(ranges)):
        shift = one.pgmap.vmemmap_shift
        parts = _parts(context, one.pgmap, one.first_pfn, one.end)
        for head, pfn, count in parts:
            assert head is not None, "these ranges consist of compounds"
            yield from _judge_tails(context, one, head, shift, pfn, count)


def _judge_tails(
    context: Context, one: DeviceRange, head: int, shift: int, pfn: int, count: int
) -> Iterator[Violation]:
    """The compound words of struct pages from ``pfn`` on, all of one compound."""
    pages, order = context.kernel.pages, context.kernel.target.byteorder
    word_at, flags_at = pages.compound_word_offset, pages.flags_offset
    # As P2 reads them, so that a capsule has them.
    read = pages.read_heads if pfn == head else pages.read_words
    try:
        data = read(pfn, count, pages.decoded_words)
    except Fault as fault:
        if fault.kind != "unmapped":  # S4 tells of holes
            context.unread(fault, "struct pages of device memory", count)
        return
    context.saw(count)
    wanted, tails_from = context.tail_word(shift, pages.va(head)), int(pfn == head)
    own = int.from_bytes(data[word_at : word_at + 8], order) if tails_from else 0
    if not own & 1 and all_equal(data, word_at, pages.size, wanted, order, tails_from):
        return
    words = strided_u64(data, word_at, pages.size, order)
    flags = strided_u64(data, flags_at, pages.size, order)
    node = context.map_nodes.of(one.pgmap)
    is_set_up = {f: _is_device_page(context, f, pfn, node) for f in set(flags)}
    bad = [
        i
        for i, word in enumerate(words)
        if (word & 1 if i < tails_from else word != wanted) and is_set_up[flags[i]]
    ]
    if not bad:
        return
    first = pfn + bad[0]
    yield Violation(
        place(one.start),
        "device head that is a tail" if first == head else "device tails lead astray",
        f"{len(bad)} struct pages of the device compound of order {shift} at pfn "
        f"{head:#x} do not lead to its head, the first at pfn {first:#x}",
        f"{wanted:#x}",
        [f"{words[i]:#x}" for i in bad[:MAX_SHOWN]],
        {
            **hexed(page_va=pages.va(first), pgmap_va=one.pgmap.va),
            "head_pfn": head,
            "pfns": [pfn + i for i in bad[:MAX_SHOWN]],
            "struct_pages": len(bad),
        },
    )
