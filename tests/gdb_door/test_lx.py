# SPDX-License-Identifier: LGPL-2.1-or-later
"""``lx-*``, ``$lx_*`` and ``page_ops`` against the model's books, in every gdb."""

from __future__ import annotations

import re

import pytest

from .door import Small
from .runner import Gdb

HIGH = 22 << 30 >> 12
"""A pfn of the second range; the section table has it in its second root."""
KERNEL_MAP = 0xFFFFFFFF80000000
PFNS = (0, 1, 0x1FFFF, HIGH, HIGH + 0xFFFF)


def expected_lines(small: Small) -> dict[str, str]:
    """{command: the line that it prints}"""
    direct = small.facts["page_offset"]
    lines = {}
    for pfn in PFNS:
        page, kaddr = small.page_va(pfn), direct + (pfn << 12)
        lines[f"lx-pfn_to_page {pfn}"] = f"pfn_to_page({pfn:#x}) = {page:#x}\n"
        lines[f"lx-pfn_to_page {pfn:#x}"] = f"pfn_to_page({pfn:#x}) = {page:#x}\n"
        lines[f"lx-page_to_pfn {page:x}"] = f"page_to_pfn({page:#x}) = {pfn:#x}\n"
        lines[f"lx-page_to_phys {page:#x}"] = (
            f"page_to_phys({page:#x}) = {pfn << 12:#x}\n"
        )
        lines[f"lx-page_address {page:X}"] = f"page_address({page:#x}) = {kaddr:#x}\n"
        lines[f"lx-pfn_to_kaddr {pfn}"] = f"pfn_to_kaddr({pfn}) = {kaddr:#x}\n"
        va = kaddr + 0x123
        lines[f"lx-virt_to_phys {va:x}"] = (
            f"virt_to_phys({va:#x}) = {(pfn << 12) + 0x123:#x}\n"
        )
        lines[f"lx-virt_to_page {va:x}"] = f"virt_to_page({va:#x}) = {page:#x}\n"
    banner = small.symbols["linux_banner"]
    pa = banner - KERNEL_MAP + small.phys_base
    for word in ("linux_banner", "&linux_banner", f"{banner:x}", f"{banner:#x}"):
        lines[f"lx-sym_to_pfn {word}"] = f"sym_to_pfn({banner:#x}) = {pa >> 12}\n"
    lines["lx-virt_to_phys linux_banner"] = f"virt_to_phys({banner:#x}) = {pa:#x}\n"
    lines["lx-virt_to_phys &linux_banner[3]"] = (
        f"virt_to_phys({banner + 3:#x}) = {pa + 3:#x}\n"
    )
    last = small.page_va(max(PFNS))
    lines["lx-pfn_to_page max_pfn - 1"] = f"pfn_to_page({max(PFNS):#x}) = {last:#x}\n"
    return lines


def test_the_lines_are_those_that_scripts_know(gdb: Gdb, small: Small) -> None:
    lines = expected_lines(small)
    assert dict(zip(lines, small.told(gdb, *lines))) == lines


def test_an_address_that_no_arithmetic_reaches_is_walked(
    any_gdb: Gdb, small: Small
) -> None:
    """The vmemmap: the model's books say which frame is behind each of its pages."""
    run = next(r for r in small.books["backing"] if "period" not in r)
    va = small.facts["vmemmap"] + (run["page"] << 12) + 0x40
    pa = (run["frame_pfn"] << 12) + 0x40
    (told,) = small.told(any_gdb, f"lx-virt_to_phys {va:x}")
    assert told == f"virt_to_phys({va:#x}) = {pa:#x}\n"


REFUSED = {
    "lx-pfn_to_page": "needs a pfn",
    "lx-page_to_pfn": "needs a struct page's address",
    "lx-virt_to_phys": "needs an address",
    "lx-pfn_to_page 99999999999": "has no struct page: there is no section",
    f"lx-pfn_to_page {1 << 64}": "does not fit into 64 bits",
    "lx-pfn_to_page 0x20000": "there is no section 4",
    "lx-page_to_pfn 1234": "is no struct page: the vmemmap is 0xff",
    "lx-virt_to_phys 401000": "is a user's address",
    "lx-virt_to_phys ffffffffff5ff000": "the kernel's page tables do not map it",
    "lx-virt_to_phys no_such_symbol": "no symbol 'no_such_symbol'",
    "lx-virt_to_phys 1 +": "A syntax error in expression",
    "lx-page_to_pfn $nothing": "has no value here",
    "lx-virt_to_phys 1.5": "is no address and no number",
}


def test_what_has_no_answer_is_refused_in_one_line(gdb: Gdb, small: Small) -> None:
    page = small.page_va(5)
    inside = f"8 bytes inside the struct page at {page:#x}"
    refused = {**REFUSED, f"lx-page_to_pfn {page + 8:x}": inside}
    for (command, reason), answer in zip(refused.items(), small.ask(gdb, *refused)):
        name = command.split()[0]
        assert answer.error is not None, command
        assert answer.error.startswith(f"{name}: "), answer.error
        assert reason in answer.error
        assert "\n" not in answer.error


