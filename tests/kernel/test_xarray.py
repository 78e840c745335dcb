# SPDX-License-Identifier: LGPL-2.1-or-later
"""XArrays: multi-index entries, siblings, and arrays that lead in circles."""

from __future__ import annotations

import pytest

from tests.fakes.devices import Entries, xarray
from tests.fakes.machine import Machine
from vmemmap_tools.kernel.xarray import for_each_entry, load
from vmemmap_tools.target.base import Fault

A, B = 0xFFFF888000001000, 0xFFFF888000002000


@pytest.fixture
def m() -> Machine:
    return Machine("7.3")


def entries(m: Machine, va: int) -> list[tuple[int, int]]:
    return list(for_each_entry(m.kernel().memory, va))


@pytest.mark.parametrize(
    "wanted",
    [
        [],
        [(0, 1, A)],
        [(3, 4, A), (63, 64, B)],
        [(64, 65, A), (4095, 4096, B)],
        [(1 << 20, (1 << 20) + 1, A)],
    ],
)
def test_single_entries_come_in_order_with_their_index(
    m: Machine, wanted: Entries
) -> None:
    assert entries(m, xarray(m.target, wanted)) == [(i, p) for i, _, p in wanted]


def test_an_entry_over_many_slots_is_reported_where_it_begins(m: Machine) -> None:
    # The sibling slots name the first; they are no entries of their own.
    va = xarray(m.target, [(8, 16, A), (128, 192, B)])
    assert entries(m, va) == [(8, A), (128, B)]


def test_an_entry_that_crosses_nodes_is_reported_once_for_each_part(
    m: Machine,
) -> None:
    # xa_store_range() stores it in pieces; pgmap_array's reader removes doubles.
    va = xarray(m.target, [(32, 96, A)])
    assert {p for _, p in entries(m, va)} == {A}
    assert entries(m, va)[0] == (32, A)


def test_the_only_entry_of_an_array_may_stand_in_its_head(m: Machine) -> None:
    va = m.target.record("xarray", xa_head=A)
    assert entries(m, va) == [(0, A)]
    assert load(m.kernel().memory, va, 0) == A
    assert load(m.kernel().memory, va, 1) is None


@pytest.mark.parametrize("head", [0, 2, 6, 257 << 2 | 2])
def test_internal_entries_are_none(m: Machine, head: int) -> None:
    va = m.target.record("xarray", xa_head=head)
    assert entries(m, va) == []
    assert load(m.kernel().memory, va, 0) is None


def test_loading_finds_every_index_of_a_multi_index_entry(m: Machine) -> None:
    va = xarray(m.target, [(8, 16, A), (128, 192, B)])
    memory = m.kernel().memory
    found = {i: load(memory, va, i) for i in (7, 8, 15, 16, 127, 128, 191, 192)}
    assert found == {
        7: None,
        8: A,
        15: A,
        16: None,
        127: None,
        128: B,
        191: B,
        192: None,
    }


def test_loading_beyond_the_array_finds_nothing(m: Machine) -> None:
    va = xarray(m.target, [(8, 16, A)])
    assert load(m.kernel().memory, va, 1 << 40) is None


def test_a_kernel_without_the_types_has_no_entries(m: Machine) -> None:
    va = xarray(m.target, [(8, 16, A)])
    del m.target.structs["xa_node"]
    assert entries(m, va) == []
    assert load(m.kernel().memory, va, 8) is None


def node(m: Machine, shift: int) -> int:
    return m.target.record("xa_node", m.target.allocate(576, 64), shift=shift)


def fill(m: Machine, node_va: int, slot: int) -> None:
    m.target.write(node_va + 64, slot.to_bytes(8, "little") * 64)


def test_a_node_that_leads_to_itself_ends_the_walk(m: Machine) -> None:
    loop = node(m, 6)
    fill(m, loop, loop | 2)
    va = m.target.record("xarray", xa_head=loop | 2)
    with pytest.raises(Fault, match="damaged"):
        entries(m, va)
    assert load(m.kernel().memory, va, 5) is None


def test_nodes_that_lead_to_each_other_end_the_walk(m: Machine) -> None:
    one, two = node(m, 12), node(m, 6)
    fill(m, one, two | 2)
    fill(m, two, one | 2)
    va = m.target.record("xarray", xa_head=one | 2)
    with pytest.raises(Fault, match="damaged"):
        entries(m, va)


def test_shifts_that_do_not_fall_end_the_walk(m: Machine) -> None:
    nodes = [node(m, 60) for _ in range(30)]
    for above, below in zip(nodes, nodes[1:]):
        fill(m, above, below | 2)
    fill(m, nodes[-1], A)
    va = m.target.record("xarray", xa_head=nodes[0] | 2)
    with pytest.raises(Fault, match="damaged"):
        entries(m, va)


def test_an_unreadable_node_is_a_fault(m: Machine) -> None:
    va = m.target.record("xarray", xa_head=0x1002)
    with pytest.raises(Fault):
        entries(m, va)
    with pytest.raises(Fault):
        load(m.kernel().memory, va, 0)


def test_more_nodes_than_any_array_has_end_the_walk(m: Machine) -> None:
    size, slots = m.target.structs["xa_node"].size, 64
    leaves, above = 20_000, -(-20_000 // 64)
    first = m.target.allocate((leaves + above + 10) * size, 64)
    level = [first + i * size for i in range(leaves)]
    data = bytearray((leaves + above + 10) * size)
    for i in range(leaves):
        at = i * size + m.target.structs["xa_node"].offset("slots")
        data[at : at + 8] = A.to_bytes(8, "little")
    number, shift = leaves, 0
    while len(level) > 1:
        shift += 6
        groups = [level[i : i + slots] for i in range(0, len(level), slots)]
        level = [first + (number + i) * size for i in range(len(groups))]
        for group in groups:
            data[number * size + m.target.structs["xa_node"].offset("shift")] = shift
            at = number * size + m.target.structs["xa_node"].offset("slots")
            words = b"".join((va | 2).to_bytes(8, "little") for va in group)
            data[at : at + len(words)] = words
            number += 1
    m.target.write(first, bytes(data))
    va = m.target.record("xarray", xa_head=level[0] | 2)
    found = []
    with pytest.raises(Fault, match="damaged"):
        for entry in for_each_entry(m.kernel().memory, va):
            found.append(entry)
    assert 15_000 < len(found) < 1 << 14
