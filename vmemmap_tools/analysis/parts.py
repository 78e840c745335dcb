# SPDX-License-Identifier: LGPL-2.1-or-later
"""Parts of a kernel of which something may be missing, and what is then not known.

A sum over a part that is not whole would be too small and look true: it is None.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ..kernel.kernel import Kernel

__all__ = ["PARTS", "add", "is_whole"]

SECTIONS = ("mem_section root pointers", "mem_section roots")
REFUSED = (
    "mem_section roots linked twice",
    "vmemmap page tables linked twice",
    "leaves too large for a vmemmap",
)
"""What was not followed since it cannot be: nothing that is counted is known then."""
TABLES = ("vmemmap page tables",)

PARTS: Mapping[str, tuple[str, ...]] = {
    "page tables": TABLES,
    "sections": SECTIONS,
    "zones": ("pages of node_data", "nodes", "arrays of shared tail pages"),
    "hstates": ("hstates",),
    "folios": (*SECTIONS, *TABLES, "heads of huge pages", "hstates"),
    "device maps": (
        "nodes of pgmap_array",
        "dev_pagemaps",
        "ranges of dev_pagemaps",
    ),
    "memory blocks": ("memory blocks",),
    "hosting": (*SECTIONS, *TABLES, "struct pages of vmemmap frames"),
}
"""Parts, and the concerns under which the views count what they lack of them.

No one else counts under these: what was asked before must not change an answer.
"""


def is_whole(kernel: Kernel, *parts: str) -> bool:
    """Whether all was there of what has been read of these parts so far."""
    concerns = [concern for part in parts for concern in PARTS[part]]
    return not kernel.missing.about(*REFUSED, *concerns)


def add(values: Iterable[int | None]) -> int | None:
    """A sum that is unknown once a part of it is."""
    total = 0
    for value in values:
        if value is None:
            return None
        total += value
    return total
