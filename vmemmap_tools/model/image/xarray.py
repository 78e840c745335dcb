# SPDX-License-Identifier: LGPL-2.1-or-later
"""Write an xarray with entries that cover ranges of indices (lib/xarray.c)."""

from __future__ import annotations

from collections.abc import Sequence

from vmemmap_tools.model.objects import Heap, Object

__all__ = ["write_xarray"]

CHUNK_SHIFT = 6
CHUNK = 1 << CHUNK_SHIFT


def _internal(value: int) -> int:
    return value << 2 | 2


def write_xarray(
    heap: Heap, root: Object, entries: Sequence[tuple[int, int, int]]
) -> None:
    """Store (first index, last index, pointer) in the empty xarray ``root``."""
    if not entries:
        return
    highest = max(last for _, last, _ in entries)
    shift = 0
    while highest >> (shift + CHUNK_SHIFT):
        shift += CHUNK_SHIFT
    node = _node(heap, root, None, 0, shift)
    for first, last, pointer in entries:
        _store(heap, root, node, 0, shift, first, last, pointer)
    root.set("xa_head", node.va | 2)


def _node(
    heap: Heap, root: Object, parent: Object | None, offset: int, shift: int
) -> Object:
    node = heap.object("xa_node")
    node.set("shift", shift)
    node.set("offset", offset)
    node.set("parent", parent.va if parent is not None else 0)
    node.set("array", root.va)
    node.init_list("private_list")
    return node


def _store(
    heap: Heap,
    root: Object,
    node: Object,
    base: int,
    shift: int,
    first: int,
    last: int,
    pointer: int,
) -> None:
    """Store [first, last] inside the node that starts at index ``base``."""
    span = 1 << shift
    slot = (max(first, base) - base) >> shift
    while slot < CHUNK and base + slot * span <= last:
        low = base + slot * span
        high = low + span - 1
        if first <= low and high <= last:
            canonical = slot
            node.set(f"slots[{slot}]", pointer)
            node.set("count", node.get("count") + 1)
            slot += 1
            while slot < CHUNK and base + (slot + 1) * span - 1 <= last:
                node.set(f"slots[{slot}]", _internal(canonical))
                node.set("count", node.get("count") + 1)
                slot += 1
            continue
        entry = node.get(f"slots[{slot}]")
        if entry:
            pa = (entry & ~3) - heap.offset
            child = Object(heap.memory, heap.types, "xa_node", pa, entry & ~3)
        else:
            child = _node(heap, root, node, slot, shift - CHUNK_SHIFT)
            node.set(f"slots[{slot}]", child.va | 2)
            node.set("count", node.get("count") + 1)
        _store(heap, root, child, low, shift - CHUNK_SHIFT, first, last, pointer)
        slot += 1
