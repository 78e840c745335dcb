# SPDX-License-Identifier: LGPL-2.1-or-later
"""Helpers for drgn scripts, in the manner of drgn's own: Objects in, Objects out.

They take a Program, or use the default one, and answer from the same views as the
commands do. Their Objects need debug info that drgn has loaded; whatever returns none
works with BTF as well. Whoever wants them all at a prompt says
``from vmemmap_tools.drgn_helpers import *``.
"""

from __future__ import annotations

from .folios import (
    FolioBacking,
    folio_backing,
    folio_vmemmap_optimized,
    for_each_hugetlb_folio,
    hugetlb_why_not_optimized,
)
from .pages import (
    for_each_zone,
    page_to_nid,
    page_zone,
    page_zonenum,
    zone_vmemmap_tails,
)
from .pagetable import (
    PageTableStep,
    VmemmapLeaf,
    for_each_vmemmap_leaf,
    for_each_vmemmap_page_of_frame,
    page_vmemmap_frame,
    vmemmap_frame_mappings,
    walk_page_table,
)
from .pgmaps import (
    for_each_pgmap,
    get_dev_pagemap,
    pgmap_altmap,
    pgmap_ranges,
    pgmap_vmemmap_shift,
)
from .reading import vmemmap_missing, vmemmap_reading
from .savings import (
    CompoundSavings,
    VmemmapSavings,
    for_each_vmemmap_saving,
    vmemmap_savings,
)
from .sections import (
    for_each_section,
    nr_to_section,
    pfn_to_section,
    section_compound_order,
    section_state,
    section_zone,
)

__all__ = [
    "CompoundSavings",
    "FolioBacking",
    "PageTableStep",
    "VmemmapLeaf",
    "VmemmapSavings",
    "folio_backing",
    "folio_vmemmap_optimized",
    "for_each_hugetlb_folio",
    "for_each_pgmap",
    "for_each_section",
    "for_each_vmemmap_leaf",
    "for_each_vmemmap_page_of_frame",
    "for_each_vmemmap_saving",
    "for_each_zone",
    "get_dev_pagemap",
    "hugetlb_why_not_optimized",
    "nr_to_section",
    "page_to_nid",
    "page_vmemmap_frame",
    "page_zone",
    "page_zonenum",
    "pfn_to_section",
    "pgmap_altmap",
    "pgmap_ranges",
    "pgmap_vmemmap_shift",
    "section_compound_order",
    "section_state",
    "section_zone",
    "vmemmap_frame_mappings",
    "vmemmap_missing",
    "vmemmap_reading",
    "vmemmap_savings",
    "walk_page_table",
    "zone_vmemmap_tails",
]
