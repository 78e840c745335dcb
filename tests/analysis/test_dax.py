# SPDX-License-Identifier: LGPL-2.1-or-later
"""Device memory: what is shared against what the kernel would share (1.2, 1.4, 6)."""

from __future__ import annotations

import pytest

from tests.fakes.devices import add_pgmap, share_compounds
from tests.fakes.machine import DEVICE, Machine
from tests.fakes.pools import add_tail_page
from vmemmap_tools.analysis.dax import DaxRange, measure
from vmemmap_tools.kernel.pgmap import Altmap, Pgmap

from .machines import DAX_END, DAX_START, dax


def measured(m: Machine) -> DaxRange:
    (only,) = measure(m.kernel())
    return only


def test_d1_saves_6_pages_of_every_2m_compound() -> None:
    # 10.1: keep 2 saves 6 of 8. Two sections hold 128 compounds of order 9.
    found = measured(dax(form="D1"))
    assert (found.compounds, found.optimised) == (128, 128)
    assert found.saved_pages == 6 * 128
    assert found.expected_saved_pages == 6 * 128
    assert found.extent is not None
    assert (found.extent.mapped_pages, found.extent.frames) == (1024, 256)
    assert found.savable_pages == 0


def test_d1_to_d2_is_one_page_more_of_every_compound() -> None:
    # 10.2: "additional 4KB per 2MB".
    assert measured(dax(form="D1")).generalised_extra_pages == 128


def test_d2_saves_7_pages_of_every_2m_compound() -> None:
    found = measured(dax("G5b", form="D2", compound_page_order=9))
    assert found.saved_pages == 7 * 128
    assert found.expected_saved_pages == 7 * 128
    assert found.generalised_extra_pages == 0
    # One frame a compound and the zone's tail page.
    assert found.extent is not None and found.extent.frames == 128 + 1


@pytest.mark.parametrize(
    ("like", "form", "saved"), [("7.3", "D1", 4094), ("G5b", "D2", 4095)]
)
def test_a_1g_compound_over_8_sections(like: str, form: str, saved: int) -> None:
    # 10.1 and 10.3.
    m = dax(like, 0x100000, 0x140000, 18, form=form)
    found = measured(m)
    assert (found.compounds, found.optimised) == (1, 1)
    assert found.saved_pages == found.expected_saved_pages == saved


