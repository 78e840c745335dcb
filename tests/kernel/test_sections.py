# SPDX-License-Identifier: LGPL-2.1-or-later
"""mem_section entries (kernel-reference.md 2): where they are and what they say."""

from __future__ import annotations

import pytest

from tests.fakes.devices import xarray
from tests.fakes.layouts import pointer
from tests.fakes.machine import Machine
from vmemmap_tools.target.base import Fault, Variable

VMEMMAP = 0xFFFFEA0000000000
BLOCK = 0xFFFF888000001000
NUMBERS = [0, 1, 84, 85, 101, 102, 170, 171, 255, 256, 340]
"""Around the borders of roots of 256, 170, 102 and 85 entries."""


def machine(like: str = "7.3", entry: int = 16, is_static: bool = False) -> Machine:
    m = Machine(like, section_entry=entry, is_static=is_static)
    for nr in NUMBERS:
        m.add_section(nr, leaf=None)
    return m


# 2.3: the root array.


@pytest.mark.parametrize(
    ("entry", "per_root"), [(16, 256), (24, 170), (32, 128), (40, 102), (48, 85)]
)
def test_entries_of_any_size_are_found_by_division(entry: int, per_root: int) -> None:
    sections = machine("G5b", entry).kernel().sections
    assert sections.per_root == per_root
    assert [s.nr for s in sections] == NUMBERS


def test_section_171_with_24_byte_entries_is_slot_1_of_root_1() -> None:
    # A mask (171 & 169) would look at slot 169 of root 0.
    m = Machine("G5b", section_entry=24)
    m.add_section(171, leaf=None, compound_page_order=9)
    section = m.kernel().sections.get(171)
    assert section is not None
    assert (section.start_pfn, section.order) == (171 * 32768, 9)


@pytest.mark.parametrize("entry", [16, 24, 48])
def test_a_static_array_has_one_entry_a_root(entry: int) -> None:
    sections = machine("G5b", entry, is_static=True).kernel().sections
    assert sections.per_root == 1
    assert [s.nr for s in sections] == NUMBERS


def test_the_symbol_in_vmcoreinfo_is_the_pointers_value() -> None:
    # Not the address of the variable, unlike every other SYMBOL() but vmemmap.
    m = machine()
    kernel = m.kernel()
    m.target.variables["mem_section"] = Variable("mem_section", 8, pointer(0, 2))
    assert len(kernel.fresh().sections) == len(NUMBERS)


def test_without_the_note_the_variable_is_followed() -> None:
    m = machine()
    kernel = m.kernel()
    del m.target.vmcoreinfo["SYMBOL(mem_section)"]
    assert len(kernel.fresh().sections) == len(NUMBERS)


def test_without_variable_and_note_there_are_no_sections() -> None:
    m = machine()
    kernel = m.kernel()
    del m.target.vmcoreinfo["SYMBOL(mem_section)"]
    del m.target.variables["mem_section"]
    assert len(kernel.fresh().sections) == 0


@pytest.mark.parametrize(
    "name", ["__highest_present_section_nr", "__highest_used_section_nr"]
)
def test_the_highest_section_ends_the_search_under_both_names(name: str) -> None:
    m = machine()
    kernel = m.kernel()
    del m.target.variables["__highest_present_section_nr"]
    m.target.define_int(name, 200)
    found = [s.nr for s in kernel.fresh().sections]
    assert found == [nr for nr in NUMBERS if nr < 256]  # roots are read whole


def test_without_a_highest_section_all_roots_are_searched() -> None:
    m = machine()
    kernel = m.kernel()
    del m.target.variables["__highest_present_section_nr"]
    assert [s.nr for s in kernel.fresh().sections] == NUMBERS


def test_a_root_that_cannot_be_read_is_missing_and_the_rest_is_there() -> None:
    m = machine()
    kernel = m.kernel()
    roots = int(m.target.vmcoreinfo["SYMBOL(mem_section)"], 16)
    first = int.from_bytes(m.target.read(roots, 8), "little")
    m.memory.lose(first - m.target.direct_map >> 12)
    assert [s.nr for s in kernel.sections] == [256, 340]
    assert kernel.missing.as_dict() == {"excluded": {"mem_section roots": 1}}


