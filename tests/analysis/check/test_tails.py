# SPDX-License-Identifier: LGPL-2.1-or-later
"""Rules Z1 to Z7 on states that no fault of the model makes."""

from __future__ import annotations

import pytest

from tests.model.kernels import GIB, MIB, small, varied
from vmemmap_tools.analysis.check import RULES, Checker, Finding
from vmemmap_tools.analysis.check.context import Context
from vmemmap_tools.kernel.kernel import Kernel
from vmemmap_tools.kernel.pageblocks import Pageblocks
from vmemmap_tools.model.boot import NodeMemory
from vmemmap_tools.model.core import DEVICE, MOVABLE
from vmemmap_tools.model.faults.find import set_pte
from vmemmap_tools.model.image import Image
from vmemmap_tools.model.machine import Machine
from vmemmap_tools.target.base import Fault

from .overlay import Bench, Holes, find
from .test_situations import _move_tail_page
from .test_unseen_kernels import booting, entry_pa

SHARED = "Z1", "Z2", "Z3", "Z4", "Z5", "Z6", "Z7"
NODE_SHIFT = 54


def said(kernel: Kernel, *rules: str) -> list[Finding]:
    return list(Checker(kernel, [RULES[rule] for rule in rules or SHARED]).findings())


def told(kernel: Kernel, *rules: str) -> set[tuple[str, str, str]]:
    return {(f.rule, f.severity, f.cause) for f in said(kernel, *rules)}


@pytest.fixture(scope="module")
def bench() -> Bench:
    return Bench(varied("7.3"))


def first_tail(image: Image, order: int = 9) -> tuple[tuple[int, int, int], int]:
    """A zone's tail page of this order: its key and frame."""
    key = min(key for key in image.core.tails if key[2] == order)
    return key, image.core.tails[key].frame


def slot_pa(image: Image, key: tuple[int, int, int]) -> int:
    path = f"zone.vmemmap_tails[{key[2] - image.core.min_order}]"
    return image.zones[key[:2]].pa + image.types.offsetof(path)


# Z1


def device_node() -> Machine:
    machine = small("section-dax")
    return machine.dax_add("d", "4G", "256M", node=1, namespace=False, dumped=True)


def movable_node() -> Machine:
    machine = small("7.3").memory_add("4G", "256M", node=1, zone="Movable")
    return machine.hugetlb_alloc("2M", 8, 1)


@pytest.mark.parametrize(
    ("machine", "key"),
    [(device_node, (1, DEVICE, 9)), (movable_node, (1, MOVABLE, 9))],
)
def test_z1_a_node_without_memory_for_the_kernel_has_its_tail_pages_elsewhere(
    machine: type[Machine], key: tuple[int, int, int]
) -> None:
    bench = Bench(machine())
    image = bench.machine.image()
    assert image.page(image.core.tails[key].frame).get("flags") >> NODE_SHIFT == 0
    assert told(bench.healthy()) == set()


def test_z1_another_node_is_a_warning_where_the_own_has_memory(bench: Bench) -> None:
    image = bench.machine.image()
    page = image.page(first_tail(image)[1])
    page.set("flags", page.get("flags") ^ 1 << NODE_SHIFT)
    assert told(bench.over(image), "Z1") == {("Z1", "W", "tail page of another node")}


def test_z1_a_pointer_into_a_subsection_that_is_not_there_is_told(
    bench: Bench,
) -> None:
    # dax1 ends 4 MiB behind the start of its last section.
    image = bench.machine.image()
    key, _ = first_tail(image)
    pfn = 14 * GIB + 272 * MIB >> 12
    assert bench.healthy().sections.pfn_is_valid(pfn) is False
    image.write64(slot_pa(image, key), image.page_va(pfn))
    assert told(bench.over(image), "Z1") == {("Z1", "E", "no struct page")}


# Z2, Z3


def test_z2_index_and_private_are_zero_in_a_shared_tail_page(bench: Bench) -> None:
    for member in "__folio_index", "private":
        image = bench.machine.image()
        _, frame = first_tail(image)
        at = frame * 4096 + 5 * 64 + image.types.offsetof(f"page.{member}")
        image.write64(at, 0x6B)
        (found,) = said(bench.over(image), "Z2")
        assert (found.severity, found.found) == ("E", {member: ["0x6b"]})


def test_z2_says_what_all_struct_pages_have_and_what_was_expected(
    bench: Bench,
) -> None:
    image = bench.machine.image()
    _, frame = first_tail(image)
    at = image.types.offsetof("page._refcount")
    for number in range(64):
        image.memory.write(frame * 4096 + number * 64 + at, b"\1\0\0\0")
    (found,) = said(bench.over(image), "Z2")
    assert found.message.endswith(": all 64 struct pages have _refcount 1, expected 0")


