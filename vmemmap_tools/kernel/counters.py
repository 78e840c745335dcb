# SPDX-License-Identifier: LGPL-2.1-or-later
"""nr_memmap_pages and nr_memmap_boot_pages (``mm/vmstat.c``, 6.11 and later).

Neither alone equals anything: HVO debits boot frames from the one and credits new head
frames to the other. Only their sum balances.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..target.base import Fault, Target
from .memory import Memory

__all__ = ["MemmapCounters", "read_memmap_counters"]


@dataclass(frozen=True)
class MemmapCounters:
    """Pages, signed as the kernel's atomic_long_t; None where the kernel has none."""

    runtime: int | None
    boot: int | None


def read_memmap_counters(target: Target, memory: Memory) -> MemmapCounters:
    """Both counters."""
    return MemmapCounters(
        _read(target, memory, "nr_memmap_pages"),
        _read(target, memory, "nr_memmap_boot_pages"),
    )


def _read(target: Target, memory: Memory, name: str) -> int | None:
    variable = target.variable(name)
    if variable is None:
        return None
    try:
        data = memory.read(variable.address, variable.type.size)
    except Fault as fault:
        memory.missing.record(fault, "memmap counters")
        return None
    return int.from_bytes(data, target.byteorder, signed=True)
