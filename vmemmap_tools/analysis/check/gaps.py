# SPDX-License-Identifier: LGPL-2.1-or-later
"""Parts of a kernel that a dump may hold with gaps.

A folio whose head is missing leaves shared frames behind that nobody seems to own, a
node that is missing takes the names of its shared tail pages with it. Rules that would
mistake such remains for damage name the parts that they need whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Callable

from ..parts import PARTS

if TYPE_CHECKING:
    from ...kernel.kernel import Kernel

__all__ = ["gap"]

READ: Mapping[str, Callable[[Kernel], object]] = {
    "page tables": lambda kernel: kernel.vmemmap,
    "sections": lambda kernel: len(kernel.sections),
    "zones": lambda kernel: kernel.zones,
    "hstates": lambda kernel: kernel.hugetlb.hstates,
    "folios": lambda kernel: kernel.hugetlb.folios(),
    "device maps": lambda kernel: kernel.pgmaps,
    "memory blocks": lambda kernel: kernel.sections.memory_block_va(0),
}
"""What to look at before it is known whether a part is whole."""

UNKNOWN: Mapping[str, Callable[[Kernel], str | None]] = {
    "zones": lambda kernel: kernel.zones.unknown,
    "folios": lambda kernel: kernel.hugetlb.unknown,
    "device maps": lambda kernel: kernel.pgmaps.unknown,
}
"""What types and symbols do not tell, though this kernel has such."""


def gap(kernel: Kernel, part: str) -> str | None:
    """What is missing of a part, in words; None if it is whole."""
    unknown = UNKNOWN[part](kernel) if part in UNKNOWN else None
    if unknown is not None:
        return f"the {part} are unknown here: {unknown}"
    READ[part](kernel)
    found = kernel.missing.about(*PARTS[part])
    if not found:
        return None
    counts = ", ".join(f"{count} {kind}" for kind, count in sorted(found.items()))
    return f"the {part} are not whole here: {counts}"
