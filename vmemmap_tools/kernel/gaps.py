# SPDX-License-Identifier: LGPL-2.1-or-later
"""What an answer rests on and could not be read: the one notion of completeness.

A kernel is read in parts: its sections, its zones, the page tables of its vmemmap, and
so on. The views count what they cannot read under a concern (`memory.Missing`); a part
has a *gap* where one of its concerns was counted, or where no type or symbol leads to
it. An answer that rests on a part with a gap is not known: a count over the rest would
be too small, and "none" would be a guess.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Callable

if TYPE_CHECKING:
    from .kernel import Kernel

__all__ = ["PARTS", "Part", "gap", "unknown"]


@dataclass(frozen=True)
class Part:
    """One part of a kernel.

    ``concerns`` are what its view counts as missing, ``damage`` what it found damaged
    and did not follow. ``read`` makes the view read it, so that what is missing of it
    is counted; ``unknown`` gives the reason why nothing leads to it, or None. A part is
    complete only if the parts that it ``rests_on`` are.
    """

    concerns: tuple[str, ...]
    read: Callable[[Kernel], object]
    unknown: Callable[[Kernel], str | None] = lambda kernel: None
    rests_on: tuple[str, ...] = ()
    damage: tuple[str, ...] = ()


PARTS: Mapping[str, Part] = {
    "page tables": Part(
        ("vmemmap page tables",),
        lambda kernel: kernel.vmemmap,
        damage=("vmemmap page tables linked twice", "leaves too large for a vmemmap"),
    ),
    "sections": Part(
        ("mem_section root pointers", "mem_section roots"),
        lambda kernel: len(kernel.sections),
        lambda kernel: kernel.sections.unknown,
        damage=("mem_section roots linked twice",),
    ),
    "zones": Part(
        ("pages of node_data", "nodes", "node states", "arrays of shared tail pages"),
        lambda kernel: kernel.zones,
        lambda kernel: kernel.zones.unknown,
    ),
    "zone names": Part(
        ("zone names",), lambda kernel: kernel.zones, rests_on=("zones",)
    ),
    "hstates": Part(
        ("hstates",),
        lambda kernel: kernel.hugetlb.hstates,
        lambda kernel: kernel.hugetlb.unknown,
    ),
    "folios": Part(
        ("heads of huge pages",),
        lambda kernel: kernel.hugetlb.look_at_all(),
        rests_on=("sections", "page tables"),
    ),
    "device maps": Part(
        ("nodes of pgmap_array", "dev_pagemaps", "ranges of dev_pagemaps"),
        lambda kernel: kernel.pgmaps,
        lambda kernel: kernel.pgmaps.unknown,
    ),
    "memory blocks": Part(
        ("memory blocks",), lambda kernel: kernel.sections.memory_block_va(0)
    ),
}
"""Only the views that read a part count under its concerns: what one verb could not
read of something else makes no part of another's answer incomplete."""


def unknown(kernel: Kernel, part: str) -> str | None:
    """Why nothing at all is known of a part, in words; None if something may be."""
    reason = PARTS[part].unknown(kernel)
    return None if reason is None else f"the {part} are unknown: {reason}"


def gap(kernel: Kernel, part: str, with_damage: bool = True) -> str | None:
    """What is missing of a part, in words; None if it is complete.

    Without damage, what was found damaged and not followed is no gap: rules that look
    for damage read the rest.
    """
    reason = unknown(kernel, part)
    if reason is not None:
        return reason
    one = PARTS[part]
    one.read(kernel)
    found = kernel.missing.about(*(one.damage if with_damage else ()), *one.concerns)
    if found:
        return f"the {part} are incomplete: {', '.join(found)}"
    below = (gap(kernel, other, with_damage) for other in one.rests_on)
    return next(filter(None, below), None)
