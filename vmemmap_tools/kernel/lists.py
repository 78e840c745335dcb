# SPDX-License-Identifier: LGPL-2.1-or-later
"""struct list_head: walking a kernel list that may be damaged.

Mirrors ``include/linux/list.h``. A dump can hold any bytes, so a walk is bounded by
what its caller says and ends at the first sign of damage, which it names.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Callable

from ..target.base import Fault
from .memory import Memory

__all__ = ["ListWalk", "walk_list"]

POINTER = 8


@dataclass
class ListWalk:
    """The entries of a list (addresses of their list_head), as far as it is sound.

    ``damage`` says in words why the walk ended early; None for a list that leads back
    to its head. ``fault`` is set instead when memory was missing.
    """

    entries: list[int] = field(default_factory=list)
    damage: str | None = None
    fault: Fault | None = None

    @property
    def is_complete(self) -> bool:
        return self.damage is None and self.fault is None


def walk_list(
    memory: Memory,
    head_va: int,
    limit: int,
    read: Callable[[int, int], bytes] | None = None,
) -> ListWalk:
    """Follow ``next`` from a list head; at most ``limit`` entries.

    ``read(va, size)`` reads entries where there is a faster way than `Memory.read`.
    """
    read = read or memory.read
    walk = ListWalk()
    seen: set[int] = set()
    previous = head_va
    order = memory.target.byteorder
    try:
        current = memory.unsigned(head_va)
        while current != head_va:
            if not current:
                walk.damage = f"a NULL next pointer after {previous:#x}"
                return walk
            if current in seen:
                walk.damage = f"a loop at {current:#x}"
                return walk
            if len(seen) >= limit:
                walk.damage = f"more than the {limit} entries that there can be"
                return walk
            data = read(current, 2 * POINTER)
            back = int.from_bytes(data[POINTER:], order)
            if back != previous:
                walk.damage = (
                    f"prev of {current:#x} is {back:#x} instead of {previous:#x}"
                )
                return walk
            seen.add(current)
            walk.entries.append(current)
            previous, current = current, int.from_bytes(data[:POINTER], order)
    except Fault as fault:
        # A pointer into nowhere is damage; memory that the dump lacks is not.
        if fault.kind == "unmapped":
            walk.damage = f"a pointer to unmapped memory after {previous:#x}"
        else:
            walk.fault = fault
    return walk
