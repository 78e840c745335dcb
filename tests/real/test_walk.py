# SPDX-License-Identifier: LGPL-2.1-or-later
"""`vmemmap walk` against QEMU's own walk, in the vmemmap and elsewhere."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .compare import Compare
from .dumps import Asked
from .truth import Truth
from .walk import GIANT_SIZE, QemuWalk

pytestmark = pytest.mark.rare

OFFSET = 0x468
"""Into the page, so that the physical address is not the frame's."""


def _vmemmap(walk: QemuWalk) -> Iterator[int]:
    """One address of every kind of leaf, and the first and the last one."""
    chosen = {leaf.flags: leaf.va for leaf in walk.vmemmap}
    yield from (walk.vmemmap[0].va, *chosen.values(), walk.vmemmap[-1].va)


def _direct_map(walk: QemuWalk, truth: Truth) -> Iterator[int]:
    """Base pages, 2M and 1G leaves, on both nodes and on a device."""
    (*_, last) = (entry for entry in truth.iomem if entry.name == "System RAM")
    end = last.end + 1 - 0x1000
    for pa in (0x1000, 0x200000, 0x12345000, 0x150000000, 0x1A0300000, end):
        yield walk.direct_map + pa
    giants = [
        leaf.va
        for leaf in walk.leaves
        if leaf.large and walk.translate(leaf.va).page_size == GIANT_SIZE
    ]
    yield from giants[:1]


@pytest.mark.parametrize("area", ["vmemmap", "direct map", "kernel text"])
def test_translation_is_that_of_info_tlb(
    dump: Asked, walk: QemuWalk, truth: Truth, compare: Compare, area: str
) -> None:
    text = (truth.kallsyms[name] for name in ("_text", "_stext", "_etext"))
    addresses = {
        "vmemmap": _vmemmap(walk),
        "direct map": _direct_map(walk, truth),
        "kernel text": (va - OFFSET if va % 4096 else va for va in text),
    }
    for start in dict.fromkeys(addresses[area]):
        va = start + OFFSET
        judge = walk.translate(va)
        expected = {
            "pa": judge.pa,
            "frame_pfn": judge.pa >> 12,
            "page_size": judge.page_size,
            "readonly": not judge.writable,
        }
        permission = "writable" if judge.writable else "read-only"
        compare.equal(
            f"walk {va:#x} ({area}) = info tlb",
            dump.totals("walk", f"{va:#x}"),
            expected,
            f"pa {judge.pa:#x}, leaf of {judge.page_size >> 10}K, {permission}",
        )


def test_a_symbol_leads_where_kallsyms_and_info_tlb_say(
    dump: Asked, walk: QemuWalk, truth: Truth, compare: Compare
) -> None:
    judge = walk.translate(truth.kallsyms["vmemmap_base"]).pa
    ours = dump.totals("walk", "vmemmap_base")["pa"]
    compare.equal("walk vmemmap_base = kallsyms, info tlb", ours, judge, f"{judge:#x}")


def test_the_levels_are_those_the_processor_has(
    dump: Asked, walk: QemuWalk, truth: Truth, compare: Compare
) -> None:
    base_page = next(leaf.va for leaf in walk.vmemmap if not leaf.large)
    rows = dump.rows("walk", f"{base_page:#x}")
    expected = ["PGD", *(["P4D"] if truth.has_la57 else []), "PUD", "PMD", "PTE"]
    compare.equal(
        "walk: levels = cpu flag la57", [row["name"] for row in rows], expected
    )


def test_a_hole_of_the_vmemmap_leads_nowhere(
    dump: Asked, walk: QemuWalk, compare: Compare
) -> None:
    hole = walk.hole()
    nothing = dict.fromkeys(("pa", "frame_pfn", "page_size", "readonly"))
    ours = dump.totals("walk", f"{hole:#x}")
    compare.equal(f"walk {hole:#x} (a hole) = info tlb", ours, nothing, "not mapped")
