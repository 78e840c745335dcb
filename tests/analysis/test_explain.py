# SPDX-License-Identifier: LGPL-2.1-or-later
"""What `vmemmap page` finds and says."""

from __future__ import annotations

from typing import Any

import pytest

from tests.fakes.facts import PAGE_FLAGS
from tests.fakes.machine import DEVICE, KERNEL_HALF, Machine
from tests.fakes.pools import MASK_WORDS, add_folio, add_pool
from vmemmap_tools.analysis.explain import explain_page, resolve

from .machines import DAX_START, busy, dax

VMEMMAP = 0xFFFFEA0000000000


def explain(m: Machine, kind: str, value: int) -> dict[str, Any]:
    kernel = m.kernel()
    text = f"{kind}:{value:#x}"
    return explain_page(kernel, resolve(kernel, kind, value, text)).as_dict()


def va(pfn: int) -> int:
    return VMEMMAP + pfn * 64


# What a TARGET means.


@pytest.mark.parametrize(
    ("kind", "value"),
    [("pfn", 0x8005), ("phys", 0x8005123), ("address", va(0x8005) + 9)],
)
def test_a_page_is_named_by_pfn_physical_address_or_struct_page(
    kind: str, value: int
) -> None:
    found = explain(busy(), kind, value)
    assert found["pfn"] == 0x8005
    assert found["page_va"] == f"{va(0x8005):#x}"


def test_va_means_the_page_behind_the_address_even_in_the_vmemmap() -> None:
    m = busy()
    assert explain(m, "va", va(0x8005))["pfn"] == m.frame(512)


def test_other_addresses_mean_the_page_behind_them() -> None:
    m = busy()
    m.tables.map(KERNEL_HALF, 0x8123000)
    assert explain(m, "address", KERNEL_HALF + 5)["pfn"] == 0x8123


def test_an_address_that_nothing_maps_is_said_to_be_so() -> None:
    found = explain(busy(), "va", KERNEL_HALF)
    assert "do not map it" in found["verdict"]
    assert "pfn" not in found


