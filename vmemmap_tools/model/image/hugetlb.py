# SPDX-License-Identifier: LGPL-2.1-or-later
"""hstates, and the links of the folios on their lists."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vmemmap_tools.model.hugetlb import ACTIVE, FREE, HState
from vmemmap_tools.model.image.nodes import ring
from vmemmap_tools.model.objects import Object
from vmemmap_tools.model.pages import Links
from vmemmap_tools.model.vmemmap import Array

if TYPE_CHECKING:
    from vmemmap_tools.model.image.base import Image

__all__ = ["write_hugetlb"]


def write_hugetlb(image: Image) -> Links:
    """Write all hstates; returns the list links of every folio, by head pfn."""
    pools, types, layout = image.machine.hugetlb, image.types, image.layout
    count = len(pools.hstates)
    array = layout.place("hstates", f"struct hstate [{count}]")
    size = types.sizeof("struct hstate")
    layout.variable("hugetlb_max_hstate", "int", count)
    layout.variable("default_hstate_idx", "unsigned int", 0)
    table = pools.table
    poison = image.arch.poison
    following = np.full(len(table), poison + 0x100, dtype=np.uint64)
    preceding = np.full(len(table), poison + 0x122, dtype=np.uint64)
    for hstate in pools.hstates:
        obj = Object(
            image.memory,
            types,
            "hstate",
            array.pa + hstate.index * size,
            array.va + hstate.index * size,
        )
        image.hstates.append(obj)
        _write_numbers(image, obj, hstate)
        mine = table["hstate"] == hstate.index
        _link(
            image,
            obj,
            "hugepage_activelist",
            mine & (table["list"] == ACTIVE),
            following,
            preceding,
        )
        for nid in range(types.array_length("hstate.hugepage_freelists")):
            name = f"hugepage_freelists[{nid}]"
            if nid not in image.core.nodes:
                obj.init_list(name)
                continue
            where = mine & (table["list"] == FREE) & (table["node"] == nid)
            _link(image, obj, name, where, following, preceding)
    return Links(table["pfn"], following, preceding)


def _link(
    image: Image,
    obj: Object,
    name: str,
    where: Array,
    following: Array,
    preceding: Array,
) -> None:
    """Make one list, newest folio first."""
    table = image.machine.hugetlb.table
    head = obj.init_list(name)
    rows = np.nonzero(where)[0]
    if not len(rows):
        return
    rows = rows[np.argsort(table["seq"][rows], kind="stable")[::-1]]
    start = image.page_va(0) + image.types.offsetof("page.lru")
    size = image.types.sizeof("struct page")
    nodes = table["pfn"][rows].astype(np.uint64) * np.uint64(size) + np.uint64(start)
    obj.set_list(name, int(nodes[0]), int(nodes[-1]))
    following[rows], preceding[rows] = ring(nodes, head)


def _write_numbers(image: Image, obj: Object, hstate: HState) -> None:
    core, table = image.core, image.machine.hugetlb.table
    mine = table[table["hstate"] == hstate.index]
    obj.set("order", hstate.order)
    obj.set("mask", -hstate.size)
    kilobytes = hstate.size >> 10
    obj.set_text("name", f"hugepages-{kilobytes}kB")
    obj.set("max_huge_pages", int((~mine["surplus"]).sum()))
    obj.set("nr_huge_pages", len(mine))
    obj.set("free_huge_pages", int((mine["list"] == FREE).sum()))
    obj.set("surplus_huge_pages", int(mine["surplus"].sum()))
    obj.set("resv_huge_pages", hstate.resv)
    obj.set("nr_overcommit_huge_pages", hstate.overcommit)
    smaller = [h.order for h in image.machine.hugetlb.hstates if h.order < hstate.order]
    obj.set_if("demote_order", max(smaller, default=0))
    if obj.has("nr_free_vmemmap_pages") and core.hvo:
        saved = core.vmemmap.pages_per(hstate.order) - core.generation.kept
        obj.set("nr_free_vmemmap_pages", saved)
    for nid in core.nodes:
        local = mine[mine["node"] == nid]
        obj.set(f"nr_huge_pages_node[{nid}]", len(local))
        obj.set(f"free_huge_pages_node[{nid}]", int((local["list"] == FREE).sum()))
        obj.set(f"surplus_huge_pages_node[{nid}]", int(local["surplus"].sum()))