# 2.2: the word.


@pytest.mark.parametrize("state", ["PMOE", "PM", "PMOED", "P", "PMO", "PMOEV"])
def test_the_state_letters_are_those_of_the_bits(state: str) -> None:
    m = Machine("7.3")
    m.add_section(3, state, leaf=None)
    section = m.kernel().sections.get(3)
    assert section is not None and section.state == state


@pytest.mark.parametrize(
    ("low_bits", "state"),
    [(0x0F, "PMOE"), (0x1F, "PMOED"), (0x03, "PM"), (0x2F, "PMOEV")],
)
def test_words_of_real_kernels_decode(low_bits: int, state: str) -> None:
    # Seen on 7.3, the last with a gigantic page from boot.
    m = Machine("7.3")
    m.add_section(3, state, leaf=None)
    m.sections[3]["section_mem_map"] = VMEMMAP | low_bits
    section = m.kernel().sections.get(3)
    assert section is not None
    assert (section.state, section.map_base) == (state, VMEMMAP)


def test_the_preinit_bit_is_no_part_of_the_address() -> None:
    # Tools that take the pointer from bit 5 on get a base 0x20 too high (2.2).
    m = Machine("7.3")
    m.add_section(3, "PMOEV", leaf=None)
    kernel = m.kernel()
    assert kernel.sections.flags.last_bit == 6
    assert kernel.sections.vmemmap() == VMEMMAP
    section = kernel.sections.get(3)
    assert section is not None and section.is_preinit


def test_a_word_without_a_mem_map_is_not_an_address() -> None:
    # Early boot keeps the node number there: P, O and E, but not M.
    m = Machine("6.12")
    m.add_section(3, "POE", leaf=None)
    m.sections[3]["section_mem_map"] |= 2 << 5
    kernel = m.kernel()
    section = kernel.sections.get(3)
    assert section is not None and section.map_base is None
    assert (section.state, kernel.sections.vmemmap()) == ("POE", None)


def test_flag_names_are_the_kernels_and_unknown_bits_have_numbers() -> None:
    m = Machine("6.12")
    m.add_section(3, "PMOED", leaf=None)
    section = m.kernel().sections.get(3)
    assert section is not None
    assert section.flag_names() == [
        "MARKED_PRESENT",
        "HAS_MEM_MAP",
        "IS_ONLINE",
        "IS_EARLY",
        "TAINT_ZONE_DEVICE",
    ]
    m.target.enums["section_flags"]["SECTION_MAP_LAST_BIT"] = 6
    m.sections[3]["section_mem_map"] |= 1 << 5
    section = m.kernel().sections.get(3)
    assert section is not None and section.flag_names()[-1] == "bit 5"


def test_before_the_enum_the_macros_of_5_3_and_5_12_hold() -> None:
    m = Machine("5.15")
    m.add_section(3, "PMOED", leaf=None)
    flags = m.kernel().sections.flags
    assert (flags.has_mem_map, flags.taint_zone_device, flags.last_bit) == (1, 4, 5)
    del m.target.enums["zone_type"]["ZONE_DEVICE"]
    flags = m.kernel().sections.flags
    assert (flags.taint_zone_device, flags.last_bit) == (None, 4)


def test_without_marked_present_has_mem_map_is_presence() -> None:
    # 2.2: in-flight work removes bit 0, after which HAS_MEM_MAP is bit 0.
    m = Machine("7.3")
    names = ("HAS_MEM_MAP", "IS_ONLINE", "IS_EARLY", "TAINT_ZONE_DEVICE")
    m.target.enums["section_flags"] = {
        **{f"SECTION_{name}_BIT": i for i, name in enumerate(names)},
        "SECTION_MAP_LAST_BIT": 4,
    }
    m.add_section(3, leaf=None)
    m.sections[3]["section_mem_map"] = VMEMMAP | 0b0111
    section = m.kernel().sections.get(3)
    assert section is not None and section.state == "PMOE"
    assert section.flag_names() == ["HAS_MEM_MAP", "IS_ONLINE", "IS_EARLY"]


