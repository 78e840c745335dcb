# SPDX-License-Identifier: LGPL-2.1-or-later
"""VMCOREINFO as the only description: what it gives, and what it must not invent."""

from __future__ import annotations

from functools import lru_cache
from unittest import mock

import pytest

from tests.model.kernels import guest, small
from vmemmap_tools.cli import main
from vmemmap_tools.kernel.bare import find_mem_map_base, finds_pointers
from vmemmap_tools.kernel.kernel import Kernel
from vmemmap_tools.target.base import TargetError
from vmemmap_tools.target.providers import compose
from vmemmap_tools.target.vmcoreinfo import VmcoreInfo
from vmemmap_tools.target.vmcoreinfo_types import VmcoreinfoSymbols, VmcoreinfoTypes

from .machines import Described, MemoryWithTables, answer

WINDOW = (0xFFFFEA0000000000, 0xFFFFEB0000000000)


@lru_cache(maxsize=1)
def machine() -> Described:
    return Described(guest("6.1"))


def note(**changes: str | None) -> VmcoreInfo:
    """A note of 7.3; ``a__b`` stands for ``A(b)``."""
    keys: dict[str, str | None] = {
        "SIZE(page)": "64",
        "OFFSET(page.flags)": "0",
        "OFFSET(page._refcount)": "52",
        "OFFSET(page._mapcount)": "48",
        "OFFSET(page.private)": "40",
        "OFFSET(page.compound_info)": "8",
        "SIZE(mem_section)": "16",
        "OFFSET(mem_section.section_mem_map)": "0",
        "SYMBOL(mem_section)": "ffff888000001000",
        "SYMBOL(vmemmap)": "ffffea0000000000",
        "NUMBER(PG_head_mask)": "64",
        "NUMBER(PG_lru)": "5",
        "NUMBER(PAGE_HUGETLB_MAPCOUNT_VALUE)": str(0xF4000000 - (1 << 32)),
        "NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)": str(0xF0000000 - (1 << 32)),
    }
    for name, value in changes.items():
        kind, _, what = name.partition("__")
        keys[f"{kind}({what.replace('__', '.')})"] = value
    return VmcoreInfo("".join(f"{k}={v}\n" for k, v in keys.items() if v is not None))


def test_the_flags_and_types_that_are_exported_are_known() -> None:
    types = VmcoreinfoTypes(note())
    assert types.enumerator("PG_head") == 6 and types.enumerator("PG_lru") == 5
    assert types.enumerator("PGTY_hugetlb") == 0xF4
    assert types.enumerators("pagetype") == {"PGTY_buddy": 0xF0, "PGTY_hugetlb": 0xF4}
    assert types.enumerator("PG_reserved") is None
    assert types.enumerators("zone_type") == {}


def test_types_that_were_cleared_bits_are_no_numbers() -> None:
    types = VmcoreinfoTypes(note(NUMBER__PAGE_BUDDY_MAPCOUNT_VALUE="-129"))
    assert types.enumerator("PGTY_buddy") is None


def test_the_order_is_in_the_flags_unless_a_member_is_exported() -> None:
    folio = VmcoreinfoTypes(note()).struct("folio")
    assert folio is not None and folio.offset("_flags_1") == 64
    folio = VmcoreinfoTypes(note(OFFSET__page__compound_order="17")).struct("folio")
    assert folio is not None and not folio.members
    folio = VmcoreinfoTypes(note(OFFSET__folio___folio_order="81")).struct("folio")
    assert folio is not None and list(folio.members) == ["_folio_order"]


def test_structs_that_are_named_in_part_are_not_answered_for() -> None:
    types = VmcoreinfoTypes(note(SIZE__zone="1856"))
    assert types.struct("zone") is None and types.struct("hstate") is None
    assert types.variable("hstates") is None
    found = types.variable("vmemmap_base")
    assert found is not None and found.type.size == 8


def test_values_in_the_place_of_addresses_are_no_symbols() -> None:
    symbols = VmcoreinfoSymbols(note(SYMBOL___stext="ffffffff81000000"))
    assert symbols.symbol("_stext") == 0xFFFFFFFF81000000
    assert symbols.symbol("vmemmap") is None
    assert symbols.symbol("mem_section") is None


def test_a_note_that_says_too_little_is_refused() -> None:
    with pytest.raises(TargetError, match=r"SIZE\(page\), NUMBER\(PG_head_mask\)"):
        VmcoreinfoTypes(note(SIZE__page=None, NUMBER__PG_head_mask=None))


@pytest.mark.parametrize("offset", ["-1", "57", "171552"])
def test_a_member_that_is_not_within_its_struct_is_damage(offset: str) -> None:
    with pytest.raises(TargetError, match=r"OFFSET\(page\.flags\)=.* not within 64"):
        VmcoreinfoTypes(note(OFFSET__page__flags=offset))
    with pytest.raises(TargetError, match=r"not within 128 bytes"):
        VmcoreinfoTypes(note(OFFSET__folio___folio_order="128"))


# Sections and tails


@pytest.mark.parametrize("generation", ["6.1", "7.3"])
def test_sections_tell_the_base_of_a_vmemmap(generation: str) -> None:
    described = Described(small(generation))
    target = compose(described.memory, types="vmcoreinfo")
    found = find_mem_map_base(target, 1 << 21)
    assert found is not None
    assert found.address == described.kernel().pages.base_va


