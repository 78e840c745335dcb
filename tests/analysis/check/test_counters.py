# SPDX-License-Identifier: LGPL-2.1-or-later
"""Rules C1 to C4 on kernels whose counters differ, and are right or wrong for it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.fakes.machine import NORMAL, SECTION_PAGES, Machine
from tests.model.kernels import varied
from vmemmap_tools.analysis.check import RULES, Checker, Finding
from vmemmap_tools.kernel.kernel import Kernel

from .overlay import Bench

RUNTIME, BOOT = "nr_memmap_pages", "nr_memmap_boot_pages"


def said(kernel: Kernel, *rules: str) -> list[Finding]:
    return list(Checker(kernel, [RULES[rule] for rule in rules]).findings())


@pytest.fixture(scope="module")
def bench() -> Bench:
    return Bench(varied("7.3"))


def told(kernel: Kernel) -> list[tuple[str, str, str | None]]:
    """(rule, severity, known issue) of what is said of the counters."""
    found = said(kernel, "C1", "C2", "C3")
    return [(f.rule, f.severity, f.known_issue) for f in found]


@pytest.mark.parametrize(
    ("page_struct", "pages"), [(56, 448), (64, 512), (80, 640), (96, 768)]
)
def test_huge_leaves_that_boot_sections_do_not_fill_are_not_counted(
    page_struct: int, pages: int
) -> None:
    # x86 rounds each run of sections up to whole leaves; each section is counted by
    # what its own struct pages take (4.4).
    machine = Machine("7.3", page_struct=page_struct)
    machine.set_zone(0, NORMAL, 0, 3 * SECTION_PAGES)
    for nr in range(3):
        machine.add_section(nr, leaf=None)
    for slot in range(-(-3 * pages // 512)):
        machine.map_huge(slot * 512, machine.frames(512, 512))
    machine.add_counters(0, 3 * pages)
    assert said(machine.kernel(), "C1") == []
    machine.add_counters(0, 3 * pages + 1)
    (found,) = said(machine.kernel(), "C1")
    assert found.evidence["difference"] == 1


def test_a_surplus_that_c3_cannot_tell_is_told_by_c1(bench: Bench) -> None:
    kernel, _ = bench.faulty(["counter-dax-surplus"])
    assert told(kernel) == [("C3", "E", None)]
    function = kernel.target.function
    kernel.target.function = (  # type: ignore[method-assign]
        lambda name: None if "section" in name or "populate" in name else function(name)
    )
    unknown = Kernel(kernel.target)
    assert unknown.unknown_feature("dax-dedup")
    assert told(unknown) == [("C1", "W", "dax-accounting")]


def test_hot_removed_boot_memory_may_leave_a_negative_boot_counter(
    bench: Bench,
) -> None:
    # free_map_bootmem() debits it by the whole section, of whose frames HVO has
    # replaced some by pages of the other counter.
    image = bench.machine.image()
    boot, runtime = image.variables[BOOT], image.variables[RUNTIME]
    total = boot.get_scalar() + runtime.get_scalar()
    boot.set_scalar(-5)
    runtime.set_scalar(total + 5)
    assert told(bench.over(image)) == [("C2", "W", None)]


def test_a_negative_counter_is_a_failed_add_if_whole_sections_are_missing(
    bench: Bench,
) -> None:
    image = bench.machine.image()
    runtime = image.variables[RUNTIME]
    sections = runtime.get_scalar() // 512 + 1
    runtime.set_scalar(runtime.get_scalar() - 512 * sections)
    assert told(bench.over(image)) == [
        ("C1", "W", "failed-section-add"),
        ("C2", "E", "failed-section-add"),
    ]
    runtime.set_scalar(runtime.get_scalar() - 1)
    assert told(bench.over(image)) == [("C1", "W", None), ("C2", "E", None)]


def test_zones_are_not_judged_by_members_that_are_not_there() -> None:
    machine = Machine("7.3")
    machine.set_zone(0, NORMAL, 0, SECTION_PAGES)
    machine.add_section(0)
    zone = machine.target.structs["zone"]
    members = {n: m for n, m in zone.members.items() if n != "present_pages"}
    machine.target.structs["zone"] = replace(zone, members=members)
    checker = Checker(machine.kernel(), [RULES["C4"]])
    assert list(checker.findings()) == []
    account = checker.accounts["C4"]
    assert (account.status, account.why) == (
        "not applicable",
        "unknown here: zone.present_pages",
    )
