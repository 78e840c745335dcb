# SPDX-License-Identifier: LGPL-2.1-or-later
"""Random sequences of operations: after every one of them the image agrees with the
books, and at their end so do the tool's answers.
"""

from __future__ import annotations

import os
from collections import Counter

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.model.answers import COMPARISONS, Booked
from tests.model.image_target import image_target
from tests.model.kernels import GENERATIONS, GIB, MIB
from tests.model.walk import Found, vmemmap_leaves
from vmemmap_tools.kernel.kernel import Kernel
from vmemmap_tools.model.books import Books
from vmemmap_tools.model.boot import BootPage, NodeMemory
from vmemmap_tools.model.frames import Kind
from vmemmap_tools.model.image import Image
from vmemmap_tools.model.machine import Machine

counts = st.integers(1, 40)
nodes = st.sampled_from([None, 0, 1])
FREE_KINDS = (Kind.FREE, Kind.PCP, Kind.SLAB, Kind.ANON, Kind.HUGETLB)


class Operations(RuleBasedStateMachine):
    """Operations on a small machine; what it refuses must change nothing."""

    generation = ""

    @initialize(
        hvo=st.booleans(), gigantic=st.booleans(), levels=st.sampled_from([4, 5])
    )
    def boot(self, hvo: bool, gigantic: bool, levels: int) -> None:
        self.machine = Machine(
            self.generation,
            {
                0: NodeMemory([(0, 448 * MIB)]),
                1: NodeMemory([(4 * GIB, 6 * GIB)], movable=512 * MIB),
            },
            levels=levels,
            hvo=hvo,
            boot_pages=[BootPage(1, GIB)] if gigantic else [],
        )

    def attempt(self, name: str, *arguments: object, **options: object) -> None:
        """Call an operation; refusing it for want of memory is an answer too."""
        try:
            getattr(self.machine, name)(*arguments, **options)
        except ValueError:
            self.refused = name

    @rule(count=counts, node=nodes)
    def alloc(self, count: int, node: int | None) -> None:
        self.attempt("hugetlb_alloc", "2M", count, node)

    @rule(count=counts, node=nodes)
    def free(self, count: int, node: int | None) -> None:
        self.attempt("hugetlb_free", "2M", count, node)

    @rule(count=counts, node=nodes)
    def use(self, count: int, node: int | None) -> None:
        self.attempt("hugetlb_use", "2M", count, node)

    @rule()
    def demote(self) -> None:
        self.attempt("hugetlb_demote", "1G")

    @rule()
    def free_gigantic(self) -> None:
        self.attempt("hugetlb_free", "1G")

    @rule(on=st.booleans())
    def switch(self, on: bool) -> None:
        # 5.14 decides at boot whether the vmemmap has PMD leaves.
        if self.machine.core.generation.splits:
            self.machine.set_hvo(on)

    @rule(
        align=st.sampled_from(["4K", "2M", "1G"]),
        size=st.sampled_from(["64M", "130M", "256M", "1G"]),
        altmap=st.booleans(),
        fsdax=st.booleans(),
        index=st.integers(0, 1),
    )
    def attach(
        self, align: str, size: str, altmap: bool, fsdax: bool, index: int
    ) -> None:
        if align == "1G" and size != "1G":
            return
        self.attempt(
            "dax_add",
            f"dax{index}",
            (16 + 2 * index) * GIB,
            size,
            align=align,
            altmap=altmap,
            fsdax=fsdax,
            node=index,
            dumped=True,
            namespace=False,
        )

    @rule(align=st.sampled_from(["4K", "2M"]))
    def attach_to_early_section(self, align: str) -> None:
        self.attempt("dax_add", "early", "448M", "64M", align=align, dumped=True)

    @rule(name=st.sampled_from(["dax0", "dax1", "early"]))
    def detach(self, name: str) -> None:
        if name in self.machine.devices.pgmaps:
            self.machine.dax_remove(name)

    @rule(self_hosted=st.booleans(), zone=st.sampled_from(["Normal", "Movable"]))
    def hot_add(self, self_hosted: bool, zone: str) -> None:
        self.attempt(
            "memory_add", "8G", "256M", node=0, zone=zone, self_hosted=self_hosted
        )

    @rule()
    def hot_remove(self) -> None:
        if 8 * GIB >> 27 in self.machine.core.sections:
            self.attempt("memory_remove", "8G", "256M")

    @rule(kind=st.sampled_from(["anon", "slab", "kernel", "pcp"]), node=nodes)
    def occupy(self, kind: str, node: int | None) -> None:
        self.attempt("memory_use", kind, "12M", node or 0)

    @invariant()
    def image_agrees_with_books(self) -> None:
        if not hasattr(self, "machine"):
            return
        image = self.machine.image()
        books = self.machine.books()
        found = vmemmap_leaves(image)
        self.check_leaves(found)
        self.check_totals(found)
        self.check_frames(found)
        if books["counters"]:
            tails = {row["frame_pfn"] for row in books["shared_tails"]}
            distinct = {leaf.frame for leaf in found.values()} - tails
            assert sum(books["counters"].values()) == len(distinct)
        self.check_sections(image)

    def teardown(self) -> None:
        if hasattr(self, "machine"):
            self.check_answers(self.machine.image(), self.machine.books())

    def check_answers(self, image: Image, books: Books) -> None:
        booked = Booked(Kernel(image_target(image)), books)
        for comparison in COMPARISONS:
            comparison(booked)

    def check_leaves(self, found: dict[int, Found]) -> None:
        books = self.machine.books()
        mapped = 0
        for row in books["backing"]:
            mapped += row["pages"]
            for page in range(row["page"], row["page"] + row["pages"], 3):
                leaf = books.leaf(page)
                assert leaf is not None
                got = found[page]
                assert (got.frame, got.writable) == (leaf.frame, leaf.writable)
                assert got.level == leaf.level
        assert mapped == len(found)

    def check_totals(self, found: dict[int, Found]) -> None:
        totals = self.machine.books()["vmemmap"]
        frames = {leaf.frame for leaf in found.values()}
        assert totals["distinct_frames"] == len(frames)
        assert totals["read_only_pages"] == sum(
            not leaf.writable for leaf in found.values()
        )
        leaves = {page // 512 for page, leaf in found.items() if leaf.level == 2}
        assert totals["pmd_leaves"] == len(leaves)

    def check_frames(self, found: dict[int, Found]) -> None:
        """Nothing that backs the vmemmap is free, or used twice without a reason."""
        states = self.machine.core.frames
        users = Counter(leaf.frame for leaf in found.values())
        for frame in users:
            assert states.kind(frame) not in FREE_KINDS
        for table in self.machine.core.vmemmap.tables.values():
            assert states.kind(table) not in FREE_KINDS
            assert table not in users
        books = self.machine.books()
        doubled = sum(1 for count in users.values() if count > 1)
        if not any(row.get("period") for row in books["backing"]):
            assert not doubled

    def check_sections(self, image: Image) -> None:
        zones = self.machine.books()["zones"]
        for row in zones:
            zone = image.zones[row["node"], row["index"]]
            assert zone.get("managed_pages") == row["managed_pages"]
            assert (
                0 <= row["free_pages"] <= row["managed_pages"] <= row["present_pages"]
            )


@pytest.mark.parametrize("generation", GENERATIONS)
def test_random_operations_keep_image_and_books_together(generation: str) -> None:
    class Case(Operations):
        pass

    Case.generation = generation
    test = Case.TestCase
    test.settings = settings(
        # The same sequences every time, unless more are asked for.
        max_examples=int(os.environ.get("MODEL_EXAMPLES", "4")),
        derandomize="MODEL_EXAMPLES" not in os.environ,
        stateful_step_count=8,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.explicit, Phase.generate),
    )
    test("runTest").runTest()
