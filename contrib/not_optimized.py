#!/usr/bin/env drgn
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which huge pages of a size (2M by default) are not optimised, and why?

drgn [-c vmcore -s vmlinux] contrib/not_optimized.py [SIZE_IN_MIB]
"""

import sys
from collections import Counter

from drgn import get_default_prog
from drgn.helpers.linux.mm import page_to_pfn

from vmemmap_tools.drgn_helpers import (
    folio_backing,
    for_each_hugetlb_folio,
    hugetlb_why_not_optimized,
    page_to_nid,
    vmemmap_reading,
)

page_size = get_default_prog()["PAGE_SIZE"].value_()
size = int(sys.argv[1] if len(sys.argv) > 1 else 2) << 20
count: Counter = Counter()
with vmemmap_reading():
    for page in for_each_hugetlb_folio():
        backing = folio_backing(page)
        if page_size << backing.order != size:
            continue
        reason = hugetlb_why_not_optimized(page)
        count[reason] += 1
        if reason is not None:
            pfn = page_to_pfn(page).value_()
            print(f"{pfn:#x} node {page_to_nid(page)} {backing.layout}: {reason}")

optimized = count.pop(None, 0)
others = sum(count.values())
print(f"{optimized} pages of {size >> 20} MiB are optimised, {others} are not")
for reason, number in count.most_common():
    print(f"{number:>8} {reason}")
