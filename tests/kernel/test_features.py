# SPDX-License-Identifier: LGPL-2.1-or-later
"""The detection table (kernel-reference.md 1.3): each row from presence alone."""

from __future__ import annotations

from typing import cast

import pytest

from tests.fakes.layouts import GENERATIONS, u32
from tests.fakes.machine import Machine
from vmemmap_tools.kernel.features import find_features
from vmemmap_tools.target.base import Member, Struct, Target

TWO_PAGES = {"hugetlb-hvo", "hvo-keeps-two-pages", "dax-compound"}
SELF_SHARED = {"hugetlb-hvo", "fake-heads", "dax-compound"}
ZONE_SHARED = {"hugetlb-hvo", "zone-shared-tails", "compound-mask", "dax-compound"}
FRAMEWORK = {"section-order", *ZONE_SHARED, "dax-dedup"}

EXPECTED = {
    "5.10": {"dax-compound"},  # row 12: none of the signs
    "5.15": TWO_PAGES,  # row 10
    "5.18": SELF_SHARED,  # row 9
    "6.1": {*SELF_SHARED, "dax-dedup"},  # rows 8, 11, 14
    "6.7": {*SELF_SHARED, "dax-dedup"},
    "6.10": {*SELF_SHARED, "dax-dedup"},
    "6.12": {*SELF_SHARED, "dax-dedup"},
    "7.3": {*ZONE_SHARED, "vmemmap-preinit", "dax-dedup"},  # rows 4, 6, 7
    "G5a": FRAMEWORK,  # row 2
    "G5b": FRAMEWORK,  # rows 1 and 5
    "G6": {*FRAMEWORK, "section-zone"},  # row 3
}
"""The fakes all have dev_pagemap.vmemmap_shift (row 13)."""


def present(m: Machine) -> set[str]:
    return {f.name for f in find_features(cast(Target, m.target)) if f.present}


def evidence(m: Machine, name: str) -> str:
    features = find_features(cast(Target, m.target))
    return next(f.evidence for f in features if f.name == name)


def with_members(s: Struct, **members: Member) -> Struct:
    return Struct(s.name, s.size, {**s.members, **members})


def without(s: Struct, name: str) -> Struct:
    return Struct(s.name, s.size, {k: m for k, m in s.members.items() if k != name})


@pytest.mark.parametrize("like", GENERATIONS)
def test_each_generation_has_its_features(like: str) -> None:
    assert present(Machine(like)) == EXPECTED[like]


@pytest.mark.parametrize("like", GENERATIONS)
def test_the_release_decides_nothing(like: str) -> None:
    m = Machine(like)
    m.target.release = "9.9.9"
    m.target.vmcoreinfo["OSRELEASE"] = "2.6.32"
    assert present(m) == EXPECTED[like]


@pytest.mark.parametrize("like", GENERATIONS)
def test_the_same_features_are_told_of_every_kernel_with_their_evidence(
    like: str,
) -> None:
    features = find_features(cast(Target, Machine(like).target))
    assert [f.name for f in features] == [
        f.name for f in find_features(cast(Target, Machine("7.3").target))
    ]
    assert all(f.evidence for f in features)


def test_row_1_compound_page_order_goes_before_order() -> None:
    m = Machine("G5b")
    section = with_members(m.target.structs["mem_section"], order=u32(20))
    m.target.structs["mem_section"] = section
    assert evidence(m, "section-order") == "member mem_section.compound_page_order"


def test_row_1_alone_means_that_dax_may_be_deduplicated() -> None:
    # G5b drops the pgmap argument of the populate functions (0.1, piece 5).
    m = Machine("G5b")
    m.target.functions["__populate_section_memmap"] = ("unsigned long",)
    assert "dax-dedup" in present(m)
    m = Machine("G5a")
    m.target.functions["__populate_section_memmap"] = ("unsigned long",)
    assert "dax-dedup" not in present(m)


@pytest.mark.parametrize("name", ["zone", "zone_idx", "section_zone"])
def test_row_3_any_member_with_zone_in_its_name_counts(name: str) -> None:
    m = Machine("7.3")
    section = with_members(m.target.structs["mem_section"], **{name: u32(8)})
    m.target.structs["mem_section"] = section
    assert evidence(m, "section-zone") == f"member mem_section.{name}"


