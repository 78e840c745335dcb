# SPDX-License-Identifier: LGPL-2.1-or-later
"""Corruptions of one word that `check` need not find: classes, each with its reason.

A class is harmless if nothing reads the bits, or if every value of them is a sound
state, so that no reader of a dump can tell. docs/check.md has the same list;
``python -m tests.analysis.check.harmless`` writes it there.
"""

from __future__ import annotations

import textwrap
from pathlib import Path

__all__ = ["CLASSES", "section_of_docs", "written_section"]

PAGE = Path(__file__).parents[3] / "docs" / "check.md"
FIRST, NEXT = "## What is not found\n", "## Sections\n"
WIDTH = 96

CLASSES = {
    "leaf-accounting": (
        "accessed, dirty and global bits of page-table leaves, and accessed and dirty "
        "bits of empty entries: the processor and the TLB keep them, the vmemmap's "
        "owner never looks."
    ),
    "software-bits": (
        "bits 9 to 11 and 52 to 58 of an entry: the processor ignores them, and of "
        "kernel data none but the saved dirty bit is used."
    ),
    "protection-key": (
        "bits 59 to 62 of an entry: protection keys are for pages of users."
    ),
    "table-flags": (
        "flags of an entry that names a table, but for present, write and page size: "
        "the leaf below forbids what they allow, or the processor ignores them."
    ),
    "device-permission": (
        "the write permission of shared tails of device DAX: kernels differ, both is "
        "legal."
    ),
    "section-taint": (
        "SECTION_TAINT_ZONE_DEVICE on a section without device memory: it is never "
        "cleared, and costs a look-up."
    ),
    "section-preinit": "SECTION_IS_VMEMMAP_PREINIT: only booting reads it.",
    "section-early": (
        "SECTION_IS_EARLY missing from a section with all its subsections: so is a "
        "section that was removed and added again."
    ),
    "section-padding": "padding of mem_section: nothing reads it.",
    "flags-middle": (
        "the bits of page flags between the flags and the zone (last_cpupid, "
        "generations): no type tells their widths, and hugetlb pages are on no LRU "
        "list."
    ),
    "head-state": (
        "flags of a hugetlb head, but for PG_head and those of pages on LRU lists, in "
        "slabs or reserved: locked, dirty, poisoned and so on are states."
    ),
    "tail-state": "flags of a tail that freeing a folio clears without a look.",
    "hugetlb-flags": (
        "HPG_* flags but for vmemmap_optimized and freed: each is a state."
    ),
    "head-contents": (
        "the owner, index, counters and cgroup of a hugetlb head in use, the index of "
        "a free one, and below its page type the bits of the mapcount: any value is "
        "sound."
    ),
    "first-tails": (
        "members of struct folio in the first tails, but for the order and the number "
        "of pages, and in a free folio its mapcounts, pins and owners: counters and "
        "pointers of a folio in use may have any value."
    ),
    "tail-links": (
        "list pointers of tails, and `index` and `private` of those that are no zone's "
        "shared ones: nothing reads them."
    ),
    "gigantic-mapping": (
        "`mapping` of the tails of a gigantic folio: breaking it up clears it without "
        "a look."
    ),
}
"""Name -> what is not found, and why that does no harm."""


def section_of_docs() -> str:
    """The list as it has to stand in docs/check.md."""
    lines = [FIRST]
    intro = (
        "Some corruption of a single word is harmless, or nothing tells it from a "
        "sound state, and is not found:"
    )
    lines += [*textwrap.wrap(intro, WIDTH), ""]
    for name, text in CLASSES.items():
        lines += textwrap.wrap(f"* **{name}**: {text}", WIDTH, break_on_hyphens=False)
    rest = (
        "Nor is it with the struct pages of memory that no compound page, pool or "
        "device uses: whether they are sound is the page allocator's business. Entries "
        "that lead to tables outside the dump are told as a gap, not as damage."
    )
    lines += ["", *textwrap.wrap(rest, WIDTH), "", ""]
    return "\n".join(lines)


def written_section() -> str:
    """The list as it stands there."""
    text = PAGE.read_text()
    return text[text.index(FIRST) : text.index(NEXT)]


if __name__ == "__main__":
    whole = PAGE.read_text()
    start = whole.index(FIRST) if FIRST in whole else whole.index(NEXT)
    PAGE.write_text(whole[:start] + section_of_docs() + whole[whole.index(NEXT) :])
