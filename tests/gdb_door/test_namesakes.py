# SPDX-License-Identifier: LGPL-2.1-or-later
"""Names that a module, or the function that the CPU is in, has for something else.

The module is loaded before the vmlinux, and its function is the selected frame: gdb's
own search by name begins with it.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.target.gdb.cores import Modelled, small_machine, without_sources

from .door import LOADER
from .module import MODULE_VA, RIP, build_module, put_registers
from .runner import Answer, Gdb

SOURCE = """
struct zone { char other; };
struct mem_section { char other; };
struct pglist_data { char other; };
typedef struct { char other; } atomic_t;
static volatile char mem_section, node_data;
unsigned long probe(struct mem_section *p)
{
    struct page { char other[3]; } page = { { p->other } };
    enum pageflags { PG_head = 77 } flag = PG_head;
    __asm__ volatile ("" : : "m" (page));
    return page.other[0] + (unsigned long)flag + mem_section + node_data;
}
struct zone *zone(struct zone *zone, atomic_t *count) { return zone + count->other; }
struct pglist_data *node(struct pglist_data *node) { return node + 1; }
"""
VERBS = ("info", "summary", "sections", "zones --all", "hvo --folios", "check --quick")
OWN = ("zone", "mem_section", "pglist_data", "atomic_t")


@pytest.fixture(scope="module")
def modelled(tmp_path_factory: pytest.TempPathFactory) -> Modelled:
    directory = tmp_path_factory.mktemp("namesakes")
    return Modelled(small_machine("four-level").image(), directory)


@pytest.fixture(scope="module")
def module(modelled: Modelled) -> Path:
    return build_module(modelled.directory, SOURCE)


def asked(gdb: Gdb, modelled: Modelled, module: Path, *commands: str) -> list[Answer]:
    """Answers in the function of the module, which gdb knows before the kernel."""
    core = modelled.core("vmcore")
    put_registers(core, {RIP: MODULE_VA})
    before = [
        f"add-symbol-file {module}",
        f"add-symbol-file {modelled.vmlinux}",
        f"core-file {core}",
        f"source {LOADER}",
    ]
    answers = gdb.run(*before, "frame function probe", *commands)
    for answer in answers:
        assert answer.error is None, answer.error
    return answers[len(before) + 1 :]


def test_gdb_itself_takes_the_modules_types(
    any_gdb: Gdb, modelled: Modelled, module: Path
) -> None:
    """Else the tests below would show nothing."""
    lines = [f"output sizeof(struct {name})" for name in OWN[:3]]
    lines.append(f"output sizeof({OWN[3]})")
    lines.append("python print(gdb.lookup_type('struct zone').sizeof)")
    told = asked(any_gdb, modelled, module, "output sizeof(struct page)", *lines)
    assert [answer.text.strip() for answer in told] == ["3", "1", "1", "1", "1", "1"]


def test_the_kernels_types_are_taken(
    gdb: Gdb, modelled: Modelled, module: Path
) -> None:
    commands = [f"vmemmap --format json {verb}" for verb in VERBS]
    _, *told = asked(gdb, modelled, module, "set vmemmap types dwarf", *commands)
    expected = modelled.answers("vmcore")
    for verb, answer in zip(VERBS, told):
        ours = without_sources(json.loads(answer.text))
        if verb in expected:
            assert ours == without_sources(expected[verb]), verb


def test_functions_and_expressions_take_them_too(
    any_gdb: Gdb, modelled: Modelled, module: Path
) -> None:
    offset, image = modelled.image.kaslr_offset, modelled.image
    value = "gdb.parse_and_eval"
    section = "int(ops.pfn_to_section(0x1000)['section_mem_map']) & 2"
    pointed, size, walked, _, has_mem_map, moved = asked(
        any_gdb,
        modelled,
        module,
        f"python print({value}('$lx_pfn_to_page(1)').type.target().sizeof)",
        f"python print({value}('$lx_page(1)').type.sizeof)",
        "vmemmap --format json walk &mem_section",
        "python from vmemmap_tools.gdb_door.mm import page_ops; ops = page_ops().ops",
        f"python print({section})",
        "vmemmap --format json kaslr --apply",
    )
    assert (pointed.text, size.text, has_mem_map.text) == ("64\n", "64\n", "2\n")
    va = image.symbols["mem_section"].address + offset
    pa = va - image.arch.image_map + image.phys_base
    assert json.loads(walked.text)["totals"]["pa"] == pa
    assert json.loads(moved.text)["rows"][0]["offset"] == "0x0"
