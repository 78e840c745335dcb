# SPDX-License-Identifier: LGPL-2.1-or-later
"""pglist_data, zones, their free lists and shared tail pages."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vmemmap_tools.model.core import DEVICE, Zone
from vmemmap_tools.model.frames import Kind
from vmemmap_tools.model.objects import Object
from vmemmap_tools.model.pages import Links
from vmemmap_tools.model.runs import PageSet
from vmemmap_tools.model.vmemmap import Array

if TYPE_CHECKING:
    from vmemmap_tools.model.image.base import Image

__all__ = ["buddy_blocks", "ring", "write_nodes"]

PERCPU_BASE = 0x10000
"""Per-cpu pointers are offsets from __per_cpu_offset[cpu], as if linked here."""


def buddy_blocks(free: PageSet, max_order: int) -> tuple[Array, Array]:
    """Cut free intervals into maximal naturally aligned blocks: pfns and orders."""
    pfns: list[Array] = []
    orders: list[Array] = []
    singles: list[int] = []
    single_orders: list[int] = []
    largest = 1 << max_order
    for start, end in free:
        middle = -(-start // largest) * largest
        stop = end // largest * largest
        if middle < stop:
            edges = [(start, middle), (stop, end)]
            big = np.arange(middle, stop, largest)
            pfns.append(big)
            orders.append(np.full(len(big), max_order))
        else:
            edges = [(start, end)]
        for at, high in edges:
            pfn = at
            while pfn < high:
                order = min((high - pfn).bit_length() - 1, max_order)
                if pfn:
                    order = min(order, (pfn & -pfn).bit_length() - 1)
                singles.append(pfn)
                single_orders.append(order)
                pfn += 1 << order
    pfns.append(np.array(singles, dtype=np.int64))
    orders.append(np.array(single_orders, dtype=np.int64))
    joined = np.concatenate(pfns)
    index = np.argsort(joined)
    return joined[index], np.concatenate(orders)[index]


def ring(nodes: Array, head: int) -> tuple[Array, Array]:
    """Neighbours of list nodes in a circular list: (following, preceding)."""
    ends = np.array([head], dtype=np.uint64)
    return np.concatenate([nodes[1:], ends]), np.concatenate([ends, nodes[:-1]])


def write_nodes(image: Image) -> tuple[Links, Array]:
    """Write all nodes; returns the links and orders of free blocks and pcp pages."""
    core, types, layout = image.core, image.types, image.layout
    pointers = {}
    for nid in sorted(core.nodes):
        node = image.heap.object("pglist_data")
        image.nodes[nid] = node
        pointers[nid] = node.va
    length = types.array_length("hstate.nr_huge_pages_node")
    layout.pointers("node_data", f"struct pglist_data *[{length}]", pointers)
    percpu = _percpu_offset(image)
    parts: list[tuple[Array, Array, Array, Array]] = []
    for nid, node in image.nodes.items():
        state = core.nodes[nid]
        node.set("node_id", nid)
        node.set(
            "nr_zones", max((z.index + 1 for z in state.zones if z.present), default=0)
        )
        node.set("node_start_pfn", state.start_pfn)
        node.set("node_spanned_pages", state.end_pfn - state.start_pfn)
        node.set("node_present_pages", sum(z.present for z in state.zones))
        for zone in state.zones:
            _write_zone(image, node, zone, percpu, parts)
    _write_node_states(image)
    return _joined(parts)


def _joined(parts: list[tuple[Array, Array, Array, Array]]) -> tuple[Links, Array]:
    if not parts:
        return Links.empty(), np.zeros(0, dtype=np.uint64)
    pfns, following, preceding, orders = (
        np.concatenate(column) for column in zip(*parts)
    )
    at = np.argsort(pfns)
    return Links(pfns[at], following[at], preceding[at]), orders[at]


def _percpu_offset(image: Image) -> int:
    """__per_cpu_offset of the one CPU, such that percpu addresses lie in the heap."""
    area = image.heap.take(256 << 10, image.arch.page_size) + image.heap.offset
    offset = area - PERCPU_BASE
    image.layout.pointers(
        "__per_cpu_offset", "unsigned long [8192]", {0: offset & (1 << 64) - 1}
    )
    image.facts["percpu_area"] = area
    return PERCPU_BASE


def _write_zone(
    image: Image,
    node: Object,
    zone: Zone,
    percpu: int,
    parts: list[tuple[Array, Array, Array, Array]],
) -> None:
    core, types = image.core, image.types
    path = f"node_zones[{zone.index}]"
    offset = types.offsetof(f"pglist_data.{path}")
    obj = Object(image.memory, types, "zone", node.pa + offset, node.va + offset)
    image.zones[zone.key] = obj
    obj.set("zone_pgdat", node.va)
    obj.set("node", zone.node)
    obj.set("name", image.heap.text(zone.name))
    obj.set("zone_start_pfn", zone.start_pfn)
    obj.set("spanned_pages", zone.spanned)
    obj.set("present_pages", zone.present)
    obj.set("managed_pages", zone.present - zone.reserved)
    early = sum(
        max(0, min(e, zone.end_pfn) - max(s, zone.start_pfn))
        for s, e in core.nodes[zone.node].memory
    )
    obj.set_if("present_early_pages", early)
    obj.set_if("initialized", int(zone.present > 0))
    free = core.frames.free.get(zone.key, PageSet())
    nr_free = types.enumerator("NR_FREE_PAGES")
    obj.set(f"vm_stat[{nr_free}]", len(free))
    _write_free_lists(image, obj, free, parts)
    _write_pcp(image, obj, zone, percpu, parts)
    _write_tails(image, obj, zone)


def _lru_nodes(image: Image, pfns: Array) -> Array:
    size = image.types.sizeof("struct page")
    start = image.core.placement.vmemmap_base + image.types.offsetof("page.lru")
    out: Array = pfns.astype(np.uint64) * np.uint64(size) + np.uint64(start)
    return out


def _write_free_lists(
    image: Image,
    zone: Object,
    free: PageSet,
    parts: list[tuple[Array, Array, Array, Array]],
) -> None:
    types = image.types
    orders = types.array_length("zone.free_area")
    kinds = types.array_length("free_area.free_list")
    movable = types.enumerator("MIGRATE_MOVABLE")
    pfns, sizes = buddy_blocks(free, orders - 1)
    for order in range(orders):
        mine = pfns[sizes == order]
        zone.set(f"free_area[{order}].nr_free", len(mine))
        for kind in range(kinds):
            head = zone.init_list(f"free_area[{order}].free_list[{kind}]")
            if kind != movable or not len(mine):
                continue
            nodes = _lru_nodes(image, mine)
            zone.set_list(
                f"free_area[{order}].free_list[{kind}]", int(nodes[0]), int(nodes[-1])
            )
            following, preceding = ring(nodes, head)
            parts.append((mine, following, preceding, np.full(len(mine), order)))


def _write_pcp(
    image: Image,
    obj: Object,
    zone: Zone,
    percpu: int,
    parts: list[tuple[Array, Array, Array, Array]],
) -> None:
    """The per-cpu page lists of the one CPU: all pages on the movable order-0 list."""
    types = image.types
    area = image.facts["percpu_area"]
    size = types.sizeof("struct per_cpu_pages")
    slot = (zone.node * 8 + zone.index) * -(-size // 64) * 64
    place = area + slot - image.heap.offset
    pcp = Object(image.memory, types, "per_cpu_pages", place, area + slot)
    obj.set("per_cpu_pageset", percpu + slot)
    pages = [
        np.arange(s, e)
        for s, e, run in image.core.frames.states.runs(zone.start_pfn, zone.end_pfn)
        if run.kind is Kind.PCP and run.zone_key == zone.key
    ]
    for index in range(types.array_length("per_cpu_pages.lists")):
        pcp.init_list(f"lists[{index}]")
    if not pages:
        return
    pfns = np.concatenate(pages)
    movable = types.enumerator("MIGRATE_MOVABLE")
    nodes = _lru_nodes(image, pfns)
    pcp.set("count", len(pfns))
    pcp.set_list(f"lists[{movable}]", int(nodes[0]), int(nodes[-1]))
    following, preceding = ring(nodes, pcp.address(f"lists[{movable}]"))
    parts.append((pfns, following, preceding, np.zeros(len(pfns), dtype=np.int64)))


def _write_tails(image: Image, obj: Object, zone: Zone) -> None:
    """zone.vmemmap_tails: an array, or a pointer to one where it is dynamic."""
    core, types = image.core, image.types
    if not types.has("zone.vmemmap_tails"):
        return
    mine = {k[2]: tail for k, tail in core.tails.items() if k[:2] == zone.key}
    if types.is_array("zone.vmemmap_tails"):
        for order, tail in mine.items():
            index = order - core.min_order
            obj.set(f"vmemmap_tails[{index}]", image.page_va(tail.frame))
        return
    if not mine:
        return
    length = core.arch.max_folio_order - core.min_order + 1
    array = image.heap.take(8 * length)
    obj.set("vmemmap_tails", array + image.heap.offset)
    for order, tail in mine.items():
        index = order - core.min_order
        image.write64(array + 8 * index, image.page_va(tail.frame))


def _write_node_states(image: Image) -> None:
    core, types, layout = image.core, image.types, image.layout
    count = types.enumerator("NR_NODE_STATES")
    states = layout.place("node_states", f"nodemask_t [{count}]")
    size = types.sizeof("nodemask_t")
    present = [
        n for n, node in core.nodes.items() if any(z.present for z in node.zones)
    ]
    normal = [
        n
        for n, node in core.nodes.items()
        if any(z.present for z in node.zones if z.index < DEVICE - 1)
    ]
    everything = list(core.nodes)
    for name, nids in (
        ("N_POSSIBLE", everything),
        ("N_ONLINE", everything),
        ("N_NORMAL_MEMORY", normal),
        ("N_MEMORY", present),
        ("N_CPU", everything[:1]),
    ):
        bits = sum(1 << nid for nid in nids)
        place = states.pa + size * types.enumerator(name)
        image.memory.write(place, bits.to_bytes(size, "little"))
