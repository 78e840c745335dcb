# SPDX-License-Identifier: LGPL-2.1-or-later
"""XArray: walking ``struct xarray`` from bytes (``lib/xarray.c``).

Multi-index entries are reported once, with the index at which they start.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..target.base import Fault, Struct, Target
from .memory import Memory

__all__ = ["for_each_entry", "load"]

MAX_NODES = 1 << 14
"""More nodes than any array we read can have: a longer walk is corruption.

They hold a million entries: 128 TiB in the smallest of memory blocks.
"""
XA_CHUNK_SIBLINGS = 62 << 2 | 2
"""``xa_is_sibling``: internal entries up to this one name a slot of the same node."""


def _layout(target: Target) -> tuple[Struct, int] | None:
    xarray, node = target.struct("xarray"), target.struct("xa_node")
    if xarray is None or node is None or "slots" not in node:
        return None
    return node, xarray.offset("xa_head")


def _is_internal(entry: int) -> bool:
    return entry & 3 == 2


def _is_node(entry: int) -> bool:
    return _is_internal(entry) and entry > 4096


def for_each_entry(memory: Memory, xarray_va: int) -> Iterator[tuple[int, int]]:
    """(first index, entry) of every non-NULL entry, in order. Raises `Fault`.

    Of kind "damaged" where nodes lead in circles or are more than any array has.
    """
    layout = _layout(memory.target)
    if layout is None:
        return
    node, head_offset = layout
    head = memory.unsigned(xarray_va + head_offset)
    if _is_node(head):
        yield from _walk(memory, node, head - 2, 0, 65, set())
    elif head and not _is_internal(head):
        yield 0, head


def _walk(
    memory: Memory, node: Struct, node_va: int, base: int, above: int, seen: set[int]
) -> Iterator[tuple[int, int]]:
    """The entries below one node; ``above`` is its parent's shift, which bounds it."""
    if node_va in seen or len(seen) >= MAX_NODES:
        raise Fault(node_va, node.size, "damaged")
    seen.add(node_va)
    record = memory.record(node, node_va)
    shift = record["shift"]
    if shift >= above:
        raise Fault(node_va, node.size, "damaged")
    for slot, entry in enumerate(record.array("slots")):
        index = base + (slot << shift)
        if _is_node(entry) and shift:
            yield from _walk(memory, node, entry - 2, index, shift, seen)
        elif entry and not _is_internal(entry):
            yield index, entry


def load(memory: Memory, xarray_va: int, index: int) -> int | None:
    """The entry at an index, None if empty (``xa_load``). Raises `Fault`."""
    layout = _layout(memory.target)
    if layout is None:
        return None
    node, head_offset = layout
    entry = memory.unsigned(xarray_va + head_offset)
    if not _is_node(entry):
        return entry if index == 0 and entry and not _is_internal(entry) else None
    for _ in range(11):
        record = memory.record(node, entry - 2)
        shift, slots = record["shift"], record.array("slots")
        slot = index >> shift
        if slot >= len(slots):
            return None
        entry = slots[slot]
        if _is_internal(entry) and entry <= XA_CHUNK_SIBLINGS:
            entry = slots[min(entry >> 2, len(slots) - 1)]
        if not _is_node(entry) or not shift:
            return entry if entry and not _is_internal(entry) else None
        index &= (1 << shift) - 1
    return None
