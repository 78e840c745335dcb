# SPDX-License-Identifier: LGPL-2.1-or-later
"""System memory that comes and goes at run time.

Mirrors mm/memory_hotplug.c: ``add_memory_resource``, ``online_pages``,
``offline_pages``, ``try_remove_memory``.
"""

from __future__ import annotations

from vmemmap_tools.model import populate
from vmemmap_tools.model.core import MOVABLE, NORMAL, Core, Node, Zone
from vmemmap_tools.model.frames import Kind, OutOfMemory, PageRun

__all__ = ["add", "ensure_node", "offline", "online", "remove"]


def ensure_node(core: Core, nid: int) -> Node:
    """The node ``nid``, created without memory if there is none."""
    if nid not in core.nodes:
        core.nodes[nid] = Node(nid, [], [Zone(nid, index) for index in range(5)])
    return core.nodes[nid]


def add(
    core: Core, start: int, end: int, nid: int, zone: int, self_hosted: bool
) -> None:
    """Hot-add the pfns [start, end), whole sections; they are offline at first.

    ``self_hosted`` takes each section's vmemmap from its own first frames
    (memmap_on_memory); kernels that could not combine that with HVO ignore it.
    """
    pages = core.arch.pages_per_section
    if start % pages or end % pages or start >= end:
        raise ValueError("memory is hot-added in whole sections")
    if zone not in (NORMAL, MOVABLE):
        raise ValueError("hot-added memory goes to zone Normal or Movable")
    taken = [nr for nr in core.sections_of(start, end) if nr in core.sections]
    if taken:
        raise ValueError(f"section {taken[0]:#x} is present already")
    ensure_node(core, nid)
    if core.hvo and not core.generation.self_hosted_test:
        self_hosted = False
    for nr, a, b in populate.slices(core, start, end):
        section = populate.activate(core, nr, nid, a, b)
        section.zone = (nid, zone)
        core.frames.declare(a, b, PageRun(Kind.OFFLINE, nid, zone))
        if self_hosted:
            first = core.vmemmap.page_of(a)
            length = core.vmemmap.page_of(pages)
            core.vmemmap.map_linear(first, [(a, length)], "self-hosted")
            core.frames.turn(a, a + length, Kind.SELF_HOSTED)
            core.nr_memmap += length
        else:
            populate.populate_plain(core, a, b, nid)


def online(core: Core, start: int, end: int) -> None:
    """Give hot-added memory to the buddy allocator."""
    for nr, a, b in populate.slices(core, start, end):
        section = core.sections[nr]
        if section.online:
            continue
        section.online = True
        run = core.frames.states.get(a)
        assert run is not None
        zone = core.nodes[run.node].zones[run.zone]
        zone.grow(a, b)
        zone.present += b - a
        zone.reserved += core.frames.count(a, b, Kind.SELF_HOSTED)
        for s, e, state in list(core.frames.states.runs(a, b)):
            if state.kind is Kind.OFFLINE:
                core.frames.release(s, e)


def offline(core: Core, start: int, end: int) -> None:
    """Take memory from the buddy allocator; OutOfMemory if any of it is in use."""
    for nr, a, b in populate.slices(core, start, end):
        section = core.sections[nr]
        if section.early:
            raise ValueError(f"section {nr:#x} came from boot: the model keeps it")
        if not section.online:
            continue
        for s, e, state in core.frames.states.runs(a, b):
            if state.kind not in (Kind.FREE, Kind.SELF_HOSTED):
                raise OutOfMemory(f"pfn {s:#x}-{e:#x} is {state.kind.value}")
        run = core.frames.states.get(a)
        assert run is not None
        section.online = False
        zone = core.nodes[run.node].zones[run.zone]
        zone.present -= b - a
        zone.reserved -= core.frames.count(a, b, Kind.SELF_HOSTED)
        for s, e, state in list(core.frames.states.runs(a, b)):
            if state.kind is Kind.FREE:
                core.frames.turn(s, e, Kind.OFFLINE)
        _shrink(core, zone)


def _shrink(core: Core, zone: Zone) -> None:
    """Let a zone span what is still online in it."""
    zone_start, zone_end = zone.start_pfn, zone.end_pfn
    zone.start_pfn = zone.end_pfn = 0
    for s, e, run in core.frames.states.runs(zone_start, zone_end):
        if run.zone_key == zone.key and run.kind not in (Kind.OFFLINE, Kind.HOLE):
            section = core.sections[core.sections_of(s, e)[0]]
            if section.online:
                zone.grow(s, e)


def remove(core: Core, start: int, end: int) -> None:
    """Offline and hot-remove the pfns [start, end), whole sections."""
    offline(core, start, end)
    for nr, a, b in populate.slices(core, start, end):
        populate.deactivate(core, nr, a, b)
        core.frames.forget(a, b)
