# SPDX-License-Identifier: LGPL-2.1-or-later
"""Single addresses through page tables made by hand (kernel-reference.md 7.1)."""

from __future__ import annotations

import pytest

from tests.fakes.memory import SparseMemory
from tests.fakes.tables import PS, RW, P
from vmemmap_tools.arch import ARCHITECTURES
from vmemmap_tools.arch.pagetable import (
    CACHED_TABLES,
    HugeLeaf,
    PageTable,
)
from vmemmap_tools.arch.x86_64 import FORMAT
from vmemmap_tools.target.base import Fault

from .built import GIB, MIB2, NX, PAT_HUGE, SAVED_DIRTY, VA, Built, both_levels


@both_levels
def test_a_walk_passes_every_level_down_to_the_pte(levels: int) -> None:
    built, va = Built(levels), VA[levels] + 0x5000
    built.tables.map(va, 0x123000)
    steps = built.walker.walk(va)
    names = {4: ["PGD", "PUD", "PMD", "PTE"], 5: ["PGD", "P4D", "PUD", "PMD", "PTE"]}
    assert [s.name for s in steps] == names[levels]
    assert [s.level for s in steps] == list(range(levels, 0, -1))
    assert steps[0].table_pa == built.tables.root_pa
    assert [s.is_leaf for s in steps] == [False] * (levels - 1) + [True]
    assert (steps[-1].index, steps[-1].entry) == (5, 0x123000 | P | RW)


def test_a_walk_shows_the_indices_that_the_address_is_made_of() -> None:
    # 0xffffea0000000000 is slot 468 of the top table (0xea00... >> 39 & 511).
    built = Built()
    built.tables.map(VA[4] + (3 << 30) + (7 << 21) + (9 << 12), 0x1000)
    steps = built.walker.walk(VA[4] + (3 << 30) + (7 << 21) + (9 << 12))
    assert [s.index for s in steps] == [468, 3, 7, 9]


def test_a_walk_ends_with_the_entry_that_is_not_present() -> None:
    built = Built()
    built.tables.map(VA[4], 0x1000)
    (*_, last) = built.walker.walk(VA[4] + MIB2)
    assert (last.name, last.is_present, last.is_leaf, last.entry) == (
        "PMD",
        False,
        False,
        0,
    )
    assert built.walker.translate(VA[4] + MIB2) is None


@both_levels
def test_an_address_that_is_not_canonical_is_not_mapped(levels: int) -> None:
    # The same indices as a mapped address, but bits above them that fault.
    built = Built(levels)
    built.tables.map(VA[levels], 0x7654000)
    above = {4: 0xFFFF << 48, 5: 0x7F << 57}[levels]
    for va in (VA[levels] & ~above, VA[levels] ^ 1 << 63, VA[levels] + (1 << 64)):
        assert built.walker.translate(va) is None
        assert built.walker.walk(va) == []
    assert built.walker.translate(VA[levels]) is not None


@both_levels
def test_a_base_page_translates_with_its_offset(levels: int) -> None:
    built = Built(levels)
    built.tables.map(VA[levels], 0x7654000)
    found = built.walker.translate(VA[levels] + 0x123)
    assert found is not None
    assert (found.pa, found.leaf_pa, found.page_size) == (0x7654123, 0x7654000, 4096)


@pytest.mark.parametrize(("level", "size"), [(2, MIB2), (3, GIB)])
def test_a_huge_leaf_translates_at_both_levels(level: int, size: int) -> None:
    built = Built()
    built.tables.map_huge(VA[4], 5 * GIB, level=level)
    found = built.walker.translate(VA[4] + size - 1)
    assert found is not None
    assert (found.pa, found.page_size) == (5 * GIB + size - 1, size)
    assert built.walker.walk(VA[4])[-1].is_leaf


def test_bit_12_of_a_huge_leaf_is_pat_and_no_address() -> None:
    built = Built()
    built.tables.map_huge(VA[4], 6 * MIB2 | PAT_HUGE)
    found = built.walker.translate(VA[4])
    assert found is not None and found.pa == 6 * MIB2
    (item,) = built.walker.for_each_table(VA[4], VA[4] + MIB2)
    assert isinstance(item, HugeLeaf)
    assert "PAT" in FORMAT.decode_flags(item.entry, 2, True)


