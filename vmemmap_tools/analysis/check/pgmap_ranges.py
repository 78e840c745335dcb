# SPDX-License-Identifier: LGPL-2.1-or-later
"""Rule P8: ranges of device memory, the array and the devices that lead to them."""

from __future__ import annotations

from collections.abc import Iterator

from ...kernel import xarray
from ...kernel.pgmap import Pgmap
from ...target.base import Fault
from .context import Context
from .dax_devices import devices_agree
from .findings import Violation, hexed
from .pgmaps import place, without_maps
from .registry import rule

__all__: list[str] = []

MAX_RANGES = 1 << 10


@rule(
    "P8",
    "pgmap_array, the maps' ranges and the dax devices agree, and ranges are aligned "
    "to their compounds",
    severity="W",
    holds="all",
    reads=("pgmap_array", "pgmaps", "devices_kset", "dax devices"),
    bug="a driver's mistake",
    why="get_dev_pagemap() finds the map of a pfn in the array, the sharing goes by "
    "the range's own borders, and users map what the device says it is.",
    look="vmemmap dax; /sys/bus/dax/devices/*/resource, size, align",
    applies=without_maps,
    racy=True,
    exceptions="The head of a range that an altmap takes is not counted. A device that "
    "kmem has made System RAM may keep the pointer to a map that is gone.",
)
def ranges_agree(context: Context) -> Iterator[Violation]:
    kernel = context.kernel
    array = kernel.target.variable("pgmap_array")
    assert array is not None
    by_va = {p.va: p for p in kernel.pgmaps}
    outside: set[int] = set()
    try:
        for index, va in xarray.for_each_entry(kernel.memory, array.address):
            context.saw()
            pgmap = by_va.get(va)
            if pgmap is None or any(a <= index < b for a, b in pgmap.ranges):
                continue
            outside.add(va)
            yield Violation(
                place(index),
                "array entry outside the map's ranges",
                f"pgmap_array has at pfn {index:#x} a map whose ranges do not "
                "include it",
                [f"{a:#x} to {b:#x}" for a, b in pgmap.ranges[:4]],
                f"{index:#x}",
                hexed(pgmap_va=va),
            )
    except Fault as fault:
        context.unread(fault, "entries of pgmap_array")
    for pgmap in kernel.pgmaps:
        if pgmap.va not in outside:
            yield from _borders(context, array.address, pgmap)
        if not context.shift_is_sane(pgmap):
            yield Violation(
                place(pgmap.ranges[0][0] if pgmap.ranges else 0),
                "impossible vmemmap_shift",
                f"a pgmap has vmemmap_shift {pgmap.vmemmap_shift}",
                f"0 to {context.max_folio_order}",
                pgmap.vmemmap_shift,
                hexed(pgmap_va=pgmap.va),
            )
    yield from _shapes(context)
    yield from devices_agree(context)


def _shapes(context: Context) -> Iterator[Violation]:
    """Ranges that are no multiple of their compounds, or that overlap."""
    for one in context.compound_ranges:
        size, shift = one.end - one.first_pfn, one.pgmap.vmemmap_shift
        if size % (1 << shift):
            yield Violation(
                place(one.start),
                "range not aligned",
                f"the range of pfn {one.first_pfn:#x}-{one.end:#x} is no multiple of "
                f"its compounds of 2^{shift} pages",
                f"a multiple of {1 << shift}",
                size,
                hexed(pgmap_va=one.pgmap.va),
            )
        if one.first_pfn % (1 << shift):
            yield Violation(
                place(one.start),
                "range begins inside a compound",
                f"the range of pfn {one.first_pfn:#x}-{one.end:#x} does not begin at a "
                f"multiple of its compounds of 2^{shift} pages",
                f"a multiple of {1 << shift:#x}",
                f"{one.first_pfn:#x}",
                hexed(pgmap_va=one.pgmap.va),
            )
    for one in context.overlapping_ranges:
        yield Violation(
            place(one.start),
            "overlapping ranges",
            f"the range of pfn {one.start:#x}-{one.end:#x} overlaps another range of "
            "device memory",
            "disjoint ranges",
            f"{one.start:#x} to {one.end:#x}",
            hexed(pgmap_va=one.pgmap.va),
        )


def _borders(context: Context, array_va: int, pgmap: Pgmap) -> Iterator[Violation]:
    """The first and last pfn of each range are the map's, those beside it are not."""
    ranges = pgmap.ranges[:MAX_RANGES]
    starts, ends = {start for start, _ in ranges}, {end for _, end in ranges}
    for start, end in ranges:
        inside = [(start, True), (end - 1, True)]
        # Two ranges of one map may adjoin.
        before = [(start - 1, False)] if start and start not in ends else []
        after = [(end, False)] if end not in starts else []
        for pfn, is_inside in (*inside, *before, *after):
            try:
                found = xarray.load(context.kernel.memory, array_va, pfn)
            except Fault as fault:
                context.unread(fault, "entries of pgmap_array")
                continue
            if (found == pgmap.va) == is_inside:
                continue
            yield Violation(
                place(start),
                "array and range end differently",
                f"the range of pfn {start:#x}-{end:#x} and pgmap_array disagree about "
                f"pfn {pfn:#x}",
                f"{pgmap.va:#x}" if is_inside else "another map or none",
                None if found is None else f"{found:#x}",
                {**hexed(pgmap_va=pgmap.va), "pfn": pfn},
            )