def test_rows_4_and_5_the_form_of_the_tails_is_said() -> None:
    assert "array of 16" in evidence(Machine("7.3"), "zone-shared-tails")
    assert "pointer" in evidence(Machine("G5b"), "zone-shared-tails")


def test_row_6_the_mask_needs_tails_and_a_power_of_two() -> None:
    m = Machine("7.3", page_struct=80)
    assert "compound-mask" not in present(m)
    m = Machine("7.3")
    m.target.structs["zone"] = without(m.target.structs["zone"], "vmemmap_tails")
    assert "compound-mask" not in present(m)
    assert "pointer" in evidence(m, "compound-mask")


def test_row_7_preinit_is_an_enumerator() -> None:
    m = Machine("6.12")
    assert "vmemmap-preinit" not in present(m)
    m.target.enums["section_flags"]["SECTION_IS_VMEMMAP_PREINIT_BIT"] = 5
    assert "vmemmap-preinit" in present(m)


def test_row_8_a_static_key_beside_shared_tails_means_no_fake_heads() -> None:
    m = Machine("7.3")
    m.target.define_int("hugetlb_optimize_vmemmap_key", 1)
    assert "fake-heads" not in present(m)


def test_row_10_a_static_key_beside_the_bool_is_the_later_generation() -> None:
    m = Machine("5.15")
    m.target.define_int("hugetlb_free_vmemmap_enabled_key", 1)
    assert "hvo-keeps-two-pages" not in present(m)
    assert m.kernel().kept_pages == 1
    assert Machine("5.15").kernel().kept_pages == 2


def test_row_10_the_bool_alone_is_not_enough() -> None:
    m = Machine("5.15")
    hstate = without(m.target.structs["hstate"], "nr_free_vmemmap_pages")
    m.target.structs["hstate"] = hstate
    assert "hvo-keeps-two-pages" not in present(m)


def test_row_11_the_policy_variable_means_hvo_is_compiled_in_whatever_its_value() -> (
    None
):
    m = Machine("5.10")
    m.target.define_int("vmemmap_optimize_enabled", 0, 1)
    assert evidence(m, "hugetlb-hvo") == "variable vmemmap_optimize_enabled"


def test_a_member_of_hstate_alone_means_hvo() -> None:
    m = Machine("5.10")
    hstate = with_members(m.target.structs["hstate"], optimize_vmemmap_pages=u32(176))
    m.target.structs["hstate"] = hstate
    assert evidence(m, "hugetlb-hvo") == "member hstate.optimize_vmemmap_pages"


def test_row_13_compound_device_pages_need_vmemmap_shift() -> None:
    m = Machine("6.1")
    pgmap = without(m.target.structs["dev_pagemap"], "vmemmap_shift")
    m.target.structs["dev_pagemap"] = pgmap
    assert "dax-compound" not in present(m)


@pytest.mark.parametrize(
    ("function", "has"),
    [
        ("__populate_section_memmap", True),
        ("sparse_add_section", True),
        ("some_other_function", False),
    ],
)
def test_row_14_a_pgmap_parameter_makes_dedup_possible(
    function: str, has: bool
) -> None:
    m = Machine("5.15")
    m.target.functions[function] = ("int", "struct dev_pagemap *")
    assert ("dax-dedup" in present(m)) == has


@pytest.mark.parametrize(("like", "has"), [("6.12", True), ("7.3", False)])
def test_row_15_a_pgmap_on_removal_is_the_accounting_fix(like: str, has: bool) -> None:
    # 0.1: stable kernels carry it as well, hence never by release.
    m = Machine(like)
    if has:
        m.target.functions["sparse_remove_section"] = ("struct dev_pagemap *",)
    assert ("dax-accounting-fixed" in present(m)) == has


def test_counters_are_a_variable() -> None:
    m = Machine("6.12")
    assert "memmap-counters" not in present(m)
    m.add_counters(1, 2)
    assert "memmap-counters" in present(m)


def test_a_kernel_without_device_memory_has_no_word_on_its_compounds() -> None:
    m = Machine("6.1")
    del m.target.structs["dev_pagemap"]
    assert "dax-compound" not in [f.name for f in find_features(cast(Target, m.target))]


def test_features_are_asked_by_name() -> None:
    kernel = Machine("7.3").kernel()
    assert kernel.has("compound-mask") and not kernel.has("fake-heads")
    assert not kernel.has("no such feature")