def test_functions_return_typed_values(gdb: Gdb, small: Small) -> None:
    pfn, page = HIGH, small.page_va(HIGH)
    direct = small.facts["page_offset"] + (pfn << 12)
    banner = small.symbols["linux_banner"] - KERNEL_MAP + small.phys_base
    told = small.told(
        gdb,
        f"output $lx_pfn_to_page({pfn})",
        f"output/x $lx_page_to_pfn($lx_pfn_to_page({pfn}))",
        f"output/x (unsigned long)$lx_page_address({page:#x})",
        f"output/x $lx_page_to_phys({page:#x})",
        f"output/x $lx_virt_to_phys({direct:#x})",
        f"output $lx_virt_to_page({direct:#x})",
        f"output (void *)$lx_pfn_to_kaddr({pfn})",
        'output/x $lx_sym_to_pfn("linux_banner")',
        f"output $lx_page({pfn})._refcount.counter",
    )
    assert told[0] == f"(struct page *) {page:#x}"
    assert told[1:] == [
        f"{pfn:#x}",
        f"{direct:#x}",
        f"{pfn << 12:#x}",
        f"{pfn << 12:#x}",
        f"(struct page *) {page:#x}",
        f"(void *) {direct:#x}",
        f"{banner >> 12:#x}",
        told[-1],
    ]
    assert re.fullmatch(r"-?\d+", told[-1])


def test_a_function_refuses_what_gdb_has_at_its_link_address(
    any_gdb: Gdb, small: Small
) -> None:
    """gdb makes the value before we see it."""
    pa = small.symbols["vmemmap_base"] - KERNEL_MAP + small.phys_base
    refused, nothing, two, applied, moved = small.ask(
        any_gdb,
        "output/x $lx_virt_to_phys(&vmemmap_base)",
        'output $lx_sym_to_pfn("no_such_symbol")',
        "output $lx_page(1, 2)",
        "vmemmap kaslr --apply",
        "output/x $lx_virt_to_phys(&vmemmap_base)",
    )
    assert "vmemmap kaslr --apply moves gdb's symbols" in str(refused.error)
    assert "no symbol 'no_such_symbol'" in str(nothing.error)
    assert "takes one argument" in str(two.error)
    assert applied.error is None and "0x0" in applied.text
    assert (moved.text, moved.error) == (f"{pa:#x}", None)


PAGE_OPS = (
    "python from vmemmap_tools.gdb_door import mm; ops = mm.page_ops().ops; "
    "words = gdb.Value((1 | 1 << 63 | 1 << 66).to_bytes(16, 'little'), "
    "gdb.lookup_type('unsigned long').array(1))"
)


