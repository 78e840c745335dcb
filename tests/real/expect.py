# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the guest's configuration must have led to, by its own record.

The numbers come from the record's steps and devices and from how the kernels are known
to lay out the vmemmap, never from the tool.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

from .devices import Namespace
from .truth import Truth
from .walk import BASE_SIZE, PER_VMEMMAP_PAGE, STRUCT_PAGE, QemuWalk

__all__ = [
    "ALTMAP_RESERVE",
    "GIANT",
    "LARGE",
    "PAGES_PER_SECTION",
    "FolioBacking",
    "altmap_areas",
    "boot_pages",
    "dax_rows",
    "device_zones",
    "folio_backing",
    "has_hvo",
    "has_lost_boot_page",
    "has_restore_defect",
    "optimised_pages",
    "order_of_head",
    "present_sections",
    "selfhosted_areas",
    "zone_of",
]

LARGE, GIANT = 2 << 20, 1 << 30
PAGES_PER_SECTION = 1 << 15


ALTMAP_RESERVE = 2
"""Pages of a namespace's info block that its altmap leaves alone."""


def has_hvo(truth: Truth) -> bool:
    """Whether the guest was told to optimise; the last word of its kind counts."""
    words = [w for w in truth.cmdline.split() if w.startswith("hugetlb_free_vmemmap=")]
    return words[-1].endswith("=on")


def optimised_pages(truth: Truth) -> dict[tuple[int, int], tuple[int, int]]:
    """Optimised and other huge pages by (size, node), as the steps made them.

    A step "plain" made its pages while the policy was off; pages were given back on a
    node that had only optimised ones.
    """
    optimised: Counter[int] = Counter()
    plain: Counter[int] = Counter()
    before = [0] * len(truth.steps[0].per_node)
    for step in truth.steps:
        for node, (old, new) in enumerate(zip(before, step.per_node)):
            kind = plain if step.name.endswith("-plain") else optimised
            kind[node] += new - old
        before = list(step.per_node)
    expected = {}
    for node in range(len(before)):
        giants = truth.pool(GIANT, node).total
        expected[LARGE, node] = (optimised[node], plain[node])
        expected[GIANT, node] = (giants, 0)
    if not has_hvo(truth):
        return {key: (0, sum(counts)) for key, counts in expected.items()}
    return expected


def boot_pages(truth: Truth, size: str) -> int:
    """Huge pages of *size*, as the kernel writes it, that were had at boot: dmesg."""
    pattern = rf"HugeTLB: registered {re.escape(size)} page size, pre-allocated (\d+)"
    found = re.search(pattern, truth.parts["dmesg"])
    assert found is not None, "dmesg does not say what was had at boot"
    return int(found.group(1))


def has_restore_defect(truth: Truth) -> bool:
    """Whether this kernel restores a vmemmap with clones of the head in it.

    Stable 6.12.115 to 6.12.117 do. Its page checks say so in dmesg, and kpageflags
    shows more heads than the pools have pages.
    """
    pools = sum(pool.total for pool in truth.hugetlb if pool.node is None)
    has_complained = "Bad page state" in truth.parts["dmesg"]
    return has_complained and len(truth.hugetlb_head_pfns) > pools


def has_lost_boot_page(truth: Truth) -> bool:
    """Whether page checks refused a gigantic boot page for references of its tails."""
    return "page dumped because: nonzero _refcount" in truth.parts["dmesg"]


def order_of_head(truth: Truth, pfn: int) -> int:
    """Order of the huge page with head *pfn*, by kpageflags."""
    tails = {run.start_pfn: run for run in truth.page_runs if run.kind == "huge-tail"}
    return tails[pfn + 1].pages.bit_length()


@dataclass(frozen=True)
class FolioBacking:
    """What stands behind a folio's vmemmap, in the words of ``hvo --folios``."""

    layout: str
    head_frame_pfn: int
    tail_frame_pfn: int | None
    tail_readonly: bool | None


