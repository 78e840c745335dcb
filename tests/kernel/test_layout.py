# SPDX-License-Identifier: LGPL-2.1-or-later
"""Bases and sizes of a kernel, and the kernels that are refused in one line."""

from __future__ import annotations

import pytest

from tests.fakes.machine import Machine
from vmemmap_tools.kernel.layout import LayoutError, UnsupportedKernel


@pytest.mark.parametrize(
    ("levels", "start", "size", "physical_bits"),
    [(4, 0xFFFFEA0000000000, 1 << 40, 46), (5, 0xFFD4000000000000, 1 << 49, 52)],
)
def test_four_and_five_levels_have_their_windows(
    levels: int, start: int, size: int, physical_bits: int
) -> None:
    # 7.1 and 2.4.
    m = Machine("7.3", levels=levels)
    m.add_section(1)
    kernel = m.kernel()
    g = kernel.geometry
    assert g.levels == levels and g.vmemmap_window == (start, start + size)
    assert (g.section_size_bits, g.max_physmem_bits) == (27, physical_bits)
    assert kernel.vmemmap.base_leaves == 512


def test_sizes_follow_from_the_page_and_the_section() -> None:
    g = Machine("7.3").kernel().geometry
    assert g.page_size == 4096 and g.struct_pages_per_page == 64
    assert g.pages_per_section == 32768 and g.pages_per_subsection == 512
    assert g.section_count == 1 << 19


@pytest.mark.parametrize(("size", "is_power"), [(32, True), (64, True), (80, False)])
def test_struct_pages_of_other_sizes_are_known(size: int, is_power: bool) -> None:
    g = Machine("7.3", page_struct=size).kernel().geometry
    assert g.struct_page_size_is_power_of_two is is_power


def test_sizes_that_the_note_lacks_are_the_architectures() -> None:
    m = Machine("7.3")
    for key in ("PAGESIZE", "NUMBER(SECTION_SIZE_BITS)", "NUMBER(MAX_PHYSMEM_BITS)"):
        m.target.vmcoreinfo.pop(key)
    g = m.reading().geometry
    assert (g.page_size, g.section_size_bits, g.max_physmem_bits) == (4096, 27, 46)


def test_another_architecture_is_named() -> None:
    m = Machine("7.3")
    m.target.arch = "s390x"
    with pytest.raises(UnsupportedKernel, match="architecture s390x is not supported"):
        m.reading()


def test_flatmem_is_named() -> None:
    m = Machine("7.3")
    del m.target.structs["mem_section"]
    with pytest.raises(UnsupportedKernel, match="FLATMEM"):
        m.reading()


def test_sparsemem_without_vmemmap_is_named() -> None:
    # vmemmap_base exists in every x86-64 kernel with a dynamic memory layout.
    m = Machine("7.3")
    del m.target.functions["vmemmap_populate"]
    del m.target.vmcoreinfo["SYMBOL(vmemmap)"]
    m.target.define_int("vmemmap_base", m.vmemmap)
    with pytest.raises(UnsupportedKernel, match="without SPARSEMEM_VMEMMAP"):
        m.reading()


def test_debug_info_without_struct_page_is_another_files() -> None:
    m = Machine("7.3")
    m.target.structs.clear()
    with pytest.raises(LayoutError, match=r"no struct page.*-s"):
        m.reading()


def test_an_unknown_root_or_base_is_said() -> None:
    m = Machine("7.3")
    del m.target.vmcoreinfo["NUMBER(phys_base)"]
    with pytest.raises(LayoutError, match="root is unknown"):
        m.reading()
    m = Machine("7.3")
    del m.target.vmcoreinfo["SYMBOL(vmemmap)"]
    m.target.define_int("vmemmap_base", m.vmemmap)
    assert m.reading().geometry.window_source == "variable vmemmap_base"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("PAGESIZE", "none"),
        ("PAGESIZE", "0"),
        ("PAGESIZE", "5000"),
        ("PAGESIZE", "65536"),
        ("NUMBER(SECTION_SIZE_BITS)", "5"),
        ("NUMBER(SECTION_SIZE_BITS)", "-1"),
        ("NUMBER(SECTION_SIZE_BITS)", "60"),
        ("NUMBER(MAX_PHYSMEM_BITS)", "9999999"),
        ("NUMBER(MAX_PHYSMEM_BITS)", "20"),
        ("NUMBER(phys_base)", "?"),
        ("NUMBER(pgtable_l5_enabled)", "maybe"),
        ("NUMBER(sme_mask)", "0xg"),
        ("SYMBOL(init_top_pgt)", "swapper"),
        ("SYMBOL(mem_section)", "ffff8880zz"),
        ("LENGTH(node_data)", "many"),
        ("KERNELOFFSET", "up"),
        ("SYMBOL(vmemmap)", ""),
        ("SYMBOL(vmemmap)", "ffffea0000000040"),
        ("SYMBOL(vmemmap)", "fffffffffffff000"),
    ],
)
def test_a_damaged_note_is_a_clear_refusal(key: str, value: str) -> None:
    m = Machine("7.3")
    m.target.vmcoreinfo[key] = value
    with pytest.raises(LayoutError, match="VMCOREINFO"):
        m.reading()


def test_a_second_look_reads_again() -> None:
    m = Machine("7.3")
    m.add_section(1)
    kernel = m.kernel()
    assert kernel.vmemmap.base_leaves == 512
    m.unmap(512)
    assert kernel.vmemmap.base_leaves == 512
    assert kernel.fresh().vmemmap.base_leaves == 511


def test_a_kernel_describes_itself() -> None:
    described = Machine("7.3", levels=5).kernel().describe()
    assert described["vmemmap_va"] == "0xffd4000000000000"
    assert (described["arch"], described["levels"]) == ("x86_64", 5)
    assert "compound-mask" in described["features"]
