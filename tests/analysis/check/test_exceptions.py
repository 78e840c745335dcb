# SPDX-License-Identifier: LGPL-2.1-or-later
"""What rules P1, P2, F5 and F6 let pass, and that nothing beside it passes.

Each healthy machine here bears the exception: the rule would tell without it.
"""

from __future__ import annotations

import numpy as np
import pytest

from tests.model.kernels import GIB, MIB, small, varied
from vmemmap_tools.analysis.check import Finding
from vmemmap_tools.analysis.dax import compounds_of
from vmemmap_tools.kernel.kernel import Kernel
from vmemmap_tools.kernel.pgmap import Pgmap
from vmemmap_tools.model.boot import BootPage, NodeMemory
from vmemmap_tools.model.image import Image
from vmemmap_tools.model.machine import Machine
from vmemmap_tools.target.base import Struct

from .overlay import Bench, find

TAIL_MAPPING = 0xDEAD000000000400


def said(kernel: Kernel, rule: str) -> list[Finding]:
    found = find(kernel)[1]
    return [f for f in found if f.rule == rule]


def layouts(kernel: Kernel, pgmap: Pgmap) -> list[str]:
    (start, end), *_ = pgmap.ranges
    return [
        str(backing.layout) for _, backing in compounds_of(kernel, pgmap, start, end)
    ]


@pytest.mark.parametrize("generation", ["6.1", "7.3"])
def test_p1_a_device_in_a_section_of_boot_memory_shares_nothing(
    generation: str,
) -> None:
    # Sections are of 128 MiB: the device lies in one that boot memory begins.
    memory = NodeMemory([(0, 2 * GIB), (4 * GIB, 4 * GIB + 32 * MIB)])
    machine = Machine(generation, {0: memory})
    for name, start, size in ("inside", "4128M", "96M"), ("alone", "8G", "128M"):
        machine.dax_add(name, start, size, align="2M", namespace=False, dumped=True)
    bench = Bench(machine)
    kernel = bench.healthy()
    inside, alone = sorted(kernel.pgmaps, key=lambda p: p.ranges)
    assert inside.compound_order == alone.compound_order == 9
    assert layouts(kernel, inside) == ["huge-leaf"] * 48
    assert {layout.endswith("-shared") for layout in layouts(kernel, alone)} == {True}
    assert said(kernel, "P1") == []

    # Not because nothing is looked at: a section that came later has to share.
    image = bench.machine.image()
    section = kernel.sections.of_pfn(inside.ranges[0][0])
    assert section is not None and section.is_early
    entry = image.sections[section.nr]
    early = 1 << image.types.enumerator("SECTION_IS_EARLY_BIT")
    entry.set("section_mem_map", entry.get("section_mem_map") & ~early)
    (found,) = said(bench.over(image), "P1")
    assert (found.cause, found.count) == ("compound not shared as predicted", 48)


def test_p1_a_part_of_a_section_that_carries_the_order_shares_nothing() -> None:
    # 260 MiB fill two sections; the last 4 MiB are a part of the third.
    kernel = Bench(varied("section-dax")).healthy()
    (partial,) = (p for p in kernel.pgmaps if _size(p) == 260 * MIB)
    assert layouts(kernel, partial)[-2:] == ["private"] * 2
    assert set(layouts(kernel, partial)[:-2]) == {"zone-shared"}
    assert said(kernel, "P1") == []


def test_p1_a_member_called_order_may_be_that_of_hugetlb_or_of_devices() -> None:
    # While the framework was new it had this name in kernels of either kind.
    kernel = Bench(varied("section-dax")).healthy()
    known = kernel.target.struct

    def struct(name: str) -> Struct | None:
        found = known(name)
        if found is None or name != "mem_section":
            return found
        members = {
            "order" if name == "compound_page_order" else name: member
            for name, member in found.members.items()
        }
        return Struct(name, found.size, members)

    kernel.target.struct = struct  # type: ignore[method-assign]
    assert kernel.sections.order_member == "order"
    (partial,) = (p for p in kernel.pgmaps if _size(p) == 260 * MIB)
    assert set(layouts(kernel, partial)) == {"zone-shared", "private"}
    assert said(kernel, "P1") == []


def _size(pgmap: Pgmap) -> int:
    return sum(end - start for start, end in pgmap.ranges) << 12


@pytest.mark.parametrize("generation", ["5.18", "7.3"])
def test_p2_the_reserve_of_an_altmap_is_not_set_up(generation: str) -> None:
    bench = Bench(varied(generation))
    kernel = bench.healthy()
    (pgmap,) = (p for p in kernel.pgmaps if p.altmap is not None)
    altmap = pgmap.altmap
    assert altmap is not None
    start, end = altmap.base_pfn, altmap.end_pfn
    assert any(not kernel.pages.page(pfn).flags for pfn in range(start, end))
    assert said(kernel, "P2") == []

    # The first page behind the reserve, left as those of the reserve are.
    image = bench.machine.image()
    image.page(end).set("flags", 0)
    (found,) = said(bench.over(image), "P2")
    assert (found.severity, found.cause) == ("E", "uninitialised struct pages")


