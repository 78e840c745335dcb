# SPDX-License-Identifier: LGPL-2.1-or-later
"""The pass over the vmemmap's page tables, against entries kept one by one."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.machine import Machine
from tests.fakes.memory import PAGE
from tests.fakes.tables import PS, RW, P
from vmemmap_tools.kernel.vmemmap import HOLE, Leaf, Vmemmap

SLOT = 512

ENTRY = st.builds(
    lambda frame, flags: frame * PAGE | flags,
    st.integers(0x1000, 0x1008),
    st.sampled_from([0, P, P | RW, P | RW, P | RW | 1 << 5]),
)
TABLES = st.one_of(
    # anything; a run of adjoining frames; a head and one tail; a repeated pattern
    st.lists(ENTRY, min_size=SLOT, max_size=SLOT),
    st.builds(
        lambda first, flags: [(first + i) * PAGE | flags for i in range(SLOT)],
        st.integers(0x1000, 0x2000),
        st.sampled_from([P, P | RW]),
    ),
    st.builds(lambda head, tail: [head] + [tail] * (SLOT - 1), ENTRY, ENTRY),
    st.builds(
        lambda group, last: [*(group * SLOT)[: SLOT - 1], last],
        st.lists(ENTRY, min_size=1, max_size=16),
        ENTRY,
    ),
    st.builds(
        lambda heads, tail: [e for h in heads for e in (h, *[tail] * 7)],
        st.lists(ENTRY, min_size=64, max_size=64),
        ENTRY,
    ),
)


def read(tables: list[list[int]], huge: list[int]) -> Vmemmap:
    """Base-page tables at slots 0.., huge leaves behind them."""
    m = Machine()
    for slot, table in enumerate(tables):
        at = m.tables.entry_pa(m.vmemmap + slot * SLOT * PAGE, 1)
        m.memory.write(at, b"".join(e.to_bytes(8, "little") for e in table))
    for slot, frame in enumerate(huge, len(tables)):
        m.map_huge(slot * SLOT, frame)
    return m.kernel().vmemmap


@settings(max_examples=40, deadline=None)
@given(
    st.lists(TABLES, max_size=3),
    st.lists(st.sampled_from([0x1000, 0x1200]), max_size=2),
)
def test_the_totals_equal_those_of_single_entries(
    tables: list[list[int]], huge: list[int]
) -> None:
    vmemmap = read(tables, huge)
    present = [e for table in tables for e in table if e & P]
    frames = Counter(e // PAGE for e in present)
    for first in huge:
        frames.update(range(first, first + SLOT))
    assert vmemmap.base_leaves == len(present)
    assert vmemmap.huge_leaves == len(huge)
    assert vmemmap.readonly_leaves == sum(not e & RW for e in present)
    assert vmemmap.frames.distinct == len(frames)
    assert vmemmap.frames.shared == {f: n for f, n in frames.items() if n > 1}
    assert vmemmap.leaf_tables == len(tables)
    assert vmemmap.mapped_bytes == len(present) * PAGE + len(huge) * (2 << 20)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(TABLES, min_size=1, max_size=2), st.integers(0, 1023), st.integers(1, 600)
)
def test_entries_frames_and_permissions_of_pages_are_those_of_the_tables(
    tables: list[list[int]], first: int, count: int
) -> None:
    vmemmap = read(tables, [])
    flat = [e for table in tables for e in table] + [0] * 2000
    wanted = flat[first : first + count]
    assert vmemmap.entries(first, count) == wanted
    backing = vmemmap.backing(first, count)
    assert backing.frames == [e // PAGE if e & P else HOLE for e in wanted]
    assert [vmemmap.frame(first + i) for i in range(count)] == backing.frames
    mapped = [i for i, e in enumerate(wanted) if e & P]
    assert all(backing.readonly[i] == (not wanted[i] & RW) for i in mapped)


@settings(max_examples=25, deadline=None)
@given(TABLES)
def test_the_leaves_are_the_present_entries_in_order(table: list[int]) -> None:
    vmemmap = read([table], [])
    start = vmemmap.start_va
    assert list(vmemmap.leaves()) == [
        Leaf(start + i * PAGE, PAGE, e // PAGE, not e & RW, e)
        for i, e in enumerate(table)
        if e & P
    ]


@pytest.fixture
def machine() -> Machine:
    m = Machine()
    m.add_section(0, leaf="huge")
    m.add_section(1)
    return m


def test_a_huge_leaf_backs_512_pages_with_adjoining_frames(machine: Machine) -> None:
    vmemmap, frame = machine.kernel().vmemmap, machine.frame(0)
    assert vmemmap.frame(511) == frame + 511
    assert vmemmap.entries(510, 3)[:2] == vmemmap.entries(510, 2)
    backing = vmemmap.backing(0, 512)
    assert backing.is_huge and backing.is_private
    assert backing.frames == list(range(frame, frame + 512))
    assert vmemmap.slot_kind(511) == "huge" and vmemmap.slot_kind(512) == "base"


def test_a_leaf_of_a_gibibyte_is_none_that_a_kernel_makes() -> None:
    # 7.1: 1G leaves are not used.
    m = Machine()
    m.tables.map_huge(m.vmemmap, 1 << 30, level=3)
    kernel = m.kernel()
    assert (kernel.vmemmap.huge_leaves, kernel.vmemmap.frame(0)) == (0, HOLE)
    concern = "leaves too large for a vmemmap"
    assert kernel.missing.as_dict() == {"damaged": {concern: 1}}


def test_a_read_only_huge_leaf_is_one(machine: Machine) -> None:
    machine.tables.map_huge(machine.vmemmap, 1 << 30, P)
    vmemmap = machine.kernel().vmemmap
    assert vmemmap.readonly_leaves == 1 and vmemmap.is_readonly(7)
    leaf = next(vmemmap.leaves())
    assert (leaf.size, leaf.frame_pfn, leaf.is_readonly) == (2 << 20, 1 << 18, True)
    assert leaf.entry == 1 << 30 | P | PS


def test_unmapped_pages_are_holes(machine: Machine) -> None:
    machine.unmap(512)
    vmemmap = machine.kernel().vmemmap
    assert vmemmap.frame(512) == HOLE
    assert vmemmap.frame(99999) == HOLE and vmemmap.slot_kind(99999) == "hole"
    assert vmemmap.entries(2000, 3) == [0, 0, 0]
    assert vmemmap.backing(512, 2).mapped == [machine.frame(513)]
    assert not vmemmap.backing(512, 2).is_private


def test_an_extent_counts_leaves_where_they_begin(machine: Machine) -> None:
    vmemmap = machine.kernel().vmemmap
    whole = vmemmap.extent([(0, 1024)])
    assert (whole.huge_leaves, whole.base_leaves) == (1, 512)
    assert (whole.mapped_pages, whole.frames) == (1024, 1024)
    second_half = vmemmap.extent([(256, 256)])
    assert (second_half.huge_leaves, second_half.mapped_pages) == (0, 256)


def test_an_extent_counts_a_frame_once_over_all_its_spans(machine: Machine) -> None:
    for page in range(513, 520):
        machine.map(page, machine.frame(512))
    vmemmap = machine.kernel().vmemmap
    assert vmemmap.extent([(512, 4), (516, 4)]).frames == 1


def test_the_pages_that_a_frame_backs_are_found(machine: Machine) -> None:
    machine.map(700, machine.frame(600))
    machine.map(701, machine.frame(3))
    vmemmap = machine.kernel().vmemmap
    assert list(vmemmap.pages_of_frame(machine.frame(600))) == [600, 700]
    assert list(vmemmap.pages_of_frame(machine.frame(3))) == [3, 701]
    assert list(vmemmap.pages_of_frame(1)) == []


def test_page_numbers_and_addresses_belong_together(machine: Machine) -> None:
    vmemmap = machine.kernel().vmemmap
    assert vmemmap.page_va(5) == 0xFFFFEA0000005000
    assert vmemmap.page_number(0xFFFFEA0000005FFF) == 5


def test_last_level_tables_cost_a_page_each(machine: Machine) -> None:
    # 10: one table for each 2 MiB of vmemmap; a huge leaf has none.
    assert machine.kernel().vmemmap.page_table_bytes == 4096


def test_an_unreadable_table_is_counted_as_missing(machine: Machine) -> None:
    at = machine.tables.entry_pa(machine.vmemmap + 512 * PAGE, 1)
    machine.memory.lose(at // PAGE)
    kernel = machine.kernel()
    assert kernel.vmemmap.base_leaves == 0 and kernel.vmemmap.huge_leaves == 1
    assert kernel.missing.as_dict() == {"excluded": {"vmemmap page tables": 1}}


def test_a_page_below_an_unreadable_table_is_not_said_to_be_unmapped(
    machine: Machine,
) -> None:
    lost = machine.vmemmap + 512 * PAGE
    machine.memory.lose(machine.tables.entry_pa(lost, 1) // PAGE)
    vmemmap = machine.kernel().vmemmap
    assert vmemmap.why_not_mapped(vmemmap.page_number(lost)) == "excluded"
    beyond = vmemmap.page_number(machine.vmemmap + (1 << 36))
    assert vmemmap.why_not_mapped(beyond) == "unmapped"


def test_a_table_linked_twice_is_counted_as_missing_too(machine: Machine) -> None:
    at = machine.tables.entry_pa(machine.vmemmap + 512 * PAGE, 2)
    machine.memory.write(at + 8, machine.memory.read(at, 8))
    kernel = machine.kernel()
    assert kernel.vmemmap.base_leaves == 512
    assert len(kernel.vmemmap.absent) == 1
    assert kernel.missing