def test_sections_that_disagree_have_no_common_base() -> None:
    m = machine()
    m.add_section(5, leaf=None, base=VMEMMAP + (1 << 20))
    kernel = m.kernel()
    assert kernel.sections.vmemmap() is None
    assert kernel.pages.base_va == VMEMMAP  # the window's start


# 2.1: optional members.


@pytest.mark.parametrize(
    ("like", "member"), [("G5a", "order"), ("G5b", "compound_page_order")]
)
def test_the_order_is_read_under_both_names(like: str, member: str) -> None:
    m = Machine(like)
    m.add_section(3, leaf=None)
    m.sections[3][member] = 18
    m.add_section(4, leaf=None)
    sections = m.kernel().sections
    assert sections.order_member == member
    assert [s.order for s in sections] == [18, 0]


def test_a_kernel_without_section_orders_has_none() -> None:
    assert {s.order for s in machine().kernel().sections} == {None}


# Look-ups.


def test_a_pfn_has_the_section_it_lies_in() -> None:
    sections = machine().kernel().sections
    found = sections.of_pfn(84 * 32768 + 32767)
    assert found is not None and found.nr == 84
    assert sections.of_pfn(86 * 32768) is None


def test_sections_between_pfns_are_those_touched() -> None:
    sections = machine().kernel().sections
    found = sections.between(85 * 32768 - 1, 102 * 32768)
    assert [s.nr for s in found] == [84, 85, 101]
    assert list(sections.between(10 * 32768, 11 * 32768)) == []


def test_an_early_section_is_valid_whole_others_by_subsection() -> None:
    # 2.4: the bit of a 2 MiB unit is (pfn mod 32768) >> 9.
    m = Machine("7.3")
    m.add_section(3, "PMOE", leaf=None, subsections=0)
    m.add_section(4, "PM", leaf=None, subsections=0b10)
    kernel = m.kernel()
    valid = kernel.sections.pfn_is_valid
    assert valid(3 * 32768) and valid(4 * 32768 + 512) and valid(4 * 32768 + 1023)
    assert not valid(4 * 32768) and not valid(4 * 32768 + 1024)
    assert not valid(5 * 32768)


def test_a_subsection_map_has_64_bits() -> None:
    m = Machine("7.3")
    m.add_section(4, "PM", leaf=None, subsections=1 << 63 | 1)
    sections = m.kernel().sections
    section = sections.get(4)
    assert section is not None
    assert sections.subsection_map(section) == 1 << 63 | 1
    assert sections.subsections_per_section == 64


def test_a_section_without_usage_is_valid_as_far_as_can_be_told() -> None:
    m = Machine("7.3")
    m.add_section(4, "PM", leaf=None)
    m.sections[4]["usage"] = 0
    assert m.kernel().sections.pfn_is_valid(4 * 32768)


def test_an_unreadable_usage_is_a_fault() -> None:
    m = Machine("7.3")
    m.add_section(4, "PM", leaf=None)
    m.sections[4]["usage"] = 0xFFFF000000000000
    with pytest.raises(Fault):
        m.kernel().sections.pfn_is_valid(4 * 32768)


def test_memory_blocks_hold_their_sections() -> None:
    m = machine()
    m.target.define_int("sections_per_block", 2, 4)
    blocks = xarray(m.target, [(0, 1, BLOCK), (42, 43, BLOCK + 4096)])
    m.target.variables["memory_blocks"] = Variable("memory_blocks", blocks, pointer(0))
    sections = m.kernel().sections
    block = {s.nr: sections.memory_block(s) for s in sections}
    assert (block[0], block[1], block[84], block[85]) == (0, 0, 42, 42)
    assert block[101] is None
    assert sections.memory_block_va(42) == BLOCK + 4096
    assert sections.memory_block_va(1) is None


def test_without_memory_blocks_no_section_has_one() -> None:
    sections = machine().kernel().sections
    assert {sections.memory_block(s) for s in sections} == {None}
    assert sections.memory_block_va(0) is None
