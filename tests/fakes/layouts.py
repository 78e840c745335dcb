# SPDX-License-Identifier: LGPL-2.1-or-later
"""Struct layouts as data: the members that the views read, at plausible offsets.

Where a member came and went is from kernel-reference.md 1.3, 1.5, 1.6, 2.1 and 3.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from vmemmap_tools.target.base import Member, Struct

__all__ = [
    "GENERATIONS",
    "Generation",
    "array",
    "pointer",
    "section_struct",
    "struct",
    "structs",
    "text",
    "u8",
    "u32",
    "u64",
]

MAX_NODES = 1024
ZONES = ("DMA", "DMA32", "Normal", "Movable", "Device")
ZONE_SIZE = 256
TAIL_ORDERS = 16


def u64(offset: int) -> Member:
    return Member(offset, 8, "int", "unsigned long")


def u32(offset: int) -> Member:
    return Member(offset, 4, "int", "unsigned int")


def u8(offset: int) -> Member:
    return Member(offset, 1, "int", "unsigned char")


def pointer(offset: int, depth: int = 1) -> Member:
    return Member(offset, 8, "pointer", "void " + "*" * depth, pointer_depth=depth)


def array(offset: int, length: int, size: int = 8, kind: str = "int") -> Member:
    name = f"{kind}[{length}]"
    return Member(offset, size * length, "array", name, length, kind, size)


def text(offset: int, length: int) -> Member:
    return array(offset, length, 1)


def struct(name: str, size: int, /, **members: Member) -> Struct:
    """``a__b`` stands for the nested member ``a.b``."""
    return Struct(name, size, {k.replace("__", "."): m for k, m in members.items()})


@dataclass(frozen=True)
class Generation:
    """What tells one generation from another: only presence, never a release.

    ``order_in`` is "page", "folio" or "flags_1"; ``hugetlb_by`` "page-dtor",
    "folio-dtor", "flag", "type-bit" or "type" (1.6); ``tails`` None, "array" or
    "pointer"; ``section`` names the members of mem_section after its first two.
    """

    word: str = "compound_head"
    order_in: str = "flags_1"
    hugetlb_by: str = "type"
    tails: str | None = None
    section: tuple[str, ...] = ()
    variables: tuple[str, ...] = ()
    hstate: tuple[str, ...] = ()
    section_enum: bool = True
    preinit: bool = False
    takes_pgmap: bool = True
    counters: bool = True
    extra: dict[str, int] = field(default_factory=dict)


G3 = ("vmemmap_optimize_enabled", "hugetlb_optimize_vmemmap_key")
G4 = ("vmemmap_optimize_enabled",)
GENERATIONS = {
    "5.10": Generation(
        order_in="page",
        hugetlb_by="page-dtor",
        section_enum=False,
        takes_pgmap=False,
        counters=False,
    ),
    "5.15": Generation(
        order_in="page",
        hugetlb_by="page-dtor",
        variables=("hugetlb_free_vmemmap_enabled",),
        hstate=("nr_free_vmemmap_pages",),
        section_enum=False,
        takes_pgmap=False,
        counters=False,
    ),
    "5.18": Generation(
        order_in="page",
        hugetlb_by="page-dtor",
        variables=("hugetlb_free_vmemmap_enabled_key",),
        hstate=("nr_free_vmemmap_pages",),
        section_enum=False,
        takes_pgmap=False,
        counters=False,
    ),
    "6.1": Generation(
        order_in="folio", hugetlb_by="folio-dtor", variables=G3, counters=False
    ),
    "6.7": Generation(hugetlb_by="flag", variables=G3, counters=False),
    "6.10": Generation(hugetlb_by="type-bit", variables=G3, counters=False),
    "6.12": Generation(variables=G3),
    "7.3": Generation("compound_info", tails="array", variables=G4, preinit=True),
    "G5a": Generation("compound_info", tails="array", variables=G4, section=("order",)),
    "G5b": Generation(
        "compound_info", tails="pointer", variables=G4, section=("compound_page_order",)
    ),
    "G6": Generation(
        "compound_info",
        tails="pointer",
        variables=G4,
        section=("compound_page_order", "zone"),
    ),
}
"""By the kernel they are like. 5.10 has no optimisation at all (G0)."""


def section_struct(generation: Generation, size: int, zone: str = "pointer") -> Struct:
    """mem_section of any size (2.1); ``zone`` is the type of a G6 zone field."""
    members = {"section_mem_map": u64(0), "usage": pointer(8)}
    for name in generation.section:
        if "zone" in name:
            members[name] = pointer(24) if zone == "pointer" else u32(20)
        else:
            members[name] = u32(16)
    return struct("mem_section", size, **members)


def _page(generation: Generation, size: int) -> Struct:
    members = {
        "flags": u64(0),
        "lru": Member(8, 16, "struct", "struct list_head"),
        generation.word: u64(8),
        "mapping": pointer(24),
        "private": u64(40),
        "_mapcount": Member(48, 4, "struct", "atomic_t"),
        "_refcount": Member(52, 4, "struct", "atomic_t"),
    }
    if generation.order_in == "page":
        members["compound_order"] = u8(17)
    if generation.hugetlb_by == "page-dtor":
        members["compound_dtor"] = u8(16)
    return struct("page", size, **members)


def _folio(generation: Generation, page_size: int) -> Struct | None:
    if generation.order_in == "page":
        return None
    members = {"_flags_1": u64(page_size)}
    if generation.order_in == "folio":
        members["_folio_order"] = u8(page_size + 17)
        members["_folio_dtor"] = u8(page_size + 16)
    return struct("folio", 4 * page_size, **members)


def _zone(generation: Generation) -> Struct:
    members = {
        "zone_start_pfn": u64(0),
        "spanned_pages": u64(8),
        "present_pages": u64(16),
        "managed_pages": Member(24, 8, "struct", "atomic_long_t"),
        "name": pointer(32),
    }
    if generation.tails == "array":
        members["vmemmap_tails"] = array(64, TAIL_ORDERS, kind="pointer")
    elif generation.tails == "pointer":
        members["vmemmap_tails"] = pointer(64, depth=2)
    return struct("zone", ZONE_SIZE, **members)


def _hstate(generation: Generation) -> Struct:
    members = {
        "order": u32(0),
        "nr_huge_pages": u64(8),
        "free_huge_pages": u64(16),
        "resv_huge_pages": u64(24),
        "surplus_huge_pages": u64(32),
        "nr_overcommit_huge_pages": u64(40),
        "name": text(48, 32),
        "nr_huge_pages_node": array(128, 4, 4),
        "free_huge_pages_node": array(144, 4, 4),
        "surplus_huge_pages_node": array(160, 4, 4),
    }
    members.update({name: u32(176) for name in generation.hstate})
    return struct("hstate", 192, **members)


def structs(
    generation: Generation, page_size: int, section_size: int
) -> dict[str, Struct]:
    """Every struct of a kernel of this generation, by name."""
    found = [
        _page(generation, page_size),
        section_struct(generation, section_size),
        struct("mem_section_usage", 16, subsection_map=array(0, 1)),
        _zone(generation),
        struct(
            "pglist_data",
            len(ZONES) * ZONE_SIZE,
            node_zones=array(0, len(ZONES), ZONE_SIZE, "struct"),
        ),
        _hstate(generation),
        struct("nodemask_t", MAX_NODES // 8, bits=array(0, MAX_NODES // 64)),
        struct("range", 16, start=u64(0), end=u64(8)),
        struct("xarray", 16, xa_head=pointer(8)),
        struct("xa_node", 576, shift=u8(0), slots=array(64, 64, kind="pointer")),
        struct(
            "dev_pagemap",
            256,
            altmap__base_pfn=u64(0),
            altmap__reserve=u64(16),
            altmap__free=u64(24),
            altmap__align=u64(32),
            altmap__alloc=u64(40),
            type=Member(48, 4, "enum", "enum memory_type"),
            flags=u32(52),
            vmemmap_shift=u64(56),
            nr_range=u32(64),
            range=Member(72, 16, "struct", "struct range"),
            ranges=array(72, 0, 16, "struct"),
        ),
    ]
    folio = _folio(generation, page_size)
    return {s.name: s for s in [*found, *([folio] if folio else [])]}