def words(*values: int) -> bytes:
    return b"".join(bytes(8) + v.to_bytes(8, "little") + bytes(48) for v in values)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ((0, 0xFFFFEA0000001001), True),
        ((0, 0xFFFFFFFFFFFF8001), False),
        ((0, 0xFFFFFFFFFFFFFFFF, 0x1001, 2), None),
        ((), None),
    ],
)
def test_tails_tell_how_they_name_their_head(
    values: tuple[int, ...], says: bool | None
) -> None:
    found = finds_pointers(lambda: iter([words(*values)]), 8, 64, WINDOW, "little")
    assert found is says


def masks(kernel: Kernel) -> bool | None:
    (found,) = (f.present for f in kernel.features if f.name == "compound-mask")
    return found


def test_where_no_tail_is_found_it_is_not_known_how_they_name_their_head() -> None:
    kernel = Described(small("7.3")).kernel("vmcoreinfo", has_kallsyms=False)
    assert masks(kernel) is None
    assert kernel.unknown_feature("zone-shared-tails") and kernel.unknown_feature(
        "hugetlb-hvo"
    )


def test_few_tails_tell_wherever_they_are() -> None:
    kernel = Described(small("7.3")).kernel("vmcoreinfo", has_kallsyms=False)
    number = 0x235
    place = kernel.vmemmap.frame(number) << 12
    read, head = kernel.target.read_physical, kernel.pages.va(number << 6)
    tails = words(0, *[head + 1] * 63)

    def with_tails(address: int, size: int) -> bytes:
        start = address - place
        return tails[start : start + size] if 0 <= start < 4096 else read(address, size)

    with mock.patch.object(kernel.target, "read_physical", with_tails):
        assert masks(kernel.fresh()) is False


# The whole


def test_what_is_lost_is_said_and_is_null_and_not_zero() -> None:
    kernel = machine().kernel("vmcoreinfo")
    totals = answer(kernel, "info")["totals"]
    assert totals["losses"] == len(totals["lost"]) > 0
    assert answer(kernel, "zones")["totals"] == {"shared_tail_pages": None}
    assert set(answer(kernel, "dax")["totals"].values()) == {None}
    summary = answer(kernel, "summary")["totals"]
    assert summary["altmap_frames"] is None and summary["net_ram_bytes"] is None
    assert summary["chosen"] is None
    chosen = answer(kernel, "summary", "--kind", "hugetlb")["totals"]["chosen"]
    assert chosen["count"] == answer(kernel, "hvo", "--folios")["totals"]["folios"] > 0
    assert answer(kernel, "hvo")["totals"]["folios"] is None  # pools may have no row
    row = answer(kernel, "hvo")["rows"][0]
    assert (row["total"], row["free"], row["flagged"]) == (None, None, None)
    assert row["found"] > 0 and row["saved_bytes"] > 0


def test_symbols_are_known_without_memory_hotplug() -> None:
    kernel = machine().kernel("vmcoreinfo")
    find = kernel.target.symbol
    with mock.patch.object(
        kernel.target,
        "symbol",
        lambda name: None if name == "sections_per_block" else find(name),
    ):
        totals = answer(kernel, "info")["totals"]
    assert not any(sentence.startswith("no symbols") for sentence in totals["lost"])


def test_with_types_nothing_is_lost() -> None:
    totals = answer(machine().kernel("btf"), "info")["totals"]
    assert totals == {"losses": None, "lost": [], "unknown_parts": {}}


@pytest.mark.parametrize(
    "words",
    [
        "summary --zone Normal",
        "hvo --folios --zone Normal",
        "sections --zone Normal",
        "sections --order 9",
    ],
)
def test_rows_are_not_chosen_by_what_is_lost(
    words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    core = str(machine().path / "vmcore")
    assert main(["-c", core, *words.split()]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{words.split()[-2]} cannot choose: " in line and " unknown: " in line


def test_a_state_without_a_name_chooses_nothing_and_denies_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    core = str(machine().path / "vmcore")
    assert main(["-c", core, "sections", "--state", "D"]) == 0
    assert capsys.readouterr().out.startswith("cannot be determined: ")


def test_check_refuses_rather_than_check_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    core = str(machine().path / "vmcore")
    assert main(["-c", core, "--types", "vmcoreinfo", "check"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "check needs the kernel's types" in line


def test_a_dump_alone_is_answered(capsys: pytest.CaptureFixture[str]) -> None:
    core = str(machine().path / "vmcore")
    assert main(["-c", core, "summary"]) == 0
    assert "Saved in all" in capsys.readouterr().out
    for verb in ("zones", "dax"):
        assert main(["-c", core, verb]) == 0
        assert "VMCOREINFO alone does not" in capsys.readouterr().out


def test_damaged_kallsyms_leaves_what_vmcoreinfo_names() -> None:
    described = Described(small("7.3"))
    for start in described.tables.pieces:
        described.tables.pieces[start] = b"\xff" * 4096
    memory = MemoryWithTables(described.memory, described.tables)
    target = compose(memory)
    assert target.symbol("pgmap_array") is None
    assert target.symbol("init_uts_ns") == described.known.symbol("init_uts_ns")
