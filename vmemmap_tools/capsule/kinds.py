# SPDX-License-Identifier: LGPL-2.1-or-later
"""The kinds of content that may go into a capsule, and why. What has none stays out."""

from __future__ import annotations

__all__ = ["KINDS"]

KINDS = {
    "page tables": "which frames back the vmemmap, and where the rest below lies",
    "struct pages": "what the array says: heads and tails of folios, frames it uses",
    "variables": "integers, list heads and arrays of the kernel that the tool names",
    "mem_section": "roots and entries of mem_section: which sections there are",
    "mem_section_usage": "bitmap of subsections, types of pageblocks",
    "nodes and zones": "pointers to nodes and shared tail pages, names of zones",
    "pglist_data": "a node with its zones",
    "zone": "a zone",
    "hstate": "a pool of huge pages",
    "device memory": "lists and XArrays that lead to device page maps",
    "dev_pagemap": "a device page map, with its altmap",
    "range": "a range of device memory",
    "xarray": "the head of an XArray",
    "xa_node": "a node of an XArray of page maps or memory blocks",
    "memory_block": "a block of memory: its number, state and altmap",
    "vmem_altmap": "device memory that holds its own struct pages",
    "lists": "links and single members that a rule follows",
    "release": "the kernel's release, by which a dump is told from others",
}
"""Kind -> what it is needed for."""