def test_page_tables_that_cannot_be_read_are_said_to_be_so() -> None:
    m = busy()
    kernel = m.kernel()
    m.memory.lose(m.tables.root_pa // 4096)
    subject = resolve(kernel, "va", KERNEL_HALF, "x")
    assert "cannot be read" in explain_page(kernel, subject).verdict


# What is found.


def test_a_tail_of_an_optimised_folio() -> None:
    m = busy()
    found = explain(m, "pfn", 0x8005)
    assert found["verdict"] == (
        "pfn 0x8005 is a tail of the hugetlb folio of order 9 at pfn 0x8000, "
        "node 0, zone Normal"
    )
    assert found["section"]["nr"] == 1 and found["valid"] is True
    assert found["compound"] == {
        "head_pfn": 0x8000,
        "head_va": f"{va(0x8000):#x}",
        "order": 9,
        "pages": 512,
        "flags": ["head"],
        "refcount": 0,
        "hwpoison": False,
    }
    hugetlb = found["hugetlb"]
    assert (hugetlb["optimised"], hugetlb["layout"]) == (True, "zone-shared")
    assert (hugetlb["kept_frames"], hugetlb["saved_bytes"]) == (1, 28672)
    assert hugetlb["flagged"] is True and hugetlb["flags"] == [
        "freed",
        "vmemmap_optimized",
    ]
    # Its struct page lies in the folio's first page, which is its own.
    vmemmap = found["vmemmap"]
    assert (vmemmap["mappings"], vmemmap["readonly"]) == (1, False)
    assert vmemmap["index_in_folio"] == 0


def test_a_tail_on_the_shared_page() -> None:
    found = explain(busy(), "pfn", 0x8000 + 100)
    vmemmap = found["vmemmap"]
    # Two optimised folios, seven pages each.
    assert (vmemmap["mappings"], vmemmap["readonly"]) == (14, True)
    assert vmemmap["shared_tail_of"] == {"node": 0, "zone": "Normal", "order": 9}
    assert vmemmap["owner"] == {"kind": "hugetlb", "pfn": 0x8000, "order": 9}
    assert vmemmap["index_in_folio"] == 1
    text = " ".join(found["explanation"])
    assert "may not be written" in text
    assert "13 other vmemmap pages" in text


def test_a_write_to_a_shared_tail_is_the_support_case() -> None:
    verdict = explain(busy(), "address", va(0x8000 + 100))["verdict"]
    assert verdict.startswith("0xffffea0000201900 lies in a read-only shared tail page")
    assert "the hugetlb folio of order 9 at pfn 0x8000" in verdict
    assert "node 0, zone Normal" in verdict
    assert "a write to it faults" in verdict


def test_a_write_to_an_alias_of_the_head_is_one_as_well() -> None:
    m = Machine("6.1")
    m.add_section(1)
    add_pool(m, 9, [1])
    add_folio(m, 0x8000, 9, "self")
    found = explain(m, "address", va(0x8040))
    assert "read-only shared tail page of the hugetlb folio" in found["verdict"]
    assert found["struct_page"]["is_fake_head"] is True
    assert any("fake head" in s for s in found["explanation"])


def test_a_read_only_page_that_nobody_shares_is_odd() -> None:
    m = busy()
    m.map(600, m.frames(), is_writable=False)
    verdict = explain(m, "address", va(600 * 64))["verdict"]
    assert "which nothing explains" in verdict


def test_a_writable_page_is_said_to_be_one() -> None:
    assert explain(busy(), "address", va(0x9000))["verdict"] == (
        "0xffffea0000240000 is mapped writable"
    )
    shared = explain(dax(), "address", va(DAX_START + 100))["verdict"]
    assert "backs other vmemmap pages too" in shared


def test_a_hole_names_its_section() -> None:
    m = busy()
    m.add_section(5, "PM", leaf=None, subsections=0b10)
    m.add_section(6, "P", leaf=None)
    holes = {
        va(40 * 0x8000): "has no section",
        va(5 * 0x8000): "subsection of section 5 that is not populated",
        va(5 * 0x8000 + 512): "section 5 has a mem_map, so that",
        va(6 * 0x8000): "section 6 has no mem_map",
    }
    for address, words in holes.items():
        verdict = explain(m, "address", address)["verdict"]
        assert "unmapped hole" in verdict and words in verdict


def test_a_pfn_without_a_struct_page() -> None:
    found = explain(busy(), "pfn", 40 * 0x8000)
    assert "has no struct page" in found["verdict"]
    assert (found["section"], found["valid"]) == (None, False)
    assert found["vmemmap"]["mapped"] is False


def test_a_struct_page_that_the_dump_left_out() -> None:
    m = busy()
    m.memory.lose(m.frame(0x9000 // 64))
    assert "is not in this dump" in explain(m, "pfn", 0x9000)["verdict"]


@pytest.mark.parametrize("fill", [b"\0", b"\xff"])
def test_a_struct_page_that_was_never_initialised(fill: bytes) -> None:
    m = busy()
    m.write_page(0x9000, 0, fill * 64)
    assert "never initialised" in explain(m, "pfn", 0x9000)["verdict"]


def test_a_single_page_has_its_type() -> None:
    m = busy()
    m.set_page(0x9000, flags=m.place_bits(0, 2), _mapcount=0xF0000000, _refcount=0)
    found = explain(m, "pfn", 0x9000)
    assert found["verdict"] == (
        "pfn 0x9000 is a single page (buddy), node 0, zone Normal"
    )
    assert found["compound"] is None and found["hugetlb"] is None


def test_a_device_page_knows_its_map() -> None:
    found = explain(dax(), "pfn", DAX_START + 512 + 70)
    assert found["dax"]["type"] == "GENERIC"
    assert found["dax"]["vmemmap_shift"] == 9
    assert found["vmemmap"]["owner"] == {
        "kind": "dax",
        "pfn": DAX_START + 512,
        "order": 9,
    }
    assert any("device memory (GENERIC)" in s for s in found["explanation"])


def test_a_page_of_an_altmap_is_said_to_hold_vmemmap() -> None:
    m = dax(form=None, altmap=(DAX_START, 16, 4096, 512))
    inside = explain(m, "pfn", DAX_START + 17)
    assert inside["dax"]["in_altmap"] is True
    assert inside["verdict"].endswith(
        ", in its device's altmap (set aside for vmemmap)"
    )
    assert inside["vmemmap"]["owner"] is None
    reserve = explain(m, "pfn", DAX_START + 15)
    assert reserve["dax"]["in_altmap_reserve"] is True
    assert reserve["verdict"].endswith("in the reserve in front of its device's altmap")
    found = explain(m, "pfn", DAX_START + 16 + 4096)
    assert found["dax"]["in_altmap"] is False


def test_the_first_compound_behind_an_altmap_begins_at_the_data() -> None:
    m, first = dax(form=None, altmap=(DAX_START, 2, 1534, 1024)), DAX_START + 1536
    m.set_page(first, flags=m.place_bits(0, DEVICE) | 1 << 13 | 1 << 6)
    for pfn in range(first + 1, first + 512):
        m.set_page(
            pfn, flags=m.place_bits(0, DEVICE) | 1 << 13, compound_info=MASK_WORDS[9]
        )
    m.set_page(first + 1, flags=m.place_bits(0, DEVICE) | 1 << 13 | 9)
    found = explain(m, "pfn", first + 100)
    assert found["compound"]["head_pfn"] == first
    assert found["dax"]["compound_head_pfn"] == first
    assert found["vmemmap"]["owner"] == {"kind": "dax", "pfn": first, "order": 9}
    assert found["vmemmap"]["index_in_folio"] == 1
    assert found["strayed_from"] is None


def test_the_other_way_round_a_frame_knows_what_it_backs() -> None:
    m = busy()
    tail = next(iter(m.kernel().tail_frames))
    backs = explain(m, "pfn", tail)["backs"]
    assert backs["count"] == 14
    assert backs["shared_tail_of"] == {"node": 0, "zone": "Normal", "order": 9}
    assert backs["pages"][0] == {
        "va": f"{VMEMMAP + 513 * 4096:#x}",
        "start_pfn": 0x8040,
        "end_pfn": 0x8080,
        "readonly": True,
    }
    assert len(backs["pages"]) == 14
    assert explain(m, "pfn", 0x8000)["backs"] is None


def test_a_frame_that_backs_thousands_lists_the_first() -> None:
    m = dax("7.3", 0x100000, 0x140000, 18)
    backs = explain(m, "pfn", m.frame(0x100000 // 64 + 1))["backs"]
    assert backs["count"] == 4095 and len(backs["pages"]) == 16


@pytest.mark.parametrize("order", [63, 200, 255])
def test_a_folio_of_an_absurd_order_is_no_hugetlb_folio(order: int) -> None:
    m = busy()
    m.set_page(0x8001, flags=order)
    found = explain(m, "pfn", 0x8000)
    assert found["hugetlb"] is None and found["compound"] is None
    assert found["struct_page"]["stale_head"]["kind"] == "e"
    assert found["verdict"].startswith(
        "pfn 0x8000 is no compound head, yet its struct page is a head of an order "
        "that no folio at this pfn can have"
    )


@pytest.mark.parametrize(
    ("head", "index", "words"),
    [
        (0x8200, 0, ", hwpoisoned"),
        (0x8200, 5, ", of which memory is hwpoisoned"),
        (0x8200, 400, ", of which memory is hwpoisoned"),
        (0x8400, 5, ", of which memory is hwpoisoned"),
    ],
)
def test_hwpoison_of_the_head_is_told_of_every_page_of_the_folio(
    head: int, index: int, words: str
) -> None:
    m = busy()
    m.set_page(head, flags=m.place_bits(0, 2) | 1 << 6 | 1 << PAGE_FLAGS["PG_hwpoison"])
    found = explain(m, "pfn", head + index)
    assert found["hugetlb"]["hwpoison"] is True
    assert found["compound"]["hwpoison"] is True
    assert found["compound"]["flags"] == ["head", "hwpoison"]
    assert found["verdict"].endswith(words)
    assert explain(m, "pfn", 0x8005)["hugetlb"]["hwpoison"] is False


def test_the_flag_of_the_second_page_counts_for_other_folios() -> None:
    # folio_set_has_hwpoisoned(): the bad page has PG_hwpoison itself.
    m = busy()
    m.target.enums["pageflags"]["PG_has_hwpoisoned"] = 9
    place = m.place_bits(0, 2)
    m.set_page(0x9000, flags=place | 1 << 6)
    for pfn in 0x9001, 0x9002, 0x9003:
        m.set_page(pfn, flags=place, compound_info=0xFFFFFFFFFFFFFF01)
    m.set_page(0x9001, flags=place | 1 << 9 | 2)
    found = explain(m, "pfn", 0x9003)
    assert found["hugetlb"] is None and found["compound"]["order"] == 2
    assert found["compound"]["hwpoison"] is True
    assert found["verdict"].endswith(", of which memory is hwpoisoned")


def test_a_damaged_tail_of_a_device_is_said_to_be_damaged() -> None:
    m = dax()
    m.set_page(DAX_START + 5, compound_info=0xFFFFBFFFFFFF8001)
    found = explain(m, "pfn", DAX_START + 5)
    assert found["struct_page"]["head_pfn"] is None
    assert found["struct_page"]["compound_word"] == "0xffffbfffffff8001"
    assert found["struct_page"]["role"] == "tail" and found["compound"] is None
    assert found["strayed_from"] == {"kind": "dax", "pfn": DAX_START, "order": 9}
    assert found["verdict"] == (
        "pfn 0x100005 is marked as a tail, but its compound word 0xffffbfffffff8001 "
        "is damaged: it leads to no possible head, node 0, zone Device; it lies in the "
        "device DAX compound of order 9 at pfn 0x100000, but does not lead to its head"
    )


@pytest.mark.parametrize("pfn", [DAX_START + 5, 0x8005])
def test_a_cleared_tail_is_said_to_lie_in_its_compound(pfn: int) -> None:
    m = busy()
    m.set_page(pfn, compound_info=0)
    found = explain(m, "pfn", pfn)
    assert found["struct_page"]["role"] == "single"
    assert found["strayed_from"]["pfn"] == pfn - 5
    assert "but does not lead to its head" in found["verdict"]


@pytest.mark.parametrize("kind", ["pfn", "phys", "va", "address"])
@pytest.mark.parametrize("value", [0, 1, (1 << 64) - 1, 1 << 63, VMEMMAP - 1])
def test_every_number_has_an_answer(kind: str, value: int) -> None:
    assert explain(busy(), kind, value)["verdict"]
