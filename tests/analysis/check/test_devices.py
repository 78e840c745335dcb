# SPDX-License-Identifier: LGPL-2.1-or-later
"""Rules P2, P3, P8 and P9 on states that no fault of the model makes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.model.kernels import GIB, MIB, small, varied
from vmemmap_tools.analysis.check import RULES, Checker, Finding
from vmemmap_tools.kernel.kernel import Kernel
from vmemmap_tools.model.boot import NodeMemory
from vmemmap_tools.model.image.sections import pageblock_width
from vmemmap_tools.model.machine import Machine

from .overlay import Bench

NODE_SHIFT = 54


def said(kernel: Kernel, rule: str) -> list[Finding]:
    return list(Checker(kernel, [RULES[rule]]).findings())


@pytest.mark.parametrize("generation", ["6.12", "7.3"])
def test_p2_all_of_a_map_is_on_one_node_though_other_zones_span_it(
    generation: str,
) -> None:
    two = {0: NodeMemory([(0, GIB)]), 1: NodeMemory([(GIB, 2 * GIB)])}
    machine = Machine(generation, two)
    for name, start, node in ("a", "4G", 1), ("b", "6G", 0), ("c", "8G", 1):
        machine.dax_add(name, start, "128M", node=node, namespace=False, dumped=True)
    bench = Bench(machine)
    kernel = bench.healthy()
    pfn = 6 * GIB + 2 * MIB >> 12
    device = kernel.target.enumerator("ZONE_DEVICE")
    assert [z.node for z in kernel.zones.spanning(pfn) if z.index == device] == [0, 1]
    assert said(kernel, "P2") == []
    image = bench.machine.image()
    page = image.page(pfn)
    page.set("flags", page.get("flags") ^ 1 << NODE_SHIFT)
    (found,) = said(bench.over(image), "P2")
    assert (found.severity, found.cause) == ("E", "struct pages of another zone")
    assert found.evidence["first_pfn"] == pfn


@pytest.mark.parametrize("generation", ["6.12", "7.3"])
def test_p3_a_single_pageblock_is_no_known_defect(generation: str) -> None:
    bench = Bench(varied(generation))
    image = bench.machine.image()
    usage = image.usages[12 * GIB >> 27]
    at = usage.pa + image.types.offsetof("mem_section_usage.pageblock_flags")
    width = pageblock_width(image)
    flags = int.from_bytes(image.memory.read(at, 8), "little")
    image.write64(at, flags & ~(7 << 3 * width))
    (found,) = said(bench.over(image), "P3")
    assert (found.severity, found.known_issue) == ("E", None)
    assert found.evidence["first_pfn"] == (12 * GIB >> 12) + 3 * 512


@pytest.mark.parametrize("generation", ["6.1", "7.3"])
def test_p8_a_range_that_begins_inside_a_compound_is_told(generation: str) -> None:
    machine = small(generation)
    machine.dax_add("d", "4224M", "1G", align="1G", namespace=False, dumped=True)
    (found,) = said(Bench(machine).healthy(), "P8")
    assert (found.severity, found.cause) == ("W", "range begins inside a compound")


@pytest.mark.parametrize("generation", ["6.1", "7.3"])
def test_p2_what_an_altmap_may_hand_out_has_struct_pages_too(generation: str) -> None:
    # Measured on 6.1, 6.12 and 7.3: memmap_init_range() sets up all but the reserve.
    bench = Bench(varied(generation))
    kernel = bench.healthy()
    (altmap,) = (p.altmap for p in kernel.pgmaps if p.altmap is not None)
    first = altmap.base_pfn + altmap.reserve
    assert altmap.reserve
    assert not kernel.pages.page(first - 1).flags
    for pfn in first, altmap.end_pfn - 1:
        image = bench.machine.image()
        image.page(pfn).set("flags", 0)
        (found,) = said(bench.over(image), "P2")
        assert (found.severity, found.cause) == ("E", "uninitialised struct pages")
        assert found.evidence["first_pfn"] == pfn


def test_p2_says_that_it_does_not_know_where_pages_name_their_map() -> None:
    kernel = Bench(small("7.3").dax_add("d", "4G", "128M", dumped=True)).healthy()
    struct = kernel.target.struct
    folio = struct("folio")
    assert folio is not None
    members = {n: m for n, m in folio.members.items() if n != "pgmap"}
    renamed = replace(folio, members=members)
    kernel.target.struct = (  # type: ignore[method-assign]
        lambda name: renamed if name == "folio" else struct(name)
    )
    checker = Checker(kernel, [RULES["P2"]])
    assert list(checker.findings()) == []
    account = checker.accounts["P2"]
    why = "no member tells where a page names its map"
    assert (account.status, account.why) == ("partly", why)


def test_p9_a_head_of_a_device_that_is_a_tail_is_told() -> None:
    bench = Bench(varied("6.12"))
    image = bench.machine.image()
    pgmap = next(p for p in image.machine.devices.pgmaps.values() if p.altmap)
    image.page(pgmap.data_pfn).set("compound_head", image.page_va(pgmap.data_pfn) | 1)
    (found,) = said(bench.over(image), "P9")
    assert (found.severity, found.cause) == ("E", "device head that is a tail")
    assert found.evidence["pfns"] == [pgmap.data_pfn]


def test_p9_leaves_struct_pages_that_were_never_set_up_to_p2() -> None:
    bench = Bench(varied("6.12"))
    image = bench.machine.image()
    pgmap = next(p for p in image.machine.devices.pgmaps.values() if p.altmap)
    tail = image.page(pgmap.data_pfn + 5)
    tail.set("flags", 0)
    tail.set("compound_head", 0)
    kernel = bench.over(image)
    assert said(kernel, "P9") == []
    assert len(said(kernel, "P2")) == 1