def test_the_tail_frame_of_a_1g_compound_is_mapped_as_often_as_its_refcount() -> None:
    # 10.3: 1 + 510 + 7 * 512 = 4095.
    m = dax("7.3", 0x100000, 0x140000, 18)
    frame = m.frame(0x100000 // 64 + 1)
    assert m.kernel().vmemmap.frames.mappings(frame) == 4095


@pytest.mark.parametrize("like", ["6.1", "6.12", "7.3", "G5a"])
def test_kernels_with_d1_expect_two_pages_kept(like: str) -> None:
    assert measured(dax(like, form=None)).expected_saved_pages == 6 * 128


@pytest.mark.parametrize("like", ["5.10", "5.15", "5.18"])
def test_kernels_without_a_pgmap_parameter_expect_nothing(like: str) -> None:
    # D0.
    found = measured(dax(like, form=None))
    assert found.expected_saved_pages == 0
    assert (found.compounds, found.optimised, found.saved_pages) == (128, 0, 0)


def test_what_is_expected_but_not_there_could_be_saved() -> None:
    found = measured(dax(form=None))
    assert found.savable_pages == 6 * 128
    assert found.generalised_extra_pages == 0


def test_an_altmap_rules_sharing_out() -> None:
    altmap = (DAX_START, 0, 0x1000, 0x400)
    assert measured(dax(form=None, altmap=altmap)).expected_saved_pages == 0


def test_compounds_of_an_altmap_range_begin_behind_what_it_takes() -> None:
    # pfn_first(): 3 of 128 times 2 MiB are reserve and vmemmap.
    altmap = (DAX_START, 2, 3 * 512 - 2, 1024)
    assert measured(dax(form=None, altmap=altmap)).compounds == 125


def test_an_altmap_that_takes_more_than_its_range_leaves_no_compound() -> None:
    altmap = (DAX_START, 2, 1 << 40, 1024)
    assert measured(dax(form=None, altmap=altmap)).compounds == 0


def test_an_altmap_takes_of_the_first_range_of_its_map_only() -> None:
    altmap = Altmap(DAX_START, 2, 3 * 512 - 2, 0, 1024)
    ranges = ((DAX_START, DAX_START + 0x8000), (0x200000, 0x208000))
    pgmap = Pgmap(1, 4, "GENERIC", 9, 9, altmap, ranges)
    firsts = [one.first_pfn for one in pgmap.device_ranges()]
    assert firsts == [DAX_START + 3 * 512, 0x200000]


def test_early_sections_are_reused_as_they_are_in_every_generation() -> None:
    # 1.4, exception of D1; 6: holds in all generations.
    for like in ("7.3", "G5a", "G5b"):
        found = measured(dax(like, form=None, state="PMOED"))
        assert found.expected_saved_pages == 0


def test_a_struct_page_of_80_bytes_rules_sharing_out() -> None:
    m = Machine("7.3", page_struct=80)
    for page in range(32 * 640, 33 * 640):
        m.map(page, m.frames())
    m.add_section(32, "PM", leaf=None)
    add_pgmap(m, DAX_START, DAX_START + 0x8000, 9)
    found = measured(m)
    assert found.compounds == 64
    assert (found.expected_saved_pages, found.generalised_extra_pages) == (0, 0)


def test_d2_leaves_compounds_of_sections_that_the_range_does_not_fill() -> None:
    # 6: 2M-aligned but not 128M-aligned fragments were optimised in D1.
    start, end = DAX_START + 0x200, DAX_END + 0x7E00
    assert measured(dax("G5b", start, end, form=None)).expected_saved_pages == 7 * 64
    compounds = (end - start) // 512
    assert measured(dax("7.3", start, end, form=None)).expected_saved_pages == (
        6 * compounds
    )


def test_compounds_begin_at_the_start_of_the_range() -> None:
    start = DAX_START + 0x200
    m = dax("7.3", start, start + 0x400)
    assert (measured(m).compounds, measured(m).optimised) == (2, 2)


def test_a_rest_smaller_than_a_compound_is_none() -> None:
    found = measured(dax("7.3", DAX_START, DAX_START + 0x300, form=None))
    assert found.compounds == 1


def test_order_7_saves_nothing_in_d1_and_a_page_in_d2() -> None:
    # 10.1, note: D1 requires N > 2, so that D2 widens the set of sizes.
    assert measured(dax("7.3", shift=7, form=None)).expected_saved_pages == 0
    assert measured(dax("G5b", shift=7, form=None)).expected_saved_pages == 2 * 256


def test_fsdax_has_no_compounds() -> None:
    found = measured(dax(shift=0, form=None))
    assert (found.compounds, found.saved_pages, found.expected_saved_pages) == (0, 0, 0)
    assert found.extent is not None and found.extent.mapped_pages == 1024


def test_node_and_zone_are_those_of_the_struct_pages() -> None:
    m = dax(form=None)
    last = DAX_END - 512
    m.set_page(last, flags=m.place_bits(1, DEVICE) | 1 << 13)
    found = measured(m)
    assert (found.node, found.zone) == (1, "Device")


def test_struct_pages_never_initialised_place_nothing() -> None:
    assert (measured(dax(form=None)).node, measured(dax(form=None)).zone) == (
        None,
        None,
    )


def test_struct_pages_that_are_not_there_place_nothing_and_are_missing() -> None:
    # The frames of an altmap are on the device, no vmcore holds them.
    m = dax(form=None)
    m.memory.lose(m.frame((DAX_END - 512) // 64), "outside")
    kernel = m.kernel()
    (found,) = measure(kernel)
    assert found.node is None
    assert kernel.missing.as_dict() == {"outside": {"struct pages of device memory": 1}}


def test_half_a_range_shared_counts_the_shared_half() -> None:
    m = dax(form=None)
    share_compounds(m, DAX_START, DAX_START + 0x8000, 9)
    found = measured(m)
    assert (found.optimised, found.saved_pages) == (64, 6 * 64)
    assert found.savable_pages == 6 * 64


def test_d2_tails_belong_to_the_zone_of_the_maps_node() -> None:
    m = dax("G5b", form=None)
    tail = add_tail_page(m, 1, DEVICE, 9)
    share_compounds(m, DAX_START, DAX_END, 9, tail_frame=tail, node=1)
    assert m.kernel().tail_frames == {tail: (1, DEVICE, 9)}
    assert measured(m).node == 1
    assert measured(m).saved_pages == 7 * 128


def test_a_range_without_sections_measures_nothing() -> None:
    m = Machine("7.3")
    add_pgmap(m, DAX_START, DAX_END, 9)
    found = measured(m)
    assert found.extent is not None
    assert (found.compounds, found.extent.mapped_pages) == (0, 0)
