# SPDX-License-Identifier: LGPL-2.1-or-later
"""`vmemmap page` on pages whose story the guest, its configuration and QEMU know."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from .compare import Compare
from .dumps import Dump
from .expect import (
    ALTMAP_RESERVE,
    altmap_areas,
    folio_backing,
    order_of_head,
    zone_of,
)
from .truth import Truth
from .walk import BASE_SIZE, PER_VMEMMAP_PAGE, STRUCT_PAGE, QemuWalk

pytestmark = pytest.mark.rare

INSIDE = 5 * STRUCT_PAGE + 8
"""A member of the sixth struct page of a vmemmap page."""

LISTED = 16
"""So many of the vmemmap pages that a frame backs are listed."""


def _page(dump: Dump, target: str) -> dict[str, Any]:
    (row,) = dump.rows("page", target)
    return row


def _heads(truth: Truth, walk: QemuWalk) -> Iterator[int]:
    """A head of each order and layout, and one that a process holds."""
    found = {}
    for pfn in truth.hugetlb_head_pfns:
        if pfn % 512:
            continue  # the clones that the restore defect leaves
        order = order_of_head(truth, pfn)
        found[order, folio_backing(walk, pfn, order).layout] = pfn
    held = [page.pfn for page in truth.held if page.holder == "file"]
    yield from dict.fromkeys([*found.values(), held[0]])


def test_heads_and_tails_of_huge_pages_are_those_of_kpageflags(
    dump: Dump, truth: Truth, walk: QemuWalk, compare: Compare
) -> None:
    for head in _heads(truth, walk):
        order = order_of_head(truth, head)
        backing = folio_backing(walk, head, order)
        node, zone = zone_of(truth, head)
        for index in (0, 1, PER_VMEMMAP_PAGE, (1 << order) - 1):
            row = _page(dump, f"pfn:{head + index:#x}")
            compound, hugetlb = row["compound"] or {}, row["hugetlb"] or {}
            is_alias = index % PER_VMEMMAP_PAGE == 0 and index > 0
            compare.equal(
                f"page pfn:{head + index:#x} (folio, zone, HVO) = kpageflags, info tlb",
                {
                    "head": compound.get("head_pfn"),
                    "order": compound.get("order"),
                    "tail": row["struct_page"]["is_tail"],
                    "fake head": row["struct_page"]["is_fake_head"],
                    "node": row["struct_page"]["node"],
                    "zone": row["struct_page"]["zone"],
                    "layout": hugetlb.get("layout"),
                    "optimised": hugetlb.get("optimised"),
                },
                {
                    "head": head,
                    "order": order,
                    "tail": index > 0,
                    "fake head": is_alias and backing.layout == "self-shared",
                    "node": node,
                    "zone": zone,
                    "layout": backing.layout,
                    "optimised": backing.layout.endswith("shared"),
                },
                f"{'tail' if index else 'head'} {index} of {head:#x}, order {order}, "
                f"{backing.layout}",
            )


def test_the_vmemmap_page_and_frame_of_a_page_are_those_of_info_tlb(
    dump: Dump, truth: Truth, walk: QemuWalk, compare: Compare
) -> None:
    devices = [space.end_pfn - 7 for space in truth.namespaces if space.owner != "kmem"]
    heads = list(_heads(truth, walk))
    for pfn in (0, 0x12345, *devices, *heads, heads[0] + 0x101):
        row = _page(dump, f"pfn:{pfn:#x}")["vmemmap"]
        va = walk.page_va(pfn) // BASE_SIZE * BASE_SIZE
        found = walk.translate(va)
        frame = found.pa // BASE_SIZE
        compare.equal(
            f"page pfn:{pfn:#x} (vmemmap page, frame, read-only, users) = info tlb",
            (row["va"], row["frame_pfn"], row["readonly"], row["mappings"]),
            (f"{va:#x}", frame, not found.writable, walk.mappings[frame]),
        )


def test_a_write_to_a_shared_tail_is_explained(
    dump: Dump, truth: Truth, walk: QemuWalk, compare: Compare
) -> None:
    heads = [pfn for pfn in truth.hugetlb_head_pfns if not pfn % 512]
    chosen = walk.readonly[:1] + walk.readonly[-1:]
    if not chosen:
        compare.equal("page: shared tails to ask about = info tlb", 0, 0, "none")
    for leaf in chosen:
        va = leaf.va + INSIDE
        head = max(pfn for pfn in heads if pfn <= walk.pfn(va))
        order = order_of_head(truth, head)
        verdict = _page(dump, f"{va:#x}")["verdict"]
        said = ("read-only shared tail", "hugetlb", f"order {order}", f"{head:#x}")
        compare.true(
            f"page {va:#x}: the verdict names the read-only shared tail",
            all(words in verdict for words in said),
            verdict,
        )


def test_a_fault_in_a_hole_is_explained(
    dump: Dump, walk: QemuWalk, compare: Compare
) -> None:
    hole = walk.hole()
    row = _page(dump, f"{hole:#x}")
    compare.equal(
        f"page {hole:#x} (pfn, mapped) = info tlb",
        (row["pfn"], row["vmemmap"]["mapped"]),
        (walk.pfn(hole), False),
    )
    compare.true(
        f"page {hole:#x}: the verdict names the hole",
        "unmapped hole" in row["verdict"],
        row["verdict"],
    )


def test_pages_of_devices_are_those_configured(
    dump: Dump, truth: Truth, compare: Compare
) -> None:
    for space in truth.namespaces:
        if space.owner == "kmem":
            continue
        pfn = space.data_start_pfn + 0x123
        row = _page(dump, f"pfn:{pfn:#x}")
        is_compound = space.owner == "device_dax"
        pages = space.align // BASE_SIZE
        head = pfn // pages * pages if is_compound else None
        compare.equal(
            f"page pfn:{pfn:#x} (range, type, zone, head) = configured",
            (
                row["dax"]["start_pfn"],
                row["dax"]["end_pfn"],
                row["dax"]["type"],
                row["struct_page"]["zone"],
                row["compound"] and row["compound"]["head_pfn"],
                row["hugetlb"],
            ),
            (
                space.start_pfn,
                space.end_pfn,
                "GENERIC" if is_compound else "FS_DAX",
                "Device",
                head,
                None,
            ),
        )


def test_struct_pages_of_an_altmaps_reserve_were_never_initialised(
    dump: Dump, truth: Truth, compare: Compare
) -> None:
    areas = altmap_areas(truth)
    assert areas, "no namespace has an altmap"
    for area in areas:
        for pfn in (area[0], area[ALTMAP_RESERVE]):
            row = _page(dump, f"pfn:{pfn:#x}")
            compare.equal(
                f"page pfn:{pfn:#x}: initialised = not in the altmap's reserve",
                row["struct_page"]["initialised"],
                pfn != area[0],
            )


def test_kernel_text_is_a_single_page_where_iomem_has_it(
    dump: Dump, truth: Truth, walk: QemuWalk, compare: Compare
) -> None:
    code = next(entry for entry in truth.iomem if entry.name == "Kernel code")
    address = truth.kallsyms["_text"]
    for target in (f"pfn:{code.start_pfn:#x}", "va:_text", f"{address:#x}"):
        row = _page(dump, target)
        page = row["struct_page"]
        compare.equal(
            f"page {target} (pfn, zone, compound, device) = iomem, zoneinfo",
            (row["pfn"], page["node"], page["zone"], row["compound"], row["dax"]),
            (code.start_pfn, *zone_of(truth, code.start_pfn), None, None),
        )
    assert walk.translate(address).pa // BASE_SIZE == code.start_pfn


def test_what_a_shared_frame_backs_is_that_of_info_tlb(
    dump: Dump, walk: QemuWalk, compare: Compare
) -> None:
    ((most, _),) = walk.mappings.most_common(1)
    private = next(leaf.frame_pfn for leaf in walk.vmemmap if not leaf.large)
    for frame in (most, *sorted(walk.readonly_only), private):
        users = [leaf.va for leaf in walk.vmemmap if leaf.frame_pfn == frame]
        backs = _page(dump, f"phys:{frame * BASE_SIZE + 0x40:#x}")["backs"]
        compare.equal(
            f"page phys:{frame * BASE_SIZE + 0x40:#x}: what it backs = info tlb",
            (backs["count"], [page["va"] for page in backs["pages"]]),
            (len(users), [f"{va:#x}" for va in users[:LISTED]]),
            f"{len(users)} vmemmap pages",
        )


def test_a_frame_outside_the_vmemmap_backs_nothing_of_it(
    dump: Dump, walk: QemuWalk, compare: Compare
) -> None:
    pfn = next(pfn for pfn in range(0x1000, 1 << 20) if pfn not in walk.mappings)
    backs = _page(dump, f"phys:{pfn << 12:#x}")["backs"]
    compare.equal(f"page phys:{pfn << 12:#x}: what it backs = info tlb", backs, None)


def test_tails_of_huge_pages_carry_no_flag_of_use(
    dump: Dump, truth: Truth, walk: QemuWalk, compare: Compare
) -> None:
    """A folio's order lies in the flags word of its second page since 6.6."""
    for head in _heads(truth, walk):
        for index in (1, 2, PER_VMEMMAP_PAGE + 1):
            row = _page(dump, f"pfn:{head + index:#x}")["struct_page"]
            what = f"page pfn:{head + index:#x}: flags = a tail's"
            compare.equal(what, row["flags"], [], f"tail {index}: none")