def test_z2_says_how_many_struct_pages_differ_and_which_is_the_first(
    bench: Bench,
) -> None:
    image = bench.machine.image()
    _, frame = first_tail(image)
    for number in (7, 9):
        at = image.types.offsetof("page.private")
        image.write64(frame * 4096 + number * 64 + at, 0x6B)
    (found,) = said(bench.over(image), "Z2")
    text = ": 2 of its 64 struct pages have private 0x6b, expected 0 (the first is"
    assert f"{text} number 7)" in found.message


def test_z3_boot_memory_without_struct_pages_is_no_damage_while_booting(
    bench: Bench,
) -> None:
    image = bench.machine.image()
    _, frame = first_tail(image)
    image.memory.write(image.page_pa(frame), bytes(64))
    cause = "tail frame is not in use"
    assert told(bench.over(image), "Z3") == {("Z3", "E", cause)}
    assert told(booting(bench.over(image)), "Z1", "Z3") == set()


# Z4

FOREIGN = ("Z4", "E", "shared tail page of another order or zone")


@pytest.mark.parametrize("generation", ["section-dax", "seed"])
def test_z4_a_device_may_not_have_the_tail_page_of_another_node(
    generation: str,
) -> None:
    two = {0: NodeMemory([(0, GIB)]), 1: NodeMemory([(GIB, 2 * GIB)])}
    machine = Machine(generation, two)
    for node, start in enumerate(("4G", "6G")):
        machine.dax_add(
            f"d{node}", start, "256M", node=node, namespace=False, dumped=True
        )
    bench = Bench(machine)
    assert told(bench.healthy()) == set()
    image = bench.machine.image()
    first = image.core.vmemmap.page_of(6 * GIB >> 12)
    for page in range(first + 8 + 1, first + 16):
        set_pte(image, page, image.core.tails[0, DEVICE, 9].frame, writable=True)
    assert told(bench.over(image)) == {FOREIGN}


def test_z4_a_huge_leaf_may_not_map_a_tail_page_that_nothing_else_maps() -> None:
    machine = small("7.3").hugetlb_alloc("2M", 4)
    bench = Bench(machine.hugetlb_free("2M", 4))
    image = bench.machine.image()
    kernel = bench.healthy()
    _, frame = first_tail(image)
    assert frame not in kernel.vmemmap.frames
    number = next(number for number, is_huge in kernel.vmemmap.slots() if is_huge)
    pa = entry_pa(image, image.vmemmap_va(number), 21)
    flags = image.read64(pa) & ~0x000FFFFFFFE00000
    image.write64(pa, (frame & ~511) << 12 | flags)
    assert FOREIGN in told(bench.over(image))


def test_z4_says_nothing_of_zones_where_their_field_is_unknown(bench: Bench) -> None:
    kernel = bench.healthy()
    known = kernel.target.enumerator
    kernel.target.enumerator = (  # type: ignore[method-assign]
        lambda name: None if name == "__MAX_NR_ZONES" else known(name)
    )
    unknown = Kernel(kernel.target)
    assert not Context(unknown).flags_trusted
    assert told(unknown, "Z4") == set()
    del kernel.target.enumerator


# Z7


def test_z7_the_zone_is_looked_at_where_the_pageblock_is_unknown(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(self: Pageblocks, pfn: int) -> int:
        raise Fault(pfn, 8, "excluded")

    image = bench.machine.image()
    _move_tail_page(image, MOVABLE)
    monkeypatch.setattr(Pageblocks, "of_pfn", missing)
    checker, findings = find(bench.over(image))
    assert [f.cause for f in findings if f.rule == "Z7"] == ["movable tail page"]
    assert checker.accounts["Z7"].status == "partly"


# All of them


def test_rules_say_that_zones_are_missing(bench: Bench) -> None:
    node = bench.machine.image().nodes[1]
    kernel = Kernel(Holes(bench.target, {node.pa // 4096}))
    rules = [RULES[rule] for rule in (*SHARED, "C4")]
    checker = Checker(kernel, rules)
    assert list(checker.findings()) == []
    why = {rule: (a.status, a.why) for rule, a in checker.accounts.items()}
    gap = Context(kernel).gap("zones")
    assert gap is not None
    assert why.pop("Z4") == ("not checked", gap)
    # Not checked: those that found no other zone's shared tail page to look at.
    assert {reason for _, reason in why.values()} == {gap}
    assert {status for status, _ in why.values()} <= {"partly", "not checked"}
