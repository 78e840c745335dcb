# SPDX-License-Identifier: LGPL-2.1-or-later
"""Ranges of addresses, a table at a time (kernel-reference.md 7.1)."""

from __future__ import annotations

from tests.fakes.tables import RW, P
from vmemmap_tools.arch.pagetable import (
    AbsentTable,
    HugeLeaf,
    LeafTable,
)
from vmemmap_tools.target.base import Fault

from .built import GIB, MIB2, VA, Built, both_levels


def test_a_range_comes_a_table_at_a_time_in_address_order() -> None:
    built = Built()
    built.tables.map(VA[4] + 3 * MIB2, 0x3000)
    built.tables.map_huge(VA[4] + MIB2, 8 * MIB2)
    built.tables.map_huge(VA[4] + GIB, 4 * GIB, level=3)
    huge, base, giant = built.walker.for_each_table(VA[4], VA[4] + (1 << 40))
    assert isinstance(huge, HugeLeaf) and isinstance(giant, HugeLeaf)
    assert isinstance(base, LeafTable)
    assert (huge.va, huge.level) == (VA[4] + MIB2, 2)
    assert (base.va, base.entries[0]) == (VA[4] + 3 * MIB2, 0x3000 | P | RW)
    assert (giant.va, giant.level) == (VA[4] + GIB, 3)


def test_a_leaf_table_says_which_part_of_it_was_asked_for() -> None:
    built = Built()
    built.tables.map(VA[4] + 0x7000, 0x1000)
    (item,) = built.walker.for_each_table(VA[4] + 0x3000, VA[4] + 0x9000)
    assert isinstance(item, LeafTable)
    assert (item.va, item.first, item.last) == (VA[4], 3, 9)
    assert len(item.entries) == 512


def test_a_range_over_several_tables_is_cut_at_its_ends() -> None:
    built = Built()
    for i in range(3):
        built.tables.map(VA[4] + i * MIB2, 0x1000)
    items = list(built.walker.for_each_table(VA[4] + 0x1FF000, VA[4] + 2 * MIB2 + 4096))
    assert [(i.first, i.last) for i in items if isinstance(i, LeafTable)] == [
        (511, 512),
        (0, 512),
        (0, 1),
    ]


@both_levels
def test_a_range_spans_top_level_slots(levels: int) -> None:
    # The window has two slots of the top table (7.1).
    slot = 1 << {4: 39, 5: 48}[levels]
    built = Built(levels)
    built.tables.map(VA[levels], 0x1000)
    built.tables.map(VA[levels] + slot, 0x2000)
    items = list(built.walker.for_each_table(VA[levels], VA[levels] + 2 * slot))
    assert [i.va for i in items] == [VA[levels], VA[levels] + slot]


def test_a_table_linked_twice_is_visited_once_and_reported() -> None:
    built = Built()
    built.tables.map(VA[4], 0x1000)
    shared = built.memory.read(built.tables.entry_pa(VA[4], 2), 8)
    built.memory.write(built.tables.entry_pa(VA[4] + MIB2, 2), shared)
    leaf, again = built.walker.for_each_table(VA[4], VA[4] + GIB)
    assert isinstance(leaf, LeafTable) and isinstance(again, AbsentTable)
    assert (again.va, again.pa, again.error) == (VA[4] + MIB2, leaf.pa, None)


def test_a_table_that_names_itself_ends_the_walk() -> None:
    built = Built()
    root = built.tables.root_pa
    for index in range(512):
        built.memory.write_u64(root + 8 * index, root | P | RW)
    items = list(built.walker.for_each_table(VA[4], VA[4] + (1 << 40)))
    assert len(items) == 2  # one for each slot of the window
    assert all(isinstance(item, AbsentTable) for item in items)
    assert len(built.walker.walk(VA[4])) == 4


def test_a_table_that_cannot_be_read_is_reported_and_the_rest_goes_on() -> None:
    built = Built()
    built.tables.map(VA[4], 0x1000)
    built.tables.map(VA[4] + GIB, 0x2000)
    lost = built.walker.walk(VA[4])[2].table_pa
    built.memory.lose(lost // 4096)
    absent, leaf = built.walker.for_each_table(VA[4], VA[4] + 2 * GIB)
    assert isinstance(absent, AbsentTable) and isinstance(leaf, LeafTable)
    assert (absent.va, absent.end_va, absent.level) == (VA[4], VA[4] + GIB, 2)
    assert isinstance(absent.error, Fault) and absent.error.kind == "excluded"
