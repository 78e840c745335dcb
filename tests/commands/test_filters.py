# SPDX-License-Identifier: LGPL-2.1-or-later
"""Options choose what their help says they choose."""

from __future__ import annotations

from typing import Any

import click
import pytest

from tests.analysis.machines import busy, dax
from tests.fakes.devices import share_compounds
from tests.fakes.machine import NORMAL, Machine
from tests.fakes.pools import add_folio, add_pool
from vmemmap_tools.kernel.kernel import Kernel

from .asking import ask, text

VMEMMAP = 0xFFFFEA0000000000


@pytest.fixture(scope="module")
def kernel() -> Kernel:
    """`busy`, and a pool of order 18 with a page on node 1."""
    m = busy()
    m.add_sections(range(8, 16))
    m.set_zone(1, NORMAL, 8 * 0x8000, 8 * 0x8000)
    add_pool(m, 18, [0, 1])
    add_folio(m, 8 * 0x8000, 18, node=1)
    return m.kernel()


def column(kernel: Kernel, name: str, *words: str) -> list[Any]:
    return [row[name] for row in ask(kernel, *words)["rows"]]


# summary


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ([], [("dax", 9), ("hugetlb", 9), ("hugetlb", 18)]),
        (["--kind", "dax"], [("dax", 9)]),
        (["--kind", "hugetlb", "--order", "9"], [("hugetlb", 9)]),
        (["--node", "1"], [("hugetlb", 18)]),
        (["--zone", "device"], [("dax", 9)]),
        (["--order", "3"], []),
    ],
)
def test_summary_by_node_zone_order_and_kind(
    kernel: Kernel, words: list[str], found: list[tuple[str, int]]
) -> None:
    answer = ask(kernel, "summary", *words)
    assert [(r["kind"], r["order"]) for r in answer["rows"]] == found
    chosen = answer["totals"].pop("chosen")
    for name in ("count", "optimised", "saved_bytes", "savable_bytes"):
        assert chosen[name] == sum(row[name] for row in answer["rows"])
    whole = ask(kernel, "summary")["totals"]
    assert whole.pop("chosen") and answer["totals"] == whole
    of_the_whole = "totals are of the whole kernel" in text(kernel, "summary", *words)
    assert of_the_whole == bool(words)


# sections


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ([], [0, 1, *range(8, 16), 32, 33]),
        (["1"], [1]),
        (["0-2", "33"], [0, 1, 33]),
        (["0+2"], [0, 1]),
        (["--state", "E"], [0, 1, *range(8, 16)]),
        (["--state", "pm", "32"], [32]),
        (["--node", "1"], list(range(8, 16))),
        (["--zone", "NORMAL", "--node", "0"], [0, 1]),
        (["--pfn", "0x100000-0x100001"], [32]),
        (["--pfn", "0x8000+1"], [1]),
        (["--optimised"], [1, 32, 33]),
        (["--not-optimized", "0-9"], [0, 8]),
        (["--order", "9"], []),
        (["1", "0-2", "1"], [1, 0]),
    ],
)
def test_sections_by_number_state_place_pfn_and_sharing(
    kernel: Kernel, words: list[str], found: list[int]
) -> None:
    answer = ask(kernel, "sections", *words)
    assert [r["nr"] for r in answer["rows"]] == found
    assert answer["totals"] == {"sections": len(found)}


def test_sections_by_their_own_order() -> None:
    m = dax("G5b", form=None)
    m.sections[33]["compound_page_order"] = 9
    assert column(m.kernel(), "nr", "sections", "--order", "9") == [33]
    assert column(m.kernel(), "nr", "sections", "--order", "0") == [32]


# zones


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ([], [(0, "Normal"), (0, "Device"), (1, "Normal")]),
        (["--zone", "Normal"], [(0, "Normal"), (1, "Normal")]),
        (["--node", "1"], [(1, "Normal")]),
        (["--zone", "Device"], [(0, "Device")]),
        (["--zone", "DMA"], []),
        (["--zone", "DMA", "--all"], [(0, "DMA"), (1, "DMA")]),
    ],
)
def test_zones_by_node_and_name_and_empty_ones_on_request(
    kernel: Kernel, words: list[str], found: list[tuple[int, str]]
) -> None:
    rows = ask(kernel, "zones", *words)["rows"]
    assert [(r["node"], r["zone"]) for r in rows] == found
    # The one shared tail page is that of zone Normal on node 0.
    tails = ask(kernel, "zones", *words)["totals"]["shared_tail_pages"]
    assert tails == ((0, "Normal") in found)


