# SPDX-License-Identifier: LGPL-2.1-or-later
"""Kernels that were built without NUMA, HUGETLB_PAGE, ZONE_DEVICE or MEMORY_HOTPLUG.

Their types, variables and enumerators do not exist. Nothing is wrong with them: each
verb answers, `check` finds nothing, and each rule says what became of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from tests.commands.asking import ask
from tests.model.image_target import image_target
from tests.model.kernels import MIB, small
from vmemmap_tools.analysis.check.context import Context
from vmemmap_tools.analysis.info import facts
from vmemmap_tools.analysis.unavailable import unavailable
from vmemmap_tools.commands import VERBS
from vmemmap_tools.kernel.kernel import Kernel
from vmemmap_tools.model.boot import NodeMemory
from vmemmap_tools.model.machine import Machine
from vmemmap_tools.target.base import Member, Struct, Target, Variable

MISSING: dict[str, tuple[str, ...]] = {
    "HUGETLB_PAGE": (
        *("hstate", "hstates", "hugetlb_max_hstate", "default_hstate_idx"),
        *("hugetlb_optimize_vmemmap_key", "hugetlb_free_vmemmap_enabled"),
        *("vmemmap_optimize_enabled", "hugetlb_page_flags", "HPG_*", "__NR_HPAGEFLAGS"),
        *("PGTY_hugetlb", "HUGETLB_PAGE_DTOR"),
    ),
    "ZONE_DEVICE": (
        *(
            "dev_pagemap",
            "vmem_altmap",
            "pgmap_array",
            "memory_type",
            "MEMORY_DEVICE_*",
        ),
        *("dev_dax", "dax_region", "ZONE_DEVICE", "SECTION_TAINT_ZONE_DEVICE_BIT"),
    ),
    "MEMORY_HOTPLUG": ("memory_block", "memory_blocks", "sections_per_block"),
    "NUMA": ("node_data",),
}
OLDER = {"FREEING_INITMEM": ("SYSTEM_FREEING_INITMEM",)}
"""Names that a kernel without the option does not have."""
RULES = {"HUGETLB_PAGE": ("F5",), "ZONE_DEVICE": ("P1", "P3")}
"""Rules that have nothing to look at then."""


class Without:
    """A target that lacks what a configuration leaves out."""

    def __init__(self, inner: Target, option: str):
        self._inner, self._option = inner, option

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    @property
    def vmcoreinfo(self) -> Mapping[str, str]:
        keys = self._inner.vmcoreinfo.items()
        return {k: v for k, v in keys if not self._lacks(k[k.find("(") + 1 : -1])}

    def _lacks(self, name: str) -> bool:
        return any(
            name.startswith(word[:-1]) if word.endswith("*") else name == word
            for word in {**MISSING, **OLDER}[self._option]
        )

    def struct(self, name: str) -> Struct | None:
        return None if self._lacks(name) else self._inner.struct(name)

    def symbol(self, name: str) -> int | None:
        return None if self._lacks(name) else self._inner.symbol(name)

    def unsigned(self, name: str) -> int | None:
        return None if self._lacks(name) else self._inner.unsigned(name)

    def enumerator(self, name: str) -> int | None:
        return None if self._lacks(name) else self._inner.enumerator(name)

    def enumerators(self, enum: str) -> Mapping[str, int]:
        return {} if self._lacks(enum) else self._inner.enumerators(enum)

    def variable(self, name: str) -> Variable | None:
        if name == "contig_page_data" and self._option == "NUMA":
            # Without NUMA the only node is a variable, not in an array of pointers.
            nodes = self._inner.variable("node_data")
            node = self._inner.struct("pglist_data")
            assert nodes is not None and node is not None
            address = int.from_bytes(self._inner.read(nodes.address, 8), "little")
            return Variable(
                name, address, Member(0, node.size, "struct", "pglist_data")
            )
        return None if self._lacks(name) else self._inner.variable(name)


def kernel(generation: str, option: str) -> Kernel:
    machine = small(generation)
    if option != "HUGETLB_PAGE":
        machine.hugetlb_alloc("2M", 8)
    if option != "ZONE_DEVICE":
        machine.dax_add("dax0", "4G", "256M", namespace=False, dumped=True)
    target: Any = Without(image_target(machine.image()), option)
    return Kernel(target)


@pytest.mark.parametrize("generation", ["5.14", "6.1", "6.12", "7.3"])
@pytest.mark.parametrize("option", MISSING)
def test_every_verb_answers(generation: str, option: str) -> None:
    made = kernel(generation, option)
    words = {"page": ["pfn:0x1000"], "walk": [hex(made.vmemmap.start_va)]}
    for verb in VERBS:
        answer = ask(made, verb, *words.get(verb, []))
        assert answer["missing"] == {}, verb
    assert ask(made, "summary")["totals"]["saved_other_bytes"] == 0


@pytest.mark.parametrize("generation", ["5.14", "6.1", "6.12", "7.3"])
@pytest.mark.parametrize("option", MISSING)
def test_nothing_is_wrong_with_them(generation: str, option: str) -> None:
    answer = ask(kernel(generation, option), "check")
    assert [row for row in answer["rows"] if row["severity"] != "I"] == []
    status = {rule["rule"]: rule for rule in answer["totals"]["rules"]}
    assert len(status) == 46
    for rule in status.values():
        assert rule["status"] == "checked" or rule["why"], rule
    for name in RULES.get(option, ()):
        assert status[name]["status"] == "not applicable", status[name]


@pytest.mark.parametrize("option", MISSING)
def test_what_a_kernel_does_not_have_is_not_lost(option: str) -> None:
    assert unavailable(kernel("7.3", option)) == []


@pytest.mark.parametrize("order", [5, 10])
@pytest.mark.parametrize("generation", ["5.14", "6.12", "7.3"])
def test_pageblocks_are_as_large_as_boot_memory_says(
    generation: str, order: int
) -> None:
    # MAX_PAGE_ORDER without huge pages of any kind; less by PAGE_BLOCK_MAX_ORDER.
    machine = small(generation)
    machine.core.arch = replace(machine.core.arch, pageblock_order=order)
    machine.dax_add("dax0", "4G", "256M", namespace=False, dumped=True)
    made = Kernel(Without(image_target(machine.image()), "HUGETLB_PAGE"))
    assert Context(made).pageblocks.order == order
    rows = ask(made, "check")["rows"]
    assert [row for row in rows if row["severity"] != "I"] == []


@pytest.mark.parametrize("generation", ["5.14", "6.12", "7.3"])
def test_pageblocks_are_not_judged_where_nothing_tells_their_size(
    generation: str,
) -> None:
    machine = Machine(generation, {0: NodeMemory([(0, 128 * MIB)])})
    machine.core.arch = replace(machine.core.arch, pageblock_order=10)
    machine.dax_add("dax0", "4G", "256M", namespace=False, dumped=True)
    made = Kernel(Without(image_target(machine.image()), "HUGETLB_PAGE"))
    assert Context(made).pageblocks.order is None
    answer = ask(made, "check")
    assert [row for row in answer["rows"] if row["severity"] != "I"] == []
    (p3,) = (r for r in answer["totals"]["rules"] if r["rule"] == "P3")
    why = "this kernel's pageblock flags cannot be decoded"
    assert (p3["status"], p3["why"]) == ("not applicable", why)


def test_before_5_16_a_kernel_boots_until_it_runs() -> None:
    target: Any = Without(image_target(small("5.14").image()), "FREEING_INITMEM")
    running = target.enumerator("SYSTEM_RUNNING")
    assert running is not None
    made = Kernel(target)
    for state, is_booting in (running - 1, True), (running, False):
        target.unsigned = {"system_state": state}.get
        assert Context(made).is_booting == is_booting


def test_evidence_of_the_nodes_is_what_the_kernel_has() -> None:
    evidence = {
        option: next(
            fact.source
            for fact in facts(kernel("7.3", option))
            if fact.subject == "node and zone bits"
        )
        for option in ("NUMA", "ZONE_DEVICE")
    }
    assert evidence == {
        "NUMA": "length of hstate.nr_huge_pages_node, __MAX_NR_ZONES",
        "ZONE_DEVICE": "length of node_data, __MAX_NR_ZONES",
    }