def page_ops_expressions(small: Small) -> dict[str, str]:
    """{name: Python expression} of what scripts ask a page_ops."""
    pointer = "gdb.lookup_type('struct page').pointer()"
    page = f"gdb.Value({small.page_va(HIGH)}).cast({pointer})"
    section = f"ops.pfn_to_section({HIGH})"
    direct = small.facts["page_offset"] + (HIGH << 12)
    longs = "gdb.lookup_type('unsigned long').pointer()"
    banner = f"gdb.Value({small.symbols['linux_banner']}).cast({longs})"
    folio = "gdb.lookup_type('struct folio').pointer()"
    area = "addr >= ops.VMALLOC_START and addr < ops.VMALLOC_END"
    areas = [small.facts[name] for name in ("vmalloc_start", "vmemmap", "page_offset")]
    return {
        "pfn_to_page": f"int(ops.pfn_to_page({HIGH}))",
        "type": f"ops.pfn_to_page({HIGH}).type",
        "page_to_pfn": f"ops.page_to_pfn({page})",
        "page_to_phys": f"ops.page_to_phys({page})",
        "page_address": f"ops.page_address({page})",
        "page_to_virt": f"ops.page_to_virt({page})",
        "folio_address": f"ops.folio_address({{'page': {page}.dereference()}})",
        "virt_to_phys": f"ops.virt_to_phys({direct})",
        "virt_to_pfn": f"ops.virt_to_pfn({direct})",
        "virt_to_page": f"int(ops.virt_to_page({direct}))",
        "sym_to_pfn": f"ops.sym_to_pfn({small.symbols['linux_banner']})",
        "pfn_to_kaddr": f"ops.pfn_to_kaddr({HIGH})",
        "pfn_valid": f"[ops.pfn_valid(n) for n in (0, 0x20000, {HIGH}, 1 << 40)]",
        "section": f"int({section}['section_mem_map']) & 2",
        "no section": "ops.pfn_to_section(0x20000)",
        "valid": f"ops.valid_section({section}), ops.valid_section(None)",
        "early": f"ops.early_section({section}), ops.early_section(None)",
        "subsection": f"[ops.pfn_section_valid(n) for n in ({HIGH + 32767}, 0x20000)]",
        "index": f"ops.subsection_map_index({HIGH} + 32767)",
        "numbers": f"ops.pfn_to_section_nr({HIGH}), ops.section_nr_to_pfn(176)",
        "root": "ops.SECTION_NR_TO_ROOT(176), ops.SECTIONS_PER_ROOT",
        "phys": "ops.PFN_PHYS(5), ops.PHYS_PFN(0x5123)",
        "order": "ops.MAX_ORDER, ops.MAX_ORDER_NR_PAGES",
        "bits": "ops.MAX_PHYSMEM_BITS, ops.SECTION_SIZE_BITS",
        "flags": "ops.SECTION_HAS_MEM_MAP",
        "vmalloc": f"[ops.is_vmalloc_addr(va) for va in {areas}]",
        # As slab.py, vmalloc.py and page_owner.py write it.
        "slab_address": f"ops.folio_address({page}.cast({folio}))",
        "get_freepointer": f"int(ops.kasan_reset_tag({page}) + 8) - int({page})",
        "get_freepointer type": f"ops.kasan_reset_tag({page}).type",
        "slabtrace nodes": "ops.MAX_NUMNODES > 1, ops.MAX_NUMNODES, ops.NODE_SHIFT",
        "is_vmalloc_addr": f"[{area} for addr in map(ops.kasan_reset_tag, {areas})]",
        "vmalloc size": "ops.VMALLOC_END - ops.VMALLOC_START >> 40",
        "page_owner page": f"ops.page_to_pfn(gdb.Value({page}).cast({pointer}))",
        "lookup_page_ext": f"{section}['usage'] == gdb.Value(0)",
        "page_owner step": f"{HIGH} & (ops.MAX_ORDER_NR_PAGES - 1)",
        "test_bit": "[mm.test_bit(n, words) for n in (0, 1, 63, 64, 66)]",
        "test_bit pointer": f"[mm.test_bit(n, {banner}) for n in (0, 2, 64, 65)]",
        "rounded up": "mm.DIV_ROUND_UP(7, 2), mm.DIV_ROUND_UP(8, 2)",
        "kernel": f"ops.KERNEL_START <= {small.symbols['_stext']} < ops.KERNEL_END",
        "vmemmap": "ops.VMEMMAP_END - ops.VMEMMAP_START == ops.VMEMMAP_SIZE",
        "page shift": "1 << ops.STRUCT_PAGE_MAX_SHIFT",
        "no mask": "getattr(ops, 'SECTION_ROOT_MASK', 'none')",
    }


@pytest.fixture(scope="module")
def ops_say(any_gdb: Gdb, small: Small) -> dict[str, str]:
    """What they print."""
    expressions = page_ops_expressions(small)
    told = small.told(
        any_gdb,
        PAGE_OPS,
        *(f"python print({expression})" for expression in expressions.values()),
    )
    return dict(zip(expressions, (text.strip() for text in told[1:])))


def test_a_scripts_page_ops_has_the_names_and_the_answers(
    ops_say: dict[str, str], small: Small
) -> None:
    page, direct = small.page_va(HIGH), small.facts["page_offset"] + (HIGH << 12)
    banner = small.symbols["linux_banner"] - KERNEL_MAP + small.phys_base
    assert ops_say == {
        "pfn_to_page": f"{page}",
        "type": "struct page *",
        "page_to_pfn": f"{HIGH}",
        "page_to_phys": f"{HIGH << 12}",
        "page_address": f"{direct}",
        "page_to_virt": f"{direct}",
        "folio_address": f"{direct}",
        "virt_to_phys": f"{HIGH << 12}",
        "virt_to_pfn": f"{HIGH}",
        "virt_to_page": f"{page}",
        "sym_to_pfn": f"{banner >> 12}",
        "pfn_to_kaddr": f"{direct}",
        "pfn_valid": "[True, False, True, False]",
        "section": "2",
        "no section": "None",
        "valid": "True False",
        "early": "True False",
        "subsection": "[True, False]",
        "index": "63",
        "numbers": "176 5767168",
        "root": "1 170",
        "phys": "20480 5",
        "order": "10 1024",
        "bits": "46 27",
        "flags": "2",
        "vmalloc": "[True, False, False]",
        "slab_address": f"{direct}",
        "get_freepointer": f"{8 * 64}",
        "get_freepointer type": "struct page *",
        "slabtrace nodes": "True 1024 10",
        "is_vmalloc_addr": "[True, False, False]",
        "vmalloc size": "32",
        "page_owner page": f"{HIGH}",
        "lookup_page_ext": "False",
        "page_owner step": "0",
        "test_bit": "[True, False, True, False, True]",
        "test_bit pointer": "[False, True, False, True]",  # "Linux version"
        "rounded up": "4 4",
        "kernel": "True",
        "vmemmap": "True",
        "page shift": "64",
        "no mask": "none",
    }