# hvo


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ([], [(9, 0), (9, 1), (18, 0), (18, 1)]),
        (["--node", "1"], [(9, 1), (18, 1)]),
        (["--order", "18"], [(18, 0), (18, 1)]),
    ],
)
def test_pools_by_node_and_order(
    kernel: Kernel, words: list[str], found: list[tuple[int, int]]
) -> None:
    rows = ask(kernel, "hvo", *words)["rows"]
    assert [(r["order"], r["node"]) for r in rows] == found


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ([], [0x8000, 0x8200, 0x8400, 0x40000]),
        (["--optimised"], [0x8000, 0x8200]),
        (["--not-optimised"], [0x8400, 0x40000]),
        (["--order", "18"], [0x40000]),
        (["--node", "0"], [0x8000, 0x8200, 0x8400]),
        (["--zone", "Movable"], []),
        (["--pfn", "0x8200-0x8401"], [0x8200, 0x8400]),
    ],
)
def test_folios_by_place_order_and_sharing(
    kernel: Kernel, words: list[str], found: list[int]
) -> None:
    assert column(kernel, "pfn", "hvo", "--folios", *words) == found


@pytest.mark.parametrize("word", [["--optimised"], ["--zone", "DMA"], ["--pfn", "1"]])
def test_options_on_folios_need_folios(kernel: Kernel, word: list[str]) -> None:
    with pytest.raises(click.UsageError, match="need --folios"):
        ask(kernel, "hvo", *word)


@pytest.mark.parametrize(
    ("words", "folios", "optimised"),
    [
        ([], 4, 2),
        (["--folios"], 4, 2),
        (["--node", "0"], 3, 2),
        (["--node", "1"], 1, 0),
        (["--order", "18"], 1, 0),
        (["--folios", "--pfn", "0x8200-0x8401"], 2, 1),
        (["--folios", "--optimised", "--zone", "Normal"], 2, 2),
        (["--node", "9"], 0, 0),
    ],
)
def test_the_totals_of_hvo_are_of_its_rows_but_for_the_policy(
    kernel: Kernel, words: list[str], folios: int, optimised: int
) -> None:
    totals = ask(kernel, "hvo", *words)["totals"]
    assert totals == {
        "folios": folios,
        "optimised": optimised,
        "saved_bytes": optimised * 28672,
        "policy": True,
    }


# dax


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ([], [0x100000]),
        (["--node", "0"], [0x100000]),
        (["--node", "1"], []),
        (["--order", "9"], [0x100000]),
        (["--order", "18"], []),
        (["--pfn", "0x10ffff-0x200000"], [0x100000]),
        (["--pfn", "0x110000-0x200000"], []),
        (["--optimised"], [0x100000]),
        (["--not-optimised"], []),
    ],
)
def test_dax_by_node_order_pfn_and_sharing(
    kernel: Kernel, words: list[str], found: list[int]
) -> None:
    assert column(kernel, "start_pfn", "dax", *words) == found
    totals = ask(kernel, "dax", *words)["totals"]
    # 128 compounds of 2 MiB, each with 6 of its 8 vmemmap pages given back.
    saved = len(found) * 128 * 6 * 4096
    assert totals == {
        "ranges": len(found),
        "saved_bytes": saved,
        "expected_saved_bytes": saved,
    }


def test_half_shared_device_memory_is_among_the_optimised() -> None:
    m = dax(form=None)
    share_compounds(m, 0x100000, 0x108000, 9)
    assert column(m.kernel(), "optimised_compounds", "dax", "--optimised") == [64]


# map


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["--pfn", "0x8000-0x8200"], ["private", "zone-shared"]),
        (["--section", "0"], ["huge"]),
        (["0xffffea0000000000-0xffffea0000001000"], ["huge"]),
        (["0xffffea0000000000+4K"], ["huge"]),
        (["0xffffea0000200000+32K"], ["private", "zone-shared"]),
        (["--pfn", "0x8000-0x8200", "--optimised"], ["zone-shared"]),
        (["--pfn", "0x8000-0x8200", "--not-optimised"], ["private"]),
        (["--section", "0-2", "--backing", "huge"], ["huge"]),
        (["--section", "2", "--backing", "hole"], ["hole"]),
        (["--section", "2", "--backing", "huge", "--backing", "private"], []),
    ],
)
def test_map_by_range_pfn_section_and_backing(
    kernel: Kernel, words: list[str], found: list[str]
) -> None:
    assert column(kernel, "backing", "map", *words) == found


