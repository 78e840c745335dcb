# SPDX-License-Identifier: LGPL-2.1-or-later
"""Our answers beside those of drgn's own helpers, page by page.

drgn reads the same bytes by code that is not ours. Compared are small machines of all
generations, with the last pages before holes, and a committed capture of a real kernel.
"""

from __future__ import annotations

import lzma
from collections import defaultdict
from collections.abc import Container, Iterable
from dataclasses import replace
from pathlib import Path
from typing import cast

import drgn
import pytest
from drgn.helpers.linux import hugetlb
from drgn.helpers.linux.mm import (
    compound_head,
    compound_order,
    follow_phys,
    for_each_valid_page_range,
    page_flags,
    page_to_pfn,
    pfn_to_page,
)
from drgn.helpers.linux.mmzone import (
    NODE_DATA,
    early_section,
    for_each_online_pgdat,
    for_each_present_section,
    online_section,
    section_decode_mem_map,
    valid_section,
)

from tests.model.kernels import GENERATIONS, MIB, small
from tests.samples import open_with_drgn
from vmemmap_tools.drgn_helpers import (
    folio_backing,
    for_each_hugetlb_folio,
    for_each_section,
    for_each_zone,
    page_to_nid,
    page_vmemmap_frame,
    page_zone,
    section_state,
)
from vmemmap_tools.drgn_helpers.reading import reading_of
from vmemmap_tools.kernel.page_role import role_of
from vmemmap_tools.model.boot import NodeMemory
from vmemmap_tools.model.machine import Machine
from vmemmap_tools.model.objects import ImageSymbol
from vmemmap_tools.model.vmlinux import build_id, write_vmlinux
from vmemmap_tools.target.dump_files import inspect_dump
from vmemmap_tools.target.vmcoreinfo import VmcoreInfo

PAGE = 4096
STRUCT_PAGE = 64
NEAR = 4
"""Pages on each side of a border that are all looked at."""
STRIDE = 17
CAPTURE = "7.3-cloud-amd64_kaslr"
CAPTURES = Path(__file__).parents[2] / "vmcores" / "real"
BY_MASK = ("section-order", "section-dax")
"""Kernels whose mem_section has 24 bytes: drgn finds sections by masks."""


def assert_same_pages(
    prog: drgn.Program, pfns: Iterable[int], held: Container[int] | None = None
) -> int:
    """Conversions, heads, orders and flags of pages; the number of those compared.

    ``held`` are the pages that a capture has whole: an order is on the second page, and
    of a folio four are read.
    """
    pages, count = reading_of(prog).pages, 0
    for pfn in pfns:
        page = pfn_to_page(prog, pfn)
        assert pages.va(pfn) == page.value_()
        assert pages.pfn(page.value_()) == page_to_pfn(page).value_() == pfn
        ours = pages.page(pfn)
        head = compound_head(page)
        assert ours.flags == page_flags(page).value_()
        assert ours.head_va == head.value_(), f"{pfn:#x}"
        is_readable = held is None or all(pfn + i in held for i in range(4))
        if is_readable and not ours.is_tail:
            order = compound_order(page).value_()
            role = role_of(pages, pfn)
            ours_order = role.order if role.name == "head" else 0
            assert ours_order == order, f"{pfn:#x}"
        count += 1
    return count


def borders(prog: drgn.Program) -> set[int]:
    """The pages about the borders of what is valid."""
    found: set[int] = set()
    for start, end, _ in for_each_valid_page_range(prog):
        found.update(range(start, start + NEAR), range(end - NEAR, end))
    return found


