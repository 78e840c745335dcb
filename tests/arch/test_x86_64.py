# SPDX-License-Identifier: LGPL-2.1-or-later
"""x86-64: where bases, levels and the encryption bit come from (7.1, 9.1)."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from vmemmap_tools.arch.x86_64 import X86_64


@dataclass
class Facts:
    """What a kernel says of itself."""

    vmcoreinfo: dict[str, str] = field(default_factory=dict)
    symbols: dict[str, int] = field(default_factory=dict)
    variables: dict[str, int] = field(default_factory=dict)

    def symbol(self, name: str) -> int | None:
        return self.symbols.get(name)

    def unsigned(self, name: str) -> int | None:
        return self.variables.get(name)


@pytest.mark.parametrize(
    ("facts", "levels"),
    [
        (Facts({"NUMBER(pgtable_l5_enabled)": "1"}), 5),
        (Facts({"NUMBER(pgtable_l5_enabled)": "0"}), 4),
        (Facts(variables={"__pgtable_l5_enabled": 1}), 5),
        (Facts(variables={"__pgtable_l5_enabled": 0}), 4),
        (Facts(), 4),
    ],
)
def test_levels_come_from_the_note_else_from_the_variable(
    facts: Facts, levels: int
) -> None:
    assert X86_64.levels(facts).value == levels


def test_the_root_is_the_link_address_moved_by_phys_base() -> None:
    facts = Facts(
        {"SYMBOL(init_top_pgt)": "ffffffff82a10000", "NUMBER(phys_base)": "16777216"}
    )
    root = X86_64.root_pa(facts)
    assert root is not None and root.value == 0x3A10000


@pytest.mark.parametrize("text", ["-16777216", "-0x1000000"])
def test_a_negative_phys_base_moves_the_root_down(text: str) -> None:
    # KASLR may place the image below its link address.
    facts = Facts(
        {"SYMBOL(init_top_pgt)": "ffffffff82a10000", "NUMBER(phys_base)": text}
    )
    root = X86_64.root_pa(facts)
    assert root is not None and root.value == 0x1A10000


def test_the_root_is_also_known_as_swapper_pg_dir_or_by_its_symbol() -> None:
    phys_base = {"NUMBER(phys_base)": "0"}
    note = Facts({**phys_base, "SYMBOL(swapper_pg_dir)": "ffffffff82a10000"})
    symbol = Facts(phys_base, symbols={"init_top_pgt": 0xFFFFFFFF82A10000})
    for facts in (note, symbol):
        root = X86_64.root_pa(facts)
        assert root is not None and root.value == 0x2A10000


def test_without_phys_base_or_any_root_the_root_is_unknown() -> None:
    assert X86_64.root_pa(Facts({"SYMBOL(init_top_pgt)": "ffffffff82a10000"})) is None
    assert X86_64.root_pa(Facts({"NUMBER(phys_base)": "0"})) is None


@pytest.mark.parametrize(("levels", "size"), [(4, 1 << 40), (5, 1 << 49)])
def test_the_window_is_a_tebibyte_or_half_a_pebibyte(levels: int, size: int) -> None:
    start = 0xFFFFEA0000000000
    for facts in (
        Facts({"SYMBOL(vmemmap)": f"{start:x}"}),
        Facts(variables={"vmemmap_base": start}),
    ):
        window = X86_64.vmemmap_window(facts, levels)
        assert window is not None and window.value == (start, start + size)


def test_a_vmemmap_base_that_cannot_be_read_is_unknown() -> None:
    facts = Facts(symbols={"vmemmap_base": 0xFFFFFFFF82000000})
    assert X86_64.vmemmap_window(facts, 4) is None


def test_without_the_variable_the_base_is_the_fixed_one_of_4_levels() -> None:
    window = X86_64.vmemmap_window(Facts(), 4)
    assert window is not None and window.value[0] == 0xFFFFEA0000000000
    assert X86_64.vmemmap_window(Facts(), 5) is None


@pytest.mark.parametrize(
    "facts",
    [
        Facts({"NUMBER(sme_mask)": "140737488355328"}),
        Facts({"NUMBER(sme_mask)": "0x800000000000"}),
        Facts(variables={"sme_me_mask": 1 << 47}),
    ],
)
def test_the_encryption_bit_leaves_the_address_mask(facts: Facts) -> None:
    assert X86_64.table_format(facts).address_mask == 0x000F7FFFFFFFF000


def test_without_encryption_addresses_have_bits_12_to_51() -> None:
    assert X86_64.table_format(Facts()).address_mask == 0x000FFFFFFFFFF000


def test_the_direct_map_is_where_page_offset_base_says() -> None:
    base = X86_64.direct_map_base(
        Facts(variables={"page_offset_base": 0xFFFF888000000000}), 4
    )
    assert base is not None and base.value == 0xFFFF888000000000
    assert X86_64.direct_map_base(Facts(), 4) is None


def test_sections_and_physical_bits_are_those_of_the_architecture() -> None:
    # 2.4: 27 bits; 46 physical bits, 52 with five levels.
    assert X86_64.section_size_bits == 27
    assert X86_64.max_physmem_bits == {4: 46, 5: 52}
    assert X86_64.huge_page_order == 9