def test_bit_7_of_a_pte_is_pat_and_no_huge_page() -> None:
    built = Built()
    built.tables.map(VA[4], 0x5000, P | RW | PS)
    found = built.walker.translate(VA[4])
    assert found is not None and found.page_size == 4096
    assert FORMAT.decode_flags(0x5000 | P | RW | PS, 1, True) == [
        "PRESENT",
        "RW",
        "PAT",
    ]


def test_the_page_size_bit_makes_no_leaf_of_a_top_level_entry() -> None:
    # Only PMD and PUD entries can be leaves.
    assert not FORMAT.is_leaf(P | RW | PS, 4)
    assert not FORMAT.is_leaf(P | RW | PS, 5)


@pytest.mark.parametrize(
    ("flags", "readonly"),
    [(P | RW | NX, False), (P | NX, True), (P | NX | SAVED_DIRTY, True)],
)
def test_the_write_bit_alone_tells_read_only(flags: int, readonly: bool) -> None:
    # Write-protecting a dirty PTE moves its dirty bit to bit 58 (7.1).
    built = Built()
    built.tables.map(VA[4], 0x1000, flags)
    found = built.walker.translate(VA[4])
    assert found is not None and found.is_readonly is readonly


def test_flags_are_named_from_the_lowest_bit_up() -> None:
    entry = 0x8000000000000163 | 0x1000
    assert FORMAT.decode_flags(entry, 1, True) == [
        "PRESENT",
        "RW",
        "ACCESSED",
        "DIRTY",
        "GLOBAL",
        "NX",
    ]
    assert "PSE" in FORMAT.decode_flags(0x800000000000001E3, 2, True)


def test_protection_keys_and_software_bits_are_no_address() -> None:
    # Physical address: bits 12 to 51.
    built = Built()
    built.tables.map(VA[4], 0x000FFFFFFFFFF000, P | RW | NX | 0x7FF << 52)
    found = built.walker.translate(VA[4])
    assert found is not None and found.pa == 0x000FFFFFFFFFF000


def test_the_memory_encryption_bit_is_taken_out_of_addresses() -> None:
    c_bit = 1 << 47
    built = Built(address_mask=FORMAT.address_mask & ~c_bit)
    built.tables.map(VA[4], 0x1000 | c_bit)
    for level in (2, 3, 4):  # tables are encrypted as well
        at = built.tables.entry_pa(VA[4], level)
        entry = int.from_bytes(built.memory.read(at, 8), "little")
        built.memory.write_u64(at, entry | c_bit)
    found = built.walker.translate(VA[4])
    assert found is not None and found.pa == 0x1000


def test_a_single_look_up_passes_the_readers_error_on() -> None:
    built = Built()
    built.memory.lose(built.tables.root_pa // 4096, "io")
    with pytest.raises(Fault) as error:
        built.walker.translate(VA[4])
    assert error.value.kind == "io"
    with pytest.raises(Fault):
        built.walker.walk(VA[4])


def test_single_look_ups_read_each_table_once() -> None:
    built = Built()
    built.tables.map(VA[4], 0x1000)
    for _ in range(3):
        built.walker.translate(VA[4])
        built.walker.walk(VA[4])
    assert len(built.reads) == 4


def test_tables_kept_for_look_ups_are_bounded() -> None:
    built = Built()
    for i in range(CACHED_TABLES + 8):
        built.tables.map(VA[4] + i * MIB2, 0x1000)
    for i in range(CACHED_TABLES + 8):
        assert built.walker.translate(VA[4] + i * MIB2) is not None
    before = len(built.reads)
    built.walker.translate(VA[4] + (CACHED_TABLES + 7) * MIB2)
    assert len(built.reads) == before
    built.walker.translate(VA[4])
    assert len(built.reads) > before


def test_tables_of_the_other_byte_order_are_read_as_well() -> None:
    memory = SparseMemory()
    memory.write(0x1000 + 8 * 468, (0x2000 | P).to_bytes(8, "big"))
    walker = PageTable(memory.read, FORMAT, 4, 0x1000, byteorder="big")
    assert walker.read_table(0x1000)[468] == 0x2000 | P


def test_every_architecture_is_known_by_its_own_name() -> None:
    assert all(name == arch.name for name, arch in ARCHITECTURES.items())
    assert "x86_64" in ARCHITECTURES