@pytest.fixture(scope="module", params=[g for g in GENERATIONS if g not in BY_MASK])
def prog(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> drgn.Program:
    path = tmp_path_factory.mktemp("compared")
    memory = [(0, 128 * MIB), (256 * MIB, 384 * MIB)]
    machine = Machine(request.param, {0: NodeMemory(memory)})
    machine.hugetlb_alloc("2M", 8).set_hvo(False).hugetlb_alloc("2M", 2)
    machine.dax_add("dax0", "4G", "256M", align="2M", dumped=True)
    machine.write(path)
    return open_with_drgn(str(path / "vmcore"), str(path / "vmlinux"))


def test_pages_are_drgns(prog: drgn.Program) -> None:
    pfns = {*range(0, 0x10000, STRIDE), *range(0x10000, 0x18000, 5)} - borders(prog)
    for page in for_each_hugetlb_folio(prog):
        head = page_to_pfn(page).value_()
        pfns.update(range(head, head + 512, 5))
    # The second section lies between two holes.
    valid = [p for p in pfns if reading_of(prog).sections.pfn_is_valid(p)]
    assert assert_same_pages(prog, sorted(valid)) > 5000


def test_the_last_pages_before_holes_are_drgns(prog: drgn.Program) -> None:
    pfns = sorted(borders(prog))
    assert {0x7FFF, 0x10000, 0x17FFF} <= set(pfns)
    assert assert_same_pages(prog, pfns) == len(pfns)


def test_frames_are_drgns(prog: drgn.Program) -> None:
    mm = prog["init_mm"].address_of_()
    for start, end, _ in for_each_valid_page_range(prog):
        for pfn in {*range(start, end, STRUCT_PAGE), end - 1}:
            page = pfn_to_page(prog, pfn)
            frame = page_vmemmap_frame(page)
            assert frame == follow_phys(mm, page).value_() // PAGE


def test_sections_are_drgns(prog: drgn.Program) -> None:
    assert_same_sections(prog)


def assert_same_sections(prog: drgn.Program) -> None:
    theirs = {
        nr: (
            section.value_(),
            valid_section(section),
            online_section(section),
            early_section(section),
            section_decode_mem_map(section, nr).value_(),
        )
        for nr, section in for_each_present_section(prog)
    }
    sections = reading_of(prog).sections
    ours = {}
    for nr, section in for_each_section(prog):
        state, entry = section_state(section), sections.get(nr)
        assert entry is not None and entry.map_base is not None
        ours[nr] = (
            section.value_(),
            "M" in state,
            "O" in state,
            "E" in state,
            entry.map_base + entry.start_pfn * STRUCT_PAGE,
        )
    assert ours == theirs and ours


def test_zones_and_pools_are_drgns(prog: drgn.Program) -> None:
    assert_same_zones_and_pools(prog, for_each_online_pgdat(prog))


def assert_same_zones_and_pools(
    prog: drgn.Program, nodes: Iterable[drgn.Object]
) -> None:
    theirs = [
        (pgdat.node_id.value_(), zone.address_)
        for pgdat in nodes
        for zone in pgdat.node_zones
    ]
    kernel = reading_of(prog)
    assert [(z.node, z.va) for z in kernel.zones] == theirs
    assert [z.value_() for z in for_each_zone(prog)] == [va for _, va in theirs]
    pools = [
        (h.order.value_(), h.nr_huge_pages.value_(), h.free_huge_pages.value_())
        for h in hugetlb.for_each_hstate(prog)
    ]
    ours = [(h.order, h.total, h.free) for h in kernel.hugetlb.hstates]
    assert ours == pools and ours


def test_the_zone_of_a_page_spans_it(prog: drgn.Program) -> None:
    for pfn in (0, 0xFFF, 0x1000, 0x7FFF, 0x10000, 0x17FFF):
        page = pfn_to_page(prog, pfn)
        zone = page_zone(page)
        start = zone.zone_start_pfn.value_()
        assert start <= pfn < start + zone.spanned_pages.value_()
        assert zone.zone_pgdat.node_id.value_() == page_to_nid(page)


def test_folios_are_drgns(prog: drgn.Program) -> None:
    orders = [compound_order(page).value_() for page in for_each_hugetlb_folio(prog)]
    assert orders == [9] * 10
    assert orders == [folio_backing(p).order for p in for_each_hugetlb_folio(prog)]


# A real kernel. Its package is not at hand, but its types are those of the model's 7.3.


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> drgn.Program:
    """A committed capture in plain drgn, with a vmlinux made for it."""
    path = tmp_path_factory.mktemp("real")
    core, vmlinux = path / "core", path / "vmlinux"
    core.write_bytes(lzma.decompress((CAPTURES / f"{CAPTURE}.core.xz").read_bytes()))
    capsule = inspect_dump(str(core)).capsule
    assert capsule is not None
    variables = {
        name: said["address"]
        for name, said in capsule.answers["variables"].items()
        if said and said["address"]
    }
    info = VmcoreInfo(open_with_drgn(str(core))["VMCOREINFO"].string_().decode())
    image = small("7.3").image()
    symbols = cast("dict[str, ImageSymbol]", image.symbols)
    for name, symbol in list(symbols.items()):
        if name in variables:
            at = variables[name] - int(info["KERNELOFFSET"], 16)
            symbols[name] = replace(symbol, address=at)
        elif symbol.kind != "func" and name != "linux_banner":
            del symbols[name]
    write_vmlinux(image, vmlinux)
    other, own = build_id(image), bytes.fromhex(info["BUILD-ID"])
    vmlinux.write_bytes(vmlinux.read_bytes().replace(other, own))
    prog = open_with_drgn(str(core), str(vmlinux))
    # Captures made before the pointer was carried: VMCOREINFO has its value.
    roots = int(info["SYMBOL(mem_section)"], 16).to_bytes(8, "little")
    prog.add_memory_segment(
        variables["mem_section"], 8, lambda _, count, at, p: roots[at : at + count]
    )
    return prog


def readable_pages(prog: drgn.Program) -> list[int]:
    """pfns of the struct pages that drgn can read: the capture holds words of others.

    Of those behind which one frame stands, those on the first few vmemmap pages.
    """
    kernel = reading_of(prog)
    held: dict[int, list[range]] = defaultdict(list)
    for extent in kernel.target.ranges():
        at = extent.start
        while at < extent.end:
            end = min(extent.end, (at // PAGE + 1) * PAGE)
            first, last = at % PAGE, end - at // PAGE * PAGE
            whole = range(-(-first // STRUCT_PAGE), last // STRUCT_PAGE)
            held[at // PAGE].append(whole)
            at = end
    per_page = PAGE // STRUCT_PAGE
    found: list[int] = []
    seen: dict[int, int] = defaultdict(int)
    for section in kernel.sections:
        for start in range(section.start_pfn, section.start_pfn + 0x8000, per_page):
            frame = kernel.vmemmap.frame(kernel.pages.vmemmap_page(start))
            seen[frame] += 1
            if seen[frame] <= NEAR:
                for whole in held.get(frame, ()):
                    found += range(start + whole.start, start + whole.stop)
    return found


def test_a_real_kernels_pages_are_drgns(real: drgn.Program) -> None:
    pfns = readable_pages(real)
    assert assert_same_pages(real, pfns, frozenset(pfns)) > 5000


def test_a_real_kernels_sections_zones_and_pools_are_drgns(real: drgn.Program) -> None:
    assert_same_sections(real)
    # How many nodes there can be is a variable that no capture holds.
    assert_same_zones_and_pools(real, [NODE_DATA(real, node) for node in (0, 1)])
