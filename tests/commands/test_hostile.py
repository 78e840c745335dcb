# SPDX-License-Identifier: LGPL-2.1-or-later
"""Memory that lies: every verb ends soon, with an answer or a refusal in one line.

Each case starts from a machine with everything and damages one thing.
"""

from __future__ import annotations

import json
import random
import time
from dataclasses import replace
from typing import Any, Callable

import pytest

from tests.analysis.machines import busy
from tests.fakes.devices import xarray
from tests.fakes.layouts import pointer
from tests.fakes.machine import NORMAL, Machine
from tests.fakes.memory import PAGE
from tests.fakes.tables import PS, RW, P
from vmemmap_tools.cli import main
from vmemmap_tools.cli import open as opening

SECONDS = 10.0
VERBS = (
    ["summary"],
    ["info"],
    ["sections"],
    ["zones"],
    ["page", "pfn:0x8005", "0xffffea0000201900", "phys:0x100000000", "pfn:0x100000"],
    ["walk", "0xffffea0000201900"],
    ["map"],
    ["map", "--leaves"],
    ["hvo"],
    ["hvo", "--folios"],
    ["dax"],
)
Damage = Callable[[Machine], None]
DAMAGES: dict[str, Damage] = {}


def damage(function: Damage) -> Damage:
    DAMAGES[function.__name__] = function
    return function


def table_pa(m: Machine, level: int, page: int = 0) -> int:
    """The table of this level that maps a vmemmap page."""
    return m.tables.entry_pa(m.vmemmap + page * PAGE, level) & ~(PAGE - 1)


