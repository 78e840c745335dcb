# SPDX-License-Identifier: LGPL-2.1-or-later
"""Features: which generation of each mechanism this kernel has, with the evidence.

May import ``target`` and ``kernel.layout``. Every test is "this member, symbol,
enumerator or parameter exists"; none looks at a release string, because stable and
vendor kernels carry backports. What a single *folio* looks like is decided from its
page-table entries alone.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..target.base import Struct, Target
from .bit_numbers import bit_number
from .layout import require_struct

__all__ = [
    "Feature",
    "features_without_types",
    "find_features",
    "section_zone_member",
    "uses_compound_mask",
]


@dataclass(frozen=True)
class Feature:
    """Something a kernel has or lacks, with the evidence in words.

    ``present`` is None where there is no evidence either way.
    """

    name: str
    present: bool | None
    evidence: str


def _feature(target_has: bool, name: str, yes: str, no: str) -> Feature:
    return Feature(name, target_has, yes if target_has else no)


def find_features(target: Target) -> list[Feature]:
    """All features, present or not, in a fixed order."""
    section = require_struct(target, "mem_section", "section_mem_map")
    zone = require_struct(target, "zone")
    page = require_struct(target, "page")
    hstate = target.struct("hstate")
    pgmap = target.struct("dev_pagemap")
    features = [
        _member_feature("section-order", section, "compound_page_order", "order"),
        _section_zone_feature(section),
        _tails_feature(zone),
        _compound_feature(target, zone, page),
    ]
    preinit = bit_number(target, "SECTION_IS_VMEMMAP_PREINIT_BIT")
    features.append(
        _feature(
            preinit is not None,
            "vmemmap-preinit",
            f"enumerator SECTION_IS_VMEMMAP_PREINIT_BIT = {preinit}",
            "no enumerator SECTION_IS_VMEMMAP_PREINIT_BIT",
        )
    )
    features.append(_hvo_feature(target, zone, hstate))
    features.append(_two_pages_feature(target, hstate))
    features.append(_fake_heads_feature(target, zone))
    if pgmap is not None:
        features.append(_member_feature("dax-compound", pgmap, "vmemmap_shift"))
    features.append(_dax_dedup_feature(target, section))
    features.append(
        _parameter_feature(
            target,
            "dax-accounting-fixed",
            "struct dev_pagemap *",
            (
                "sparse_remove_section",
                "section_deactivate",
                "depopulate_section_memmap",
            ),
        )
    )
    counter = target.variable("nr_memmap_pages")
    features.append(
        _feature(
            counter is not None,
            "memmap-counters",
            "variable nr_memmap_pages",
            "no variable nr_memmap_pages",
        )
    )
    return features


def _member_feature(name: str, struct: Struct, *members: str) -> Feature:
    found = struct.first(*members)
    return _feature(
        found is not None,
        name,
        f"member {struct.name}.{found}",
        f"no member {struct.name}.{' or '.join(members)}",
    )


def section_zone_member(section: Struct) -> str | None:
    """A member of mem_section that names its zone, whatever it will be called."""
    return next((name for name in section.members if "zone" in name), None)


def _section_zone_feature(section: Struct) -> Feature:
    name = section_zone_member(section)
    return _feature(
        name is not None,
        "section-zone",
        f"member mem_section.{name}",
        "no member of mem_section whose name contains zone",
    )


def _tails_feature(zone: Struct) -> Feature:
    if "vmemmap_tails" not in zone:
        return Feature("zone-shared-tails", False, "no member zone.vmemmap_tails")
    tails = zone["vmemmap_tails"]
    form = f"array of {tails.length}" if tails.kind == "array" else "pointer"
    return Feature("zone-shared-tails", True, f"member zone.vmemmap_tails ({form})")


def uses_compound_mask(target: Target) -> bool:
    """Whether tails hold a mask instead of the head's address.

    Mirrors ``compound_info_has_mask()`` (8c846c879e22, d50569612c29, in 7.1), which
    also asks that the size of struct page be a power of two.
    """
    page, zone = target.struct("page"), target.struct("zone")
    return bool(
        page
        and zone
        and "compound_info" in page
        and "vmemmap_tails" in zone
        and page.size & page.size - 1 == 0
    )


def _compound_feature(target: Target, zone: Struct, page: Struct) -> Feature:
    return _feature(
        uses_compound_mask(target),
        "compound-mask",
        f"page.compound_info, zone.vmemmap_tails, struct page of {page.size} bytes",
        "page.compound_info as a pointer"
        if "compound_info" in page
        else "page.compound_head",
    )


HVO_SYMBOLS = (
    "vmemmap_optimize_enabled",
    "hugetlb_optimize_vmemmap_key",
    "hugetlb_free_vmemmap_enabled_key",
    "hugetlb_free_vmemmap_enabled",
)


def _hvo_feature(target: Target, zone: Struct, hstate: Struct | None) -> Feature:
    if "vmemmap_tails" in zone:
        return Feature("hugetlb-hvo", True, "member zone.vmemmap_tails")
    for name in HVO_SYMBOLS:
        if target.variable(name) is not None:
            return Feature("hugetlb-hvo", True, f"variable {name}")
    if hstate and hstate.first("nr_free_vmemmap_pages", "optimize_vmemmap_pages"):
        member = hstate.first("nr_free_vmemmap_pages", "optimize_vmemmap_pages")
        return Feature("hugetlb-hvo", True, f"member hstate.{member}")
    return Feature("hugetlb-hvo", False, "none of its variables nor zone.vmemmap_tails")


def _two_pages_feature(target: Target, hstate: Struct | None) -> Feature:
    """5.14 to 5.17 kept two vmemmap pages of a folio."""
    two = (
        target.variable("hugetlb_free_vmemmap_enabled") is not None
        and target.variable("hugetlb_free_vmemmap_enabled_key") is None
        and hstate is not None
        and "nr_free_vmemmap_pages" in hstate
    )
    return _feature(
        two,
        "hvo-keeps-two-pages",
        "variable hugetlb_free_vmemmap_enabled without a static key",
        "no variable hugetlb_free_vmemmap_enabled beside hstate.nr_free_vmemmap_pages",
    )


def _fake_heads_feature(target: Target, zone: Struct) -> Feature:
    keys = ("hugetlb_optimize_vmemmap_key", "hugetlb_free_vmemmap_enabled_key")
    found = next((k for k in keys if target.variable(k) is not None), None)
    return _feature(
        found is not None and "vmemmap_tails" not in zone,
        "fake-heads",
        f"static key {found}",
        "no static key of the optimisation",
    )


def _parameter_feature(
    target: Target, name: str, parameter: str, functions: tuple[str, ...]
) -> Feature:
    is_known = False
    for function in functions:
        found = target.function(function)
        is_known = is_known or found is not None
        if found is not None and parameter in found.parameters:
            return Feature(name, True, f"{function}() takes a {parameter}")
    if not is_known:
        return Feature(name, None, f"no types of {', '.join(functions)}")
    return Feature(name, False, f"no {parameter} parameter in {', '.join(functions)}")


def _dax_dedup_feature(target: Target, section: Struct) -> Feature:
    if "compound_page_order" in section:
        return Feature("dax-dedup", True, "member mem_section.compound_page_order")
    return _parameter_feature(
        target,
        "dax-dedup",
        "struct dev_pagemap *",
        ("__populate_section_memmap", "sparse_add_section", "vmemmap_populate"),
    )


UNTOLD_WITHOUT_TYPES = (
    "section-order",
    "section-zone",
    "vmemmap-preinit",
    "dax-compound",
    "dax-dedup",
    "dax-accounting-fixed",
)
ANY_VARIABLE = "init_mm"
"""A variable that every kernel has and VMCOREINFO does not name: shows a full table."""


def features_without_types(target: Target, has_mask: bool | None) -> list[Feature]:
    """What symbols and the contents of tails tell, where no struct is known.

    Kernels name heads by masks where they share tails in zones (see `find_features`).
    ``has_mask`` is None where no tail was found.
    """
    knows_variables = target.symbol(ANY_VARIABLE) is not None

    def by_symbols(feature: str, *names: str) -> Feature:
        found = next((n for n in names if target.symbol(n) is not None), None)
        if found is None:
            what = f"no variable {' or '.join(names)}"
            return Feature(feature, False if knows_variables else None, what)
        return Feature(feature, True, f"variable {found}")

    keys = ("hugetlb_optimize_vmemmap_key", "hugetlb_free_vmemmap_enabled_key")
    masks = "tails that hold masks" if has_mask else "no tail that holds a mask"
    if has_mask is None:
        masks = "no tail of a compound page was found"
    hvo = by_symbols("hugetlb-hvo", *HVO_SYMBOLS)
    old, key = (target.symbol(n) for n in ("hugetlb_free_vmemmap_enabled", keys[1]))
    two = by_symbols("hvo-keeps-two-pages", "hugetlb_free_vmemmap_enabled")
    if old is not None and key is not None:
        two = Feature(two.name, False, f"variable {keys[1]}")
    return [
        Feature("zone-shared-tails", has_mask, masks),
        Feature("compound-mask", has_mask, masks),
        Feature(hvo.name, True, masks) if has_mask and not hvo.present else hvo,
        two,
        by_symbols("fake-heads", *keys),
        by_symbols("memmap-counters", "nr_memmap_pages"),
        *(Feature(name, None, "types unknown") for name in UNTOLD_WITHOUT_TYPES),
    ]
