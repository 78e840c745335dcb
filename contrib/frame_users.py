#!/usr/bin/env drgn
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who maps this frame as part of the vmemmap, and whose struct pages are there?

drgn [-c vmcore -s vmlinux] contrib/frame_users.py PFN
"""

import sys
from itertools import islice

from drgn import FaultError
from drgn.helpers.linux.mm import page_to_pfn

from vmemmap_tools.drgn_helpers import (
    folio_backing,
    for_each_vmemmap_page_of_frame,
    for_each_zone,
    vmemmap_frame_mappings,
    vmemmap_reading,
    zone_vmemmap_tails,
)

SHOWN = 32

if len(sys.argv) != 2:
    sys.exit(__doc__)
frame = int(sys.argv[1], 0)
with vmemmap_reading():
    mappings = vmemmap_frame_mappings(frame)
    print(f"frame {frame:#x} stands behind {mappings} pages of the vmemmap")
    for zone in for_each_zone():
        for order, page in zone_vmemmap_tails(zone):
            # A shared tail page is known by the struct page of its frame.
            if page_to_pfn(page) == frame:
                name = zone.name.string_().decode()
                print(f"it is the shared tail page of zone {name}, order {order}")
    for page in islice(for_each_vmemmap_page_of_frame(frame), SHOWN):
        try:
            backing = folio_backing(page)
            head = page_to_pfn(backing.head).value_()
            owner = f"folio {head:#x}, order {backing.order}, {backing.layout}"
        except (ValueError, FaultError) as error:
            owner = str(error)
        print(f"{page.value_():#x} pfn {page_to_pfn(page).value_():#x}: {owner}")
    if mappings > SHOWN:
        print(f"... and {mappings - SHOWN} more")