def fill(m: Machine, pa: int, *words: int) -> None:
    """Write a page of these words, over and over."""
    data = b"".join(w.to_bytes(8, "little") for w in words)
    m.memory.write(pa, data * (PAGE // len(data)))


@damage
def a_root_table_of_itself(m: Machine) -> None:
    fill(m, m.tables.root_pa, m.tables.root_pa | P | RW)


@damage
def tables_that_lead_back_up(m: Machine) -> None:
    for level in (1, 2, 3):
        fill(m, table_pa(m, level, 512), m.tables.root_pa | P | RW)


@damage
def one_table_behind_a_whole_level(m: Machine) -> None:
    fill(m, table_pa(m, 3), table_pa(m, 2) | P | RW)
    fill(m, table_pa(m, 2), table_pa(m, 1, 512) | P | RW)


@damage
def leaves_of_a_gibibyte_everywhere(m: Machine) -> None:
    fill(m, table_pa(m, 3), P | RW | PS)


@damage
def huge_leaves_that_overlap(m: Machine) -> None:
    fill(m, table_pa(m, 2), P | PS | 1 << 21, P | RW | PS | 1 << 51)


@damage
def random_entries_at_every_level(m: Machine) -> None:
    draw = random.Random(1)
    for level in (1, 2, 3):
        fill(m, table_pa(m, level, 512), *(draw.getrandbits(64) for _ in range(512)))


@damage
def entries_beyond_all_memory(m: Machine) -> None:
    fill(m, table_pa(m, 1, 512), 0x000FFFFFFFFFF000 | P)


@damage
def memory_blocks_of_more_sections_than_there_are(m: Machine) -> None:
    blocks = [(nr, nr + 1, 0xFFFF888000000000 + 64 * nr) for nr in range(512)]
    m.target.define_int("sections_per_block", 1 << 31)
    array, variables = xarray(m.target, blocks), m.target.variables
    m.target.define("memory_blocks", pointer(0))
    variables["memory_blocks"] = replace(variables["memory_blocks"], address=array)


@damage
def random_section_words(m: Machine) -> None:
    draw = random.Random(2)
    for nr in range(200):
        m.add_section(nr, leaf=None)
        m.sections[nr] = {
            "section_mem_map": draw.getrandbits(64),
            "usage": draw.getrandbits(64),
        }
    m.write_sections()


@damage
def one_section_with_a_random_map(m: Machine) -> None:
    m.sections = {1: m.sections[1]}
    m.sections[1]["section_mem_map"] = 0x0123456789ABCD0F
    m.write_sections()


@damage
def a_section_map_near_the_end_of_addresses(m: Machine) -> None:
    for values in m.sections.values():
        values["section_mem_map"] = 0xFFFFFFFFFFFFFFCF
    m.write_sections()


def roots(m: Machine) -> int:
    del m.target.variables["__highest_present_section_nr"]
    return int(m.target.vmcoreinfo["SYMBOL(mem_section)"], 16)


@damage
def one_root_behind_all(m: Machine) -> None:
    at = roots(m)
    root = m.target.read(at, 8)
    m.target.write(at, root * 2048)
    va = int.from_bytes(root, "little")
    m.target.write(va, m.target.read(va, 16) * 256)


@damage
def roots_that_overlap(m: Machine) -> None:
    at = roots(m)
    va = int.from_bytes(m.target.read(at, 8), "little")
    m.target.write(va, m.target.read(va, 16) * 256)
    words = (va + 16 * (i % 250) for i in range(2048))
    m.target.write(at, b"".join(w.to_bytes(8, "little") for w in words))


@damage
def random_struct_pages(m: Machine) -> None:
    draw = random.Random(3)
    for page in range(512, 530):
        m.memory.write(m.frame(page) * PAGE, draw.randbytes(PAGE))


@damage
def compound_words_that_lead_anywhere(m: Machine) -> None:
    for pfn in range(0x8001, 0x8040):
        m.set_page(pfn, compound_info=(pfn * 0x9E3779B97F4A7C15 | 1) & (1 << 64) - 1)


@damage
def folios_of_order_200(m: Machine) -> None:
    m.target.record("hstate", m.pools[0], order=200)
    for pfn in (0, 0x8000, 0x8200):
        m.write_page(pfn + 1, 0, b"\xc8")


@damage
def a_pool_of_order_zero(m: Machine) -> None:
    m.target.record("hstate", m.pools[0], order=0)


@damage
def pools_without_number(m: Machine) -> None:
    m.target.define_int("hugetlb_max_hstate", 0xFFFFFFFF, 4)
    m.target.record("hstate", m.pools[0], order=0xFFFFFFFF, nr_huge_pages=(1 << 64) - 1)


@damage
def tails_that_are_no_pages(m: Machine) -> None:
    for order in range(7, 23):
        m.set_tail(0, NORMAL, order, (1 << 64) - order)


@damage
def garbage_in_node_data(m: Machine) -> None:
    draw = random.Random(4)
    m.target.write(m.target.variables["node_data"].address, draw.randbytes(8192))


@damage
def a_thousand_nodes_that_are_one(m: Machine) -> None:
    data = m.pgdats[0].to_bytes(8, "little") * 1024
    m.target.write(m.target.variables["node_data"].address, data)
    m.target.write(m.target.variables["node_states"].address, b"\xff" * 256)


@damage
def garbage_zones(m: Machine) -> None:
    draw = random.Random(5)
    m.target.write(m.pgdats[0], draw.randbytes(5 * 256))


def pgmap_va(m: Machine) -> int:
    return m.pgmaps[0][2]


@damage
def two_billion_ranges(m: Machine) -> None:
    m.target.record("dev_pagemap", pgmap_va(m), nr_range=1 << 31)


@damage
def a_shift_of_63(m: Machine) -> None:
    m.target.record("dev_pagemap", pgmap_va(m), vmemmap_shift=63)


@damage
def a_shift_of_39_over_everything(m: Machine) -> None:
    m.target.record("dev_pagemap", pgmap_va(m), vmemmap_shift=39)
    m.target.record("range", pgmap_va(m) + 72, start=0, end=(1 << 46) - 1)


@damage
def a_shift_beyond_all_shifts(m: Machine) -> None:
    m.target.record("dev_pagemap", pgmap_va(m), vmemmap_shift=(1 << 64) - 1)


@damage
def an_altmap_of_all_addresses(m: Machine) -> None:
    m.target.record("dev_pagemap", pgmap_va(m), flags=1, altmap__free=(1 << 64) - 1)


@damage
def a_range_that_begins_inside_a_page(m: Machine) -> None:
    start = 0x100000 + 33 << 12
    m.target.record("range", pgmap_va(m) + 72, start=start, end=start + (1 << 24) - 1)


@damage
def an_xarray_in_circles(m: Machine) -> None:
    array = m.target.variables["pgmap_array"].address
    node = m.target.record("xa_node", m.target.allocate(576, 64), shift=60)
    m.target.write(node + 64, (node | 2).to_bytes(8, "little") * 64)
    m.target.record("xarray", array, xa_head=node | 2)


@damage
def nothing_but_zeros(m: Machine) -> None:
    fill(m, m.tables.root_pa, 0)
    m.sections.clear()
    m.write_sections()


@damage
def no_readable_page_table(m: Machine) -> None:
    m.memory.lose(m.tables.root_pa // PAGE)


def run(
    m: Machine, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> tuple[int, float]:
    monkeypatch.setattr(opening, "_open_target", lambda _: m.target)
    start = time.process_time()
    status = main(["--format", "json", *words])
    return status, time.process_time() - start


@pytest.mark.parametrize("name", DAMAGES)
def test_every_verb_ends_with_an_answer_or_a_refusal(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    m = busy()
    m.write_sections()
    DAMAGES[name](m)
    for words in VERBS:
        status, seconds = run(m, words, monkeypatch)
        out, err = capsys.readouterr()
        assert seconds < SECONDS, words
        if status == 0:
            assert err == "", words
            answer: dict[str, Any] = json.loads(out)
            assert isinstance(answer["rows"], list)
        else:
            (line,) = err.splitlines()
            assert status == 2 and "internal error" not in line, (words, line)