def claim_heads(kernel: Kernel, image: Image, count: int) -> None:
    """Set PG_head on single pages whose struct pages begin a private vmemmap page."""
    vmemmap, pages = kernel.vmemmap, kernel.pages
    head = 1 << image.types.enumerator("PG_head")
    for first, is_huge in vmemmap.slots():
        for number in range(first, first + (0 if is_huge else 512)):
            if vmemmap.frame(number) < 0 or vmemmap.frame(number) in (
                vmemmap.frames.shared
            ):
                continue
            page = pages.page(pages.pfn(vmemmap.page_va(number)))
            following = pages.page(page.pfn + 1)
            if not page.flags or page.flags & head or page.is_tail or following.is_tail:
                continue
            image.page(page.pfn).set("flags", page.flags | head)
            count -= 1
            if not count:
                return
    raise AssertionError("not enough single pages")


def test_f6_as_many_heads_as_cpus_may_be_in_the_making() -> None:
    bench = Bench(varied("6.12"))
    kernel = bench.healthy()
    cpus = kernel.target.unsigned("nr_cpu_ids") or 1
    for count, severity in (cpus, "W"), (cpus + 1, "E"):
        image = bench.machine.image()
        claim_heads(kernel, image, count)
        (found,) = said(bench.over(image), "F6")
        assert (found.severity, found.count) == (severity, count)
        assert found.known_issue is None


def lose_boot_page(image: Image, head: int, references: int) -> None:
    """Leave a gigantic page as page checks do that refuse its tails.

    The head keeps PG_head, the tails are cleared and have the references that they
    were restored with.
    """
    page = image.page(head)
    page.set("flags", page.get("flags") | 1 << image.types.enumerator("PG_head"))
    refcount = image.types.offsetof("page._refcount") // 4
    first = image.core.vmemmap.page_of(head)
    for number in range(first + 1, first + image.core.vmemmap.pages_per(18)):
        content = image.memory.page(image.frame_of(number))
        words = np.frombuffer(content, dtype="<u4").reshape(64, -1)
        words[:, 2:10] = 0  # compound word, mapping, index
        words[:, refcount - 1] = 0xFFFFFFFF
        words[:, refcount] = references


@pytest.mark.parametrize("generation", ["7.2", "7.3"])
def test_f6_a_boot_page_with_references_in_its_tails_is_known(generation: str) -> None:
    two = {0: NodeMemory([(0, GIB)]), 1: NodeMemory([(8 * GIB, 10 * GIB)])}
    known = "boot-tail-refcount"
    for defects, references, issue in (
        (True, 1, known),
        (True, 0, None),
        (False, 1, None),
    ):
        pages = [BootPage(1, GIB)]
        machine = Machine(generation, two, boot_pages=pages, defects=defects)
        ((head, *_),) = machine.boot.gigantic
        bench = Bench(machine.hugetlb_free("1G", 1, 1))
        kernel = bench.healthy()
        told = [(f.rule, f.known_issue) for f in find(kernel)[1] if f.severity != "I"]
        assert told == ([("Z2", known)] if defects else [])
        image = bench.machine.image()
        lose_boot_page(image, head, references)
        (found,) = said(bench.over(image), "F6")
        severity = "W" if issue is None else "E"
        assert (found.severity, found.known_issue) == (severity, issue)
        assert found.where.id == head


@pytest.mark.parametrize("generation", ["6.12", "7.3"])
def test_f5_without_cgroup_hugetlb_nothing_writes_of_cgroups(generation: str) -> None:
    # The mapping of a tail, and whatever was the index of a page, stand there still.
    machine = small(generation)
    machine.hugetlb_alloc("2M", 2)
    bench = Bench(machine)
    first, second = (f.pfn for f in bench.healthy().hugetlb.folios())
    assert said(bench.healthy(), "F5") == []
    image = machine.image()
    _write_cgroups(image, first, TAIL_MAPPING, 0x1234)
    assert said(bench.over(image), "F5") == []

    _write_cgroups(image, second, 0, 0x1234)
    (found,) = said(bench.over(image), "F5")
    assert found.where.id == second and found.count == 1
    assert found.found == {"_hugetlb_cgroup_rsvd": "0x1234"}
    assert "_hugetlb_cgroup_rsvd" in found.message


def _write_cgroups(image: Image, head: int, cgroup: int, reserved: int) -> None:
    size = image.types.sizeof("struct page")
    for name, value in ("cgroup", cgroup), ("cgroup_rsvd", reserved):
        index, at = divmod(image.types.offsetof(f"folio._hugetlb_{name}"), size)
        image.memory.write(
            image.page_pa(head + index) + at, value.to_bytes(8, "little")
        )
