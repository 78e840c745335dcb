# SPDX-License-Identifier: LGPL-2.1-or-later
"""dev_pagemaps from pgmap_array (kernel-reference.md 6)."""

from __future__ import annotations

import pytest

from tests.fakes.devices import FS_DAX, add_pgmap
from tests.fakes.machine import Machine
from tests.fakes.memory import PAGE
from vmemmap_tools.kernel.layout import LayoutError
from vmemmap_tools.kernel.pgmap import Altmap

START, END = 0x200000, 0x240000


def test_a_map_has_its_range_type_and_shift() -> None:
    # range.end is the last byte; the pfn after the last page is the end here.
    m = Machine("6.12")
    va = add_pgmap(m, START, END, 9)
    (pgmap,) = m.kernel().pgmaps
    assert (pgmap.va, pgmap.ranges) == (va, ((START, END),))
    assert (pgmap.type, pgmap.type_name) == (4, "GENERIC")
    assert (pgmap.vmemmap_shift, pgmap.compound_order) == (9, 9)
    assert pgmap.altmap is None


def test_a_map_that_the_array_holds_in_many_entries_comes_once() -> None:
    m = Machine("6.12")
    add_pgmap(m, START + 0x1000, END, 9)
    add_pgmap(m, END, END + 0x8000, 0, type_=FS_DAX)
    assert [p.type_name for p in m.kernel().pgmaps] == ["GENERIC", "FS_DAX"]


def test_types_are_those_of_the_enum_and_others_have_numbers() -> None:
    m = Machine("6.12")
    add_pgmap(m, START, END, type_=99)
    (pgmap,) = m.kernel().pgmaps
    assert pgmap.type_name == "type 99"


def test_the_altmap_counts_only_if_the_flags_say_so() -> None:
    # flags bit 0: PGMAP_ALTMAP_VALID.
    m = Machine("6.12")
    add_pgmap(m, START, END, 9, altmap=(START, 16, 4096, 512))
    add_pgmap(m, END, END + 0x8000, 9, altmap=(END, 16, 4096, 512), flags=2)
    with_altmap, without = m.kernel().pgmaps
    assert with_altmap.altmap == Altmap(START, 16, 4096, 0, 512)
    assert with_altmap.altmap.end_pfn == START + 16 + 4096
    assert without.altmap is None


def test_a_pfn_has_the_map_whose_range_holds_it() -> None:
    m = Machine("6.12")
    add_pgmap(m, START, END)
    add_pgmap(m, END + 0x8000, END + 0x10000)
    pgmaps = m.kernel().pgmaps
    first, second = pgmaps
    assert pgmaps.of_pfn(END - 1) is first
    assert pgmaps.of_pfn(END) is None
    assert pgmaps.of_pfn(END + 0x8000) is second


def test_several_ranges_of_one_map_are_read() -> None:
    m = Machine("6.12")
    va = add_pgmap(m, START, END, nr_range=2)
    at = va + m.target.structs["dev_pagemap"].offset("ranges")
    m.target.record("range", at + 16, start=END << 13, end=(END + 8 << 13) - 1)
    (pgmap,) = m.kernel().pgmaps
    assert pgmap.ranges == ((START, END), (END << 1, END + 8 << 1))


def test_before_ranges_there_was_one() -> None:
    # memremap_pages() resets nr_range for a while (6).
    m = Machine("6.12")
    add_pgmap(m, START, END, nr_range=0)
    (pgmap,) = m.kernel().pgmaps
    assert pgmap.ranges == ((START, END),)


def test_without_the_array_or_the_type_there_are_no_maps() -> None:
    m = Machine("6.12")
    assert list(m.kernel().pgmaps) == []
    add_pgmap(m, START, END)
    del m.target.structs["dev_pagemap"]
    assert list(m.kernel().pgmaps) == []


def test_without_a_struct_range_a_map_has_none() -> None:
    m = Machine("6.12")
    add_pgmap(m, START, END)
    del m.target.structs["range"]
    (pgmap,) = m.kernel().pgmaps
    assert pgmap.ranges == ()


@pytest.mark.parametrize(
    "member", ["dev_pagemap.type", "dev_pagemap.flags", "dev_pagemap.altmap.alloc"]
)
def test_a_map_whose_members_are_unknown_is_no_map_without_them(member: str) -> None:
    m = Machine("6.12")
    add_pgmap(m, START, END)
    m.forget_member(member)
    name = member.split(".", 1)[1]
    with pytest.raises(LayoutError, match=f"dev_pagemap has no member {name}"):
        _ = m.kernel().pgmaps


def test_an_unreadable_map_is_missing_and_the_others_are_there() -> None:
    m = Machine("6.12")
    va = add_pgmap(m, START, END)
    add_pgmap(m, END, END + 0x8000)
    m.memory.lose(m.target.allocate_page() // PAGE)
    m.pgmaps[0] = (START, END, 0xFFFF000000000000)
    add_pgmap(m, END + 0x8000, END + 0x10000)
    kernel = m.kernel()
    assert va not in [p.va for p in kernel.pgmaps]
    assert len(list(kernel.pgmaps)) == 2
    assert kernel.missing.as_dict() == {"unmapped": {"dev_pagemaps": 1}}


def test_an_unreadable_array_is_missing() -> None:
    m = Machine("6.12")
    add_pgmap(m, START, END)
    va = m.target.variables["pgmap_array"].address
    m.target.record("xarray", va, xa_head=0x1002)
    kernel = m.kernel()
    assert list(kernel.pgmaps) == []
    assert kernel.missing.as_dict() == {"unmapped": {"nodes of pgmap_array": 1}}


@pytest.mark.parametrize("shift", [23, 39, 63, (1 << 64) - 1])
def test_a_shift_that_is_no_order_is_shown_but_makes_no_compounds(shift: int) -> None:
    m = Machine("6.12")
    add_pgmap(m, START, END, shift)
    (pgmap,) = m.kernel().pgmaps
    assert (pgmap.vmemmap_shift, pgmap.compound_order) == (shift, 0)


def test_an_absurd_number_of_ranges_ends_with_the_first_that_cannot_be() -> None:
    m = Machine("6.12")
    add_pgmap(m, START, END, nr_range=1 << 31)
    kernel = m.kernel()
    (pgmap,) = kernel.pgmaps
    assert pgmap.ranges == ((START, END),)
    assert kernel.missing.as_dict() == {"damaged": {"ranges of dev_pagemaps": 4095}}


@pytest.mark.parametrize(
    ("start", "end"),
    [(START + 5, START + 6), (START - 5, END + 5), (0, 1 << 40), (9, 3)],
)
def test_a_range_that_another_has_or_nobody_can_have_is_left_out(
    start: int, end: int
) -> None:
    m = Machine("6.12")
    add_pgmap(m, START, END)
    va = add_pgmap(m, END, END + 0x8000)
    at = va + m.target.structs["dev_pagemap"].offset("range")
    m.target.record("range", at, start=start * PAGE, end=end * PAGE - 1)
    kernel = m.kernel()
    assert [p.ranges for p in kernel.pgmaps] == [((START, END),), ()]
    assert kernel.missing
