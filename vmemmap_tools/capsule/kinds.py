# SPDX-License-Identifier: LGPL-2.1-or-later
"""The kinds of content that may go into a capsule: why, and in which frames each is.

What has no kind stays out, and so does a frame in which its kind cannot be.
"""

from __future__ import annotations

__all__ = ["FRAMES", "KINDS"]

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
    "identity": "host name and boot id, with --identity only",
}
"""Kind -> what it is needed for."""

IMAGE = frozenset({"kernel", "uninitialized"})
HEAP = IMAGE | {"slab", "large_kmalloc", "compound"}

FRAMES = {
    "page tables": IMAGE | {"table"},
    "struct pages": IMAGE | {"altmap", "self-hosted"},
    "variables": IMAGE,
    "hstate": IMAGE,
    "release": IMAGE,
    "identity": IMAGE,
    **dict.fromkeys(
        (
            "mem_section",
            "mem_section_usage",
            "nodes and zones",
            "pglist_data",
            "zone",
            "device memory",
            "dev_pagemap",
            "range",
            "xarray",
            "xa_node",
            "memory_block",
            "vmem_altmap",
            "lists",
        ),
        HEAP,
    ),
}
"""Kind -> the frames that can hold it, by what their own struct pages say.

"kernel" is a frame of which nothing is said, be it reserved or not: the image, memory
of memblock, and what the kernel took from the buddy allocator. Boot memory is reserved
whatever it holds, so that PG_reserved is no reason in either direction. "uninitialized"
is a struct page that nobody set up. Other words are page types, or as in `frames`.
"""
