# SPDX-License-Identifier: LGPL-2.1-or-later
"""HugeTLB folios and zones' shared tail pages in a `Machine`."""

from __future__ import annotations

from .facts import PAGE_FLAGS
from .machine import NORMAL, Machine
from .memory import PAGE

__all__ = ["FREED", "OPTIMIZED", "add_folio", "add_pool", "add_tail_page", "tail_word"]

FREED, OPTIMIZED = 1 << 3, 1 << 4
"""HPG_freed and HPG_vmemmap_optimized (1.6)."""

MASK_WORDS = {
    9: 0xFFFFFFFFFFFF8001,
    18: 0xFFFFFFFFFF000001,
    22: 0xFFFFFFFFF0000001,
    7: 0xFFFFFFFFFFFFE001,
    6: 0xFFFFFFFFFFFFF001,
}
"""What a tail of such a folio holds (1.5; orders 6 and 7 by the same rule)."""

PAGE_TYPE_WORDS = {"type": 0xF4FFFFFF, "type-bit": 0xFFFFF7FF}
"""A head's page type (1.6): top byte 0xf4; or all ones but bit 11."""


def tail_word(machine: Machine, head_pfn: int, order: int) -> int:
    """The compound word of the tails of a folio."""
    if machine.generation.tails and machine.page_struct == 64:
        return MASK_WORDS[order]
    return machine.page_va(head_pfn) | 1


def add_tail_page(
    machine: Machine, node: int = 0, zone: int = NORMAL, order: int = 9
) -> int:
    """A zone's shared tail page: 64 equal tails. Returns its frame."""
    frame = machine.frames()
    tail = bytearray(machine.page_struct)
    tail[0:8] = machine.place_bits(node, zone).to_bytes(8, "little")
    tail[8:16] = MASK_WORDS[order].to_bytes(8, "little")
    tail[48:52] = b"\xff\xff\xff\xff"
    machine.memory.write(frame * PAGE, bytes(tail) * (PAGE // len(tail)))
    machine.set_tail(node, zone, order, machine.page_va(frame))
    return frame


def add_pool(machine: Machine, order: int, by_node: list[int], free: int = 0) -> int:
    """One more hstate, with so many folios on each node. Returns its address."""
    target, index = machine.target, len(machine.pools)
    layout = target.structs["hstate"]
    va = target.variables["hstates"].address + index * layout.size
    target.record(
        "hstate",
        va,
        order=order,
        nr_huge_pages=sum(by_node),
        free_huge_pages=free,
    )
    for name, values in (
        ("nr_huge_pages_node", by_node),
        ("free_huge_pages_node", [free]),
    ):
        data = b"".join(v.to_bytes(4, "little") for v in values)
        target.write(va + layout.offset(name), data)
    target.write(va + layout.offset("name"), f"hugepages-{4 << order}kB".encode())
    machine.pools.append(va)
    target.define_int("hugetlb_max_hstate", index + 1, 4)
    return va


def add_folio(
    machine: Machine,
    pfn: int,
    order: int = 9,
    layout: str = "private",
    *,
    tail_frame: int | None = None,
    node: int = 0,
    zone: int = NORMAL,
    private: int | None = None,
    is_readonly: bool = True,
) -> None:
    """A hugetlb folio whose vmemmap is backed in one of the ways of 1.1.

    ``layout``: "private", "self" (G2, G3), "page1" (G1), "zone" (G4; give the frame).
    """
    first = machine.vmemmap_page(pfn)
    pages = (machine.page_struct << order) // PAGE
    target = {
        "private": None,
        "self": machine.frame(first),
        "page1": machine.frame(first + 1) if pages > 1 else None,
        "zone": tail_frame,
    }[layout]
    if target is not None:
        for i in range(2 if layout == "page1" else 1, pages):
            machine.map(first + i, target, is_writable=not is_readonly)
    if private is None:
        private = 0 if layout == "private" else OPTIMIZED
    _write_head(machine, pfn, order, node, zone, private)


def _write_head(
    machine: Machine, pfn: int, order: int, node: int, zone: int, private: int
) -> None:
    g, place = machine.generation, machine.place_bits(node, zone)
    word = tail_word(machine, pfn, order)
    for tail in range(1, PAGE // machine.page_struct):
        machine.set_page(pfn + tail, flags=place, _mapcount=-1, **{g.word: word})
    machine.set_page(
        pfn,
        flags=place | 1 << PAGE_FLAGS["PG_head"],
        _mapcount=PAGE_TYPE_WORDS.get(g.hugetlb_by, -1),
        _refcount=0,
        private=private,
        **{g.word: 0},
    )
    if g.order_in == "flags_1":
        bit = 1 << PAGE_FLAGS["PG_active"] if g.hugetlb_by == "flag" else 0
        machine.set_page(pfn + 1, flags=place | bit | order)
    else:
        machine.write_page(pfn + 1, 17, bytes([order]))
    if g.hugetlb_by.endswith("dtor"):
        machine.write_page(pfn + 1, 16, b"\x02")