def folio_backing(walk: QemuWalk, pfn: int, order: int) -> FolioBacking:
    """Return how QEMU's walk shows the vmemmap of the folio at *pfn*."""
    first = walk.page_va(pfn)
    pages = (STRUCT_PAGE << order) // BASE_SIZE
    found = [walk.translate(first + i * BASE_SIZE) for i in range(pages)]
    frames = [mapping.pa // BASE_SIZE for mapping in found]
    if len(set(frames)) == pages:
        is_huge = all(mapping.page_size > BASE_SIZE for mapping in found)
        return FolioBacking(
            "huge-leaf" if is_huge else "private", frames[0], None, None
        )
    (tail,) = set(frames[1:])
    (writable,) = {mapping.writable for mapping in found[1:]}
    layout = "self-shared" if tail == frames[0] else "zone-shared"
    return FolioBacking(layout, frames[0], tail, not writable)


def zone_of(truth: Truth, pfn: int) -> tuple[int, str]:
    """Return node and zone of a page of RAM, by the spans in zoneinfo.

    Node 0 spans node 1's memory where devices lie between: the last start decides.
    """
    zones = [
        (zone.start_pfn, zone.node, zone.name)
        for zone in truth.zones
        if zone.start_pfn is not None and zone.present
    ]
    _, node, name = max(zone for zone in zones if zone[0] <= pfn)
    return node, name


def present_sections(truth: Truth) -> set[int]:
    """Numbers of the sections that ought to be there: memory blocks and devices."""
    per_block = truth.block_size // BASE_SIZE // PAGES_PER_SECTION
    present = {
        block.number * per_block + i
        for block in truth.memory_blocks
        for i in range(per_block)
    }
    for space in truth.namespaces:
        if space.owner != "kmem":
            last = (space.end_pfn - 1) // PAGES_PER_SECTION
            present.update(range(space.start_pfn // PAGES_PER_SECTION, last + 1))
    return present


def altmap_areas(truth: Truth) -> list[range]:
    """Page frames of devices that were set aside for their own memmap."""
    return [
        range(space.start_pfn, space.data_start_pfn)
        for space in truth.namespaces
        if space.has_altmap
    ]


def selfhosted_areas(truth: Truth) -> list[range]:
    """Page frames at the start of hot-added blocks that hold the block's own memmap.

    The kmem driver asks for it where its device's ``memmap_on_memory`` is set.
    """
    per_block = truth.block_size // BASE_SIZE
    return [
        range(pfn, pfn + per_block // PER_VMEMMAP_PAGE)
        for device in truth.dax_devices.values()
        if device.driver == "kmem" and device.memmap_on_memory
        for block in truth.memory_blocks
        for pfn in [block.phys_index * per_block]
        for start, end, _ in device.mappings
        if start // BASE_SIZE <= pfn and (pfn + per_block) * BASE_SIZE <= end + 1
    ]


def device_zones(truth: Truth) -> list[tuple[int, int, int]]:
    """Node, first page frame and span of each zone Device: its node's devices."""
    spaces: dict[int, list[Namespace]] = {}
    for space in truth.namespaces:
        if space.owner != "kmem":
            region = truth.nd_devices[f"region{space.region}"]
            node = max(int(region.attributes["numa_node"]), 0)
            spaces.setdefault(node, []).append(space)
    found: list[tuple[int, int, int]] = []
    for node, mine in sorted(spaces.items()):
        start = min(space.start_pfn for space in mine)
        found.append((node, start, max(space.end_pfn for space in mine) - start))
    return found


def dax_rows(truth: Truth) -> list[dict[str, Any]]:
    """Rows of ``vmemmap dax``: a page map for every namespace that kmem did not take.

    Compounds without an altmap keep their head's page and one for all tails, whatever
    ``hugetlb_free_vmemmap`` says.
    """
    return [_dax_row(space) for space in truth.namespaces if space.owner != "kmem"]


def _whole_sections(space: Namespace) -> int:
    """Sections that lie in a namespace whole: only these get memmap from an altmap.

    x86 maps the memmap of a part of a section with base pages of RAM.
    """
    return max(
        0,
        space.end_pfn // PAGES_PER_SECTION - -(-space.start_pfn // PAGES_PER_SECTION),
    )


def _dax_row(space: Namespace) -> dict[str, Any]:
    pages = space.end_pfn - space.start_pfn
    vmemmap = pages // PER_VMEMMAP_PAGE
    shift = 0 if space.owner == "fsdax" else (space.align // BASE_SIZE).bit_length() - 1
    # The compound pages begin behind what the altmap takes.
    first = space.data_start_pfn if space.has_altmap else space.start_pfn
    compounds = space.end_pfn - first >> shift if shift else 0
    shared = 0 if space.has_altmap else compounds
    saved = vmemmap - 2 * shared if shared else 0
    altmap = {
        "base_pfn": space.start_pfn,
        "reserve": ALTMAP_RESERVE,
        "free": space.data_start_pfn - space.start_pfn - ALTMAP_RESERVE,
        "alloc": _whole_sections(space) * PAGES_PER_SECTION // PER_VMEMMAP_PAGE,
    }
    return {
        "start_pfn": space.start_pfn,
        "end_pfn": space.end_pfn,
        "type": "FS_DAX" if space.owner == "fsdax" else "GENERIC",
        "vmemmap_shift": shift,
        "altmap": altmap if space.has_altmap else None,
        "compounds": compounds,
        "optimised_compounds": shared,
        "vmemmap_pages": vmemmap,
        "backing_frames": vmemmap - saved,
        "saved_bytes": saved * BASE_SIZE,
        "expected_saved_bytes": saved * BASE_SIZE,
        "generalised_extra_bytes": shared * BASE_SIZE,
    }
