# SPDX-License-Identifier: LGPL-2.1-or-later
"""Device memory in a `Machine`: dev_pagemaps, and the XArray that holds them."""

from __future__ import annotations

from .facts import PAGE_FLAGS
from .layouts import pointer
from .machine import DEVICE, SECTION_PAGES, Machine
from .memory import PAGE
from .pools import tail_word
from .target import FakeTarget

__all__ = ["GENERIC", "add_pgmap", "share_compounds", "xarray"]

GENERIC, FS_DAX = 4, 3
SLOTS_BITS = 6
Entries = list[tuple[int, int, int]]
"""(first index, index after the last, pointer)"""


def xarray(target: FakeTarget, entries: Entries) -> int:
    """Build ``struct xarray``; returns its address.

    As xa_store_range() does, an entry takes every slot that it covers whole; the first
    slot holds it, its neighbours name that slot (sibling entries).
    """
    head = 0
    if entries:
        shift = 0
        while max(end for _, end, _ in entries) > 1 << shift + SLOTS_BITS:
            shift += SLOTS_BITS
        head = _node(target, entries, 0, shift) | 2
    return target.record("xarray", xa_head=head)


def _node(target: FakeTarget, entries: Entries, base: int, shift: int) -> int:
    node = target.record("xa_node", target.allocate(576, 64), shift=shift)
    slots = [0] * 64
    for i in range(64):
        start, end = base + (i << shift), base + (i + 1 << shift)
        inside = [e for e in entries if e[0] < end and e[1] > start]
        if not inside:
            continue
        first, last, value = inside[0]
        if first <= start and end <= last:
            head = max(0, first - base >> shift)
            slots[i] = value if head == i else head << 2 | 2
        else:
            slots[i] = _node(target, inside, start, shift - SLOTS_BITS) | 2
    data = b"".join(slot.to_bytes(8, "little") for slot in slots)
    target.write(node + target.structs["xa_node"].offset("slots"), data)
    return node


def add_pgmap(
    machine: Machine,
    start: int,
    end: int,
    shift: int = 0,
    *,
    altmap: tuple[int, int, int, int] | None = None,
    type_: int = GENERIC,
    **members: int,
) -> int:
    """One dev_pagemap with one range of pfns. Returns its address.

    ``altmap`` is (base_pfn, reserve, free, alloc); ``members`` override the rest.
    """
    target = machine.target
    values = {"type": type_, "vmemmap_shift": shift, "nr_range": 1, "flags": 0}
    if altmap:
        names = ("base_pfn", "reserve", "free", "alloc")
        values.update({f"altmap__{n}": v for n, v in zip(names, altmap)}, flags=1)
    va = target.record("dev_pagemap", **{**values, **members})
    target.record(
        "range", va + target.structs["dev_pagemap"].offset("range"),
        start=start * PAGE, end=end * PAGE - 1,
    )  # fmt: skip
    machine.pgmaps.append((start, end, va))
    array_va = xarray(target, machine.pgmaps)
    target.define("pgmap_array", pointer(0))
    variable = target.variables["pgmap_array"]
    target.variables["pgmap_array"] = type(variable)(
        "pgmap_array", array_va, variable.type
    )
    return va


def share_compounds(
    machine: Machine,
    start: int,
    end: int,
    shift: int,
    *,
    tail_frame: int | None = None,
    node: int = 0,
) -> None:
    """Deduplicate a range: form D1, or D2 with a zone's tail page (1.2). Writable."""
    pages = (machine.page_struct << shift) // PAGE
    keep = 2 if tail_frame is None else 1
    for head in range(start, end, 1 << shift):
        first = machine.vmemmap_page(head)
        frame = machine.frame(first + 1) if tail_frame is None else tail_frame
        for i in range(keep, pages):
            machine.map(first + i, frame)
        reserved = 1 << 13
        place = machine.place_bits(node, DEVICE) | reserved
        write_compound(machine, head, shift, place)


def write_compound(machine: Machine, head: int, order: int, place: int) -> None:
    """Struct pages of a compound page, in its first vmemmap page and its second."""
    g = machine.generation
    word = tail_word(machine, head, order)
    count = min(1 << order, 2 * PAGE // machine.page_struct)
    for tail in range(1, count):
        machine.set_page(head + tail, flags=place, _mapcount=-1, **{g.word: word})
    flags = place | 1 << PAGE_FLAGS["PG_head"]
    machine.set_page(head, flags=flags, _mapcount=-1, _refcount=1, **{g.word: 0})
    if g.order_in == "flags_1":
        machine.set_page(head + 1, flags=place | order)
    else:
        machine.write_page(head + 1, 17, bytes([order]))


def sections_of(start: int, end: int) -> range:
    """Numbers of the sections that a range of pfns touches."""
    return range(start // SECTION_PAGES, -(-end // SECTION_PAGES))
