# SPDX-License-Identifier: LGPL-2.1-or-later
"""Legal states: F14, F15, S11 and Z7 say I, nothing says more; of others nothing."""

from __future__ import annotations

import pytest

from tests.model.kernels import GIB, varied
from vmemmap_tools.analysis.check import Finding
from vmemmap_tools.model.boot import BootPage, NodeMemory
from vmemmap_tools.model.image import Image
from vmemmap_tools.model.machine import Machine
from vmemmap_tools.target.base import Struct

from .overlay import Bench, find

MOVABLE = 3


def told(findings: list[Finding]) -> dict[str, int]:
    """{rule: count}, all of them information."""
    assert {f.severity for f in findings} <= {"I"}
    counts: dict[str, int] = {}
    for finding in findings:
        counts[finding.rule] = counts.get(finding.rule, 0) + finding.count
    return counts


def gigantic() -> Machine:
    return Machine(
        "7.3",
        {0: NodeMemory([(0, 2 * GIB)]), 1: NodeMemory([(8 * GIB, 10 * GIB)])},
        boot_pages=[BootPage(1, GIB)],
    )


def test_folios_made_while_the_policy_was_off_could_be_optimised() -> None:
    machine = Machine("7.3", {0: NodeMemory([(0, GIB)])})
    machine.set_hvo(False).hugetlb_alloc("2M", 3).set_hvo(True).hugetlb_alloc("2M", 2)
    assert told(find(Bench(machine).healthy())[1]) == {"F14": 3}


@pytest.mark.parametrize("generation", ["5.14", "5.18", "6.1"])
def test_older_kernels_tell_by_other_variables_what_their_policy_is(
    generation: str,
) -> None:
    machine = Machine(generation, {0: NodeMemory([(0, GIB)])})
    machine.set_hvo(False).hugetlb_alloc("2M", 3).set_hvo(True).hugetlb_alloc("2M", 2)
    assert told(find(Bench(machine).healthy())[1]) == {"F14": 3}


@pytest.mark.parametrize("generation", ["5.14", "5.18", "7.3"])
def test_nothing_is_said_of_them_while_the_policy_is_off(generation: str) -> None:
    machine = Machine(generation, {0: NodeMemory([(0, GIB)])})
    machine.set_hvo(False).hugetlb_alloc("2M", 3)
    checker, findings = find(Bench(machine).healthy())
    assert findings == []
    assert checker.accounts["F14"].status == "not applicable"


def test_preinit_outlives_the_gigantic_page_that_was_freed() -> None:
    assert told(find(Bench(gigantic()).healthy())[1]) == {}
    freed = gigantic().hugetlb_free("1G", 1, 1)
    assert told(find(Bench(freed).healthy())[1]) == {"S11": 8}


def test_free_optimised_folios_beside_surplus_are_named() -> None:
    bench = Bench(varied("6.12"))
    image = bench.machine.image()
    (pool,) = (h for h in image.hstates if h.get("order") == 9)
    pool.set("surplus_huge_pages", 2)
    pool.set("surplus_huge_pages_node[0]", 2)
    assert told(find(bench.over(image))[1]) == {"F14": 8, "F15": 1}

    # Smaller than what is promised: the surplus is in use, the free ones are reserved.
    pool.set("resv_huge_pages", pool.get("free_huge_pages"))
    assert told(find(bench.over(image))[1]) == {"F14": 8}
    pool.set("resv_huge_pages", 2)
    (found,) = (f for f in find(bench.over(image))[1] if f.rule == "F15")
    assert found.found == 2


def _move_tail_page(image: Image, zone: int) -> None:
    """Let the struct page of a tail page's frame say another zone."""
    key = sorted(image.core.tails)[0]
    page = image.page(image.core.tails[key].frame)
    shift = 64 - 10 - 3
    page.set("flags", page.get("flags") & ~(7 << shift) | zone << shift)


def test_a_tail_page_in_zone_movable_is_named() -> None:
    bench = Bench(varied("7.3"))
    image = bench.machine.image()
    _move_tail_page(image, MOVABLE)
    assert told(find(bench.over(image))[1])["Z7"] == 1


def test_a_dax_device_may_keep_a_map_that_is_gone() -> None:
    # kmem makes System RAM of a device and leaves dev_dax.pgmap where it was.
    bench = Bench(varied("7.3"))
    image = bench.machine.image()
    device = next(iter(image.dax_devices.values()))
    range_ = next(iter(image.dax_ranges.values()))
    device.set("pgmap", image.heap.object("dev_pagemap").va)
    range_.set("range.end", range_.get("range.end") - (2 << 20))
    checker, findings = find(bench.over(image))
    assert {f.severity for f in findings} <= {"I"}
    assert checker.accounts["P8"].status == "checked"


def test_two_dax_devices_with_one_map_are_told() -> None:
    bench = Bench(varied("7.3"))
    image = bench.machine.image()
    first, second, *_ = image.dax_devices.values()
    second.set("pgmap", first.get("pgmap"))
    found = [f for f in find(bench.over(image))[1] if f.severity != "I"]
    assert [(f.rule, f.cause) for f in found] == [("P8", "map of two devices")]


def test_a_damaged_list_of_devices_is_told() -> None:
    bench = Bench(varied("7.3"))
    image = bench.machine.image()
    device = next(iter(image.dax_devices.values()))
    device.set("dev.kobj.entry.next", device.address("dev.kobj.entry.next"))
    found = [f for f in find(bench.over(image))[1] if f.severity != "I"]
    assert [(f.rule, f.cause, f.where.id) for f in found] == [
        ("P8", "damaged list", "devices_kset")
    ]


def test_unknown_types_of_dax_devices_are_a_gap() -> None:
    bench = Bench(varied("7.3"))
    kernel = bench.over(bench.machine.image())
    known = kernel.target.struct
    kernel.target.struct = (  # type: ignore[method-assign]
        lambda name: None if name == "dev_dax" else known(name)
    )
    checker, findings = find(kernel)
    account = checker.accounts["P8"]
    assert {f.severity for f in findings} <= {"I"}
    assert (account.status, account.why) == ("partly", "dax devices: no type dev_dax")


def test_pools_whose_lists_are_unknown_are_a_gap() -> None:
    bench = Bench(varied("7.3"))
    kernel = bench.over(bench.machine.image())
    known = kernel.target.struct

    def struct(name: str) -> Struct | None:
        found = known(name)
        if found is None or name != "hstate":
            return found
        members = {n: m for n, m in found.members.items() if "activelist" not in n}
        return Struct(name, found.size, members)

    kernel.target.struct = struct  # type: ignore[method-assign]
    checker, findings = find(kernel)
    account = checker.accounts["F9"]
    assert {f.severity for f in findings} <= {"I"}
    assert account.status == "partly"
    assert account.why is not None
    assert account.why.startswith("no type tells where the lists of hugepages-")


def test_flags_that_no_type_tells_are_a_gap() -> None:
    kernel = Bench(varied("7.3")).healthy()
    known = kernel.target.enumerators
    kernel.target.enumerators = (  # type: ignore[method-assign]
        lambda enum: {} if enum == "hugetlb_page_flags" else known(enum)
    )
    checker, findings = find(kernel)
    assert {f.severity for f in findings} <= {"I"}
    accounts = checker.accounts
    for rule in ("F1", "F15"):
        assert accounts[rule].status == "not applicable"
        assert str(accounts[rule].why).startswith("no type tells what HPG_")
    assert accounts["F9"].status == "partly"
