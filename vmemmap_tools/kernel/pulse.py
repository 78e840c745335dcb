# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a kernel itself counts and lists of its memory, to see whether it stood still.

Between two equal pulses of a running kernel no huge page was allocated or freed, no
memory came or went, and no vmemmap was counted in or out.
"""

from __future__ import annotations

from collections.abc import Hashable

from .kernel import Kernel

__all__ = ["pulse"]


def pulse(kernel: Kernel) -> Hashable:
    """Pools, memmap counters, zones, sections and device page maps of this reading."""
    return (
        tuple(kernel.hugetlb.hstates),
        kernel.counters,
        tuple(kernel.zones),
        tuple(kernel.sections),
        tuple(kernel.pgmaps),
    )
