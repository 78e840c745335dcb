# SPDX-License-Identifier: LGPL-2.1-or-later
"""What rule P8 asks of dax devices: that they and their maps mean the same memory.

Mirrors ``dev_dax_probe()`` of ``drivers/dax/device.c``, which makes the map of a device
or takes the one that dax_pmem made before.
"""

from __future__ import annotations

from collections.abc import Iterator

from ...kernel.dax_devices import DaxDevice
from ...kernel.pgmap import Pgmap
from .context import Context
from .findings import Place, Violation, hexed

__all__ = ["devices_agree"]


def devices_agree(context: Context) -> Iterator[Violation]:
    """Each dax device with a map that is in use, against that map.

    A map that ``pgmap_array`` does not have is no finding: kmem, which makes System RAM
    of a device, leaves the pointer where it was.
    """
    devices, maps = context.kernel.dax_devices, {p.va: p for p in context.kernel.pgmaps}
    if not maps:
        return
    if devices.unknown is not None:
        context.leave_out(f"dax devices: {devices.unknown}")
        return
    if devices.list.fault is not None:
        context.unread(devices.list.fault, "devices")
    if devices.list.damage is not None:
        yield Violation(
            Place("list", "devices_kset"),
            "damaged list",
            f"devices_kset has {devices.list.damage}",
            "a sound list",
            devices.list.damage,
            {"entries": len(devices.list.entries)},
        )
    taken: dict[int, DaxDevice] = {}
    for device in devices.for_each(lambda fault: context.unread(fault, "dax devices")):
        context.saw()
        pgmap = maps.get(device.pgmap_va)
        if pgmap is None:
            continue
        other = taken.setdefault(pgmap.va, device)
        if other is not device:
            yield _violation(
                "map of two devices",
                f"{other.name} and {device.name} have the same map",
                device,
                pgmap,
                other.name,
                device.name,
            )
            continue
        yield from _compare(context, device, pgmap)


def _compare(context: Context, device: DaxDevice, pgmap: Pgmap) -> Iterator[Violation]:
    """Ranges, of which a namespace's info block and altmap take the start, and align.

    Some drivers of dax devices make no compound pages: a vmemmap_shift of 0 is right
    whatever the device's align.
    """
    if not _are_the_same(device.ranges, pgmap.ranges):
        yield _violation(
            "device and map differ",
            f"{device.name} and its map mean different memory",
            device,
            pgmap,
            [f"{a:#x} to {b:#x}" for a, b in pgmap.ranges[:4]],
            [f"{a:#x} to {b:#x}" for a, b in device.ranges[:4]],
        )
    shift = (device.align >> context.geometry.page_shift).bit_length() - 1
    if pgmap.vmemmap_shift not in (0, shift):
        yield _violation(
            "align and vmemmap_shift differ",
            f"{device.name} is aligned to {device.align} bytes, but its map has "
            f"vmemmap_shift {pgmap.vmemmap_shift}",
            device,
            pgmap,
            shift,
            pgmap.vmemmap_shift,
        )


def _are_the_same(
    device: tuple[tuple[int, int], ...], pgmap: tuple[tuple[int, int], ...]
) -> bool:
    if not device or len(device) != len(pgmap):
        return False
    (start, end), (low, high) = device[0], pgmap[0]
    return low <= start < end == high and device[1:] == pgmap[1:]


def _violation(
    cause: str,
    message: str,
    device: DaxDevice,
    pgmap: Pgmap,
    expected: object,
    found: object,
) -> Violation:
    return Violation(
        Place("pgmap", pgmap.ranges[0][0] if pgmap.ranges else 0),
        cause,
        message,
        expected,
        found,
        {**hexed(dev_dax_va=device.va, pgmap_va=pgmap.va), "device": device.name},
    )