def test_map_takes_one_way_to_say_where(kernel: Kernel) -> None:
    with pytest.raises(click.UsageError, match="only one of"):
        ask(kernel, "map", "--pfn", "1", "--section", "1")


@pytest.mark.parametrize("where", ["0x1000-0x2000", "0xfffff00000000000+4K"])
def test_map_outside_the_vmemmap_is_wrong_use(kernel: Kernel, where: str) -> None:
    with pytest.raises(click.UsageError, match="not within the vmemmap"):
        ask(kernel, "map", where)


def test_map_shows_single_leaves(kernel: Kernel) -> None:
    rows = ask(kernel, "map", "--leaves", "--pfn", "0x8000-0x8080")["rows"]
    assert [row["va"] for row in rows] == ["0xffffea0000200000", "0xffffea0000201000"]
    assert [row["readonly"] for row in rows] == [False, True]
    assert rows[0]["size"] == 4096
    (huge,) = ask(kernel, "map", "--leaves", "--section", "0")["rows"]
    assert huge["size"] == 2097152


# page and walk


def test_page_takes_many_targets_and_wants_one(kernel: Kernel) -> None:
    rows = ask(kernel, "page", "pfn:0x8000", "phys:0x8001000", "va:0x1000")["rows"]
    assert [row.get("pfn") for row in rows] == [0x8000, 0x8001, None]
    with pytest.raises(click.UsageError, match="at least one TARGET"):
        ask(kernel, "page")


def test_page_and_walk_know_symbols(kernel: Kernel) -> None:
    (row,) = ask(kernel, "page", "node_data")["rows"]
    assert row["target"] == "node_data"
    with pytest.raises(click.UsageError, match="no symbol 'no_such_name'"):
        ask(kernel, "walk", "no_such_name")


def test_walk_ends_in_a_leaf_or_a_hole(kernel: Kernel) -> None:
    answer = ask(kernel, "walk", f"{VMEMMAP + 0x201008:#x}")
    assert [row["name"] for row in answer["rows"]] == ["PGD", "PUD", "PMD", "PTE"]
    (frame,) = kernel.tail_frames
    assert answer["rows"][-1]["flags"] == ["PRESENT"]
    assert answer["totals"] == {
        "pa": frame * 4096 + 8,
        "frame_pfn": frame,
        "page_size": 4096,
        "readonly": True,
    }
    hole = ask(kernel, "walk", "0xffffeaffffffffff")
    assert hole["rows"][-1]["leaf"] is False and hole["rows"][-1]["entry"] == "0x0"
    assert hole["totals"]["pa"] is None


@pytest.mark.parametrize(
    "words",
    [
        ["sections", "999"],
        ["sections", "--node", "9"],
        ["zones", "--node", "9"],
        ["hvo", "--order", "1"],
        ["hvo", "--folios", "--pfn", "1"],
        ["dax", "--node", "9"],
        ["map", "--section", "2", "--backing", "huge"],
        ["summary", "--order", "1"],
    ],
)
def test_what_matches_nothing_is_said_in_the_table(
    kernel: Kernel, words: list[str]
) -> None:
    assert text(kernel, *words).splitlines()[0] == "nothing matches"
    assert ask(kernel, *words)["rows"] == []


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["sections"], "no section is present"),
        (["hvo"], "no hugetlb pool"),
        (["hvo", "--folios"], "no hugetlb folio"),
        (["dax"], "no device memory with struct pages"),
        (["map"], "no vmemmap is mapped"),
        (["summary"], "no hugetlb folios and no device DAX compounds"),
    ],
)
def test_what_is_not_there_is_said_without_options(words: list[str], line: str) -> None:
    assert text(Machine("7.3").kernel(), *words).splitlines()[0] == line


@pytest.mark.parametrize("state", ["Q", "PX", ""])
def test_a_letter_that_is_no_state_is_wrong_use(kernel: Kernel, state: str) -> None:
    with pytest.raises(click.BadParameter, match="letters are P, M, O, E, D, V"):
        ask(kernel, "sections", "--state", state)
