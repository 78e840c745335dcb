#!/usr/bin/env drgn
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is at this faulting address in the vmemmap, and may it be written?

drgn [-c vmcore -s vmlinux] contrib/explain_fault.py ADDRESS
"""

import sys

from drgn import FaultError, Object, get_default_prog
from drgn.commands import run_command
from drgn.helpers.linux.mm import page_to_pfn

from vmemmap_tools.drgn_helpers import (
    folio_backing,
    page_vmemmap_frame,
    pfn_to_section,
    section_state,
    vmemmap_frame_mappings,
    walk_page_table,
)

if len(sys.argv) != 2:
    sys.exit(__doc__)
prog = get_default_prog()
address = int(sys.argv[1], 0)
if address < prog["vmemmap"].value_():
    sys.exit(f"the vmemmap begins at {prog['vmemmap'].value_():#x}")
for step in walk_page_table(address):
    print(f"{step.name:<4} {step.entry:#018x} {step.flags or 'not present'}")

page = Object(prog, "struct page *", address)
section = pfn_to_section(page_to_pfn(page))
state = section_state(section) if section else "not in use"
print(f"struct page of pfn {page_to_pfn(page).value_():#x}, section {state}")
frame = page_vmemmap_frame(page)
if frame is not None:
    print(f"frame {frame:#x} backs {vmemmap_frame_mappings(frame)} vmemmap pages")
try:
    backing = folio_backing(page)
    print(f"folio of order {backing.order}: {backing.layout}")
    if backing.tail_readonly and frame == backing.tail_frame:
        print("its tail struct pages are shared, and must not be written")
except (ValueError, FaultError) as error:
    print(error)

# The same in words, from the command.
run_command(prog, f"vmemmap page {address:#x}")
