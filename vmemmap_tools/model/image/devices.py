# SPDX-License-Identifier: LGPL-2.1-or-later
"""dev_pagemaps, dax devices, and the xarray that finds a pgmap by pfn."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmemmap_tools.model.image.xarray import write_xarray
from vmemmap_tools.model.objects import Object

if TYPE_CHECKING:
    from vmemmap_tools.model.dax import Pgmap
    from vmemmap_tools.model.image.base import Image

__all__ = ["write_devices"]

PGMAP_ALTMAP_VALID = 1


def write_devices(image: Image) -> dict[int, int]:
    """Write all devices; returns the address of each pgmap by its id."""
    array = image.layout.place("pgmap_array", "struct xarray", static=True)
    bus = image.layout.place("dax_bus_type", "struct bus_type", static=True)
    addresses = {}
    entries = []
    for pgmap in image.machine.devices.pgmaps.values():
        obj = image.heap.object("dev_pagemap")
        image.pgmaps[pgmap.name] = obj
        addresses[pgmap.ident] = obj.va
        entries.append((pgmap.start_pfn, pgmap.end_pfn - 1, obj.va))
        _write_pgmap(image, obj, pgmap)
        if not pgmap.fsdax and image.types.has_type("struct dev_dax"):
            _write_dax(image, obj, pgmap, bus)
    write_xarray(image.heap, array, entries)
    _write_list(image)
    return addresses


def _write_pgmap(image: Image, obj: Object, pgmap: Pgmap) -> None:
    types = image.types
    shift = image.arch.page_shift
    kind = "MEMORY_DEVICE_FS_DAX" if pgmap.fsdax else "MEMORY_DEVICE_GENERIC"
    obj.set("type", types.enumerator(kind))
    obj.set_if("vmemmap_shift", pgmap.shift)
    obj.set("nr_range", 1)
    obj.set("range.start", pgmap.start_pfn << shift)
    obj.set("range.end", (pgmap.end_pfn << shift) - 1)
    if pgmap.altmap is None:
        return
    altmap = pgmap.altmap
    obj.set("flags", PGMAP_ALTMAP_VALID)
    obj.set("altmap.base_pfn", altmap.base_pfn)
    obj.set("altmap.end_pfn", pgmap.end_pfn - 1)
    obj.set("altmap.reserve", altmap.reserve)
    obj.set("altmap.free", altmap.free)
    obj.set("altmap.align", altmap.align)
    obj.set("altmap.alloc", altmap.alloc)


def _write_dax(image: Image, pgmap_obj: Object, pgmap: Pgmap, bus: Object) -> None:
    """The dax device over a pgmap, as the driver's private structures show it."""
    shift = image.arch.page_shift
    start, end = pgmap.data_pfn << shift, (pgmap.end_pfn << shift) - 1
    region = image.heap.object("dax_region")
    region.set("id", pgmap.ident)
    region.set("target_node", pgmap.node)
    region.set("align", pgmap.align)
    region.set_if("res.start", start)
    region.set_if("res.end", end)
    dax = image.heap.object("dev_dax")
    dax.set("region", region.va)
    dax.set("target_node", pgmap.node)
    dax.set("align", pgmap.align)
    dax.set("id", 0)
    dax.set("pgmap", pgmap_obj.va)
    dax.set("nr_range", 1)
    ranges = image.heap.object("dev_dax_range")
    ranges.set("range.start", start)
    ranges.set("range.end", end)
    dax.set("ranges", ranges.va)
    dax.set("dev.kobj.name", image.heap.text(f"dax{pgmap.ident}.0"))
    dax.set("dev.bus", bus.va)
    image.dax_devices[pgmap.name] = dax
    image.dax_ranges[pgmap.name] = ranges


def _write_list(image: Image) -> None:
    """devices_kset, which links every device: those of the dax bus and one of none."""
    heap = image.heap
    other = heap.object("device")
    other.set("kobj.name", heap.text("root"))
    # struct kset begins with its list.
    kset = heap.object("list_head")
    image.layout.variable("devices_kset", "struct kset *", kset.va)
    links = [(kset, ""), (other, "kobj.entry.")]
    links += [(dax, "dev.kobj.entry.") for dax in image.dax_devices.values()]
    places = [obj.address(f"{path}next") for obj, path in links]
    for i, (obj, path) in enumerate(links):
        obj.set(f"{path}next", places[(i + 1) % len(links)])
        obj.set(f"{path}prev", places[i - 1])
