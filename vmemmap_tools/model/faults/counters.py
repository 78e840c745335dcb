# SPDX-License-Identifier: LGPL-2.1-or-later
"""Faults of counters: rules C1 to C4."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from vmemmap_tools.model.core import DEVICE
from vmemmap_tools.model.faults.find import choose, shared_pgmaps
from vmemmap_tools.model.faults.registry import NotApplicable, Place, fault

if TYPE_CHECKING:
    from vmemmap_tools.model.image import Image
    from vmemmap_tools.model.objects import Object

__all__: list[str] = []


def _counter(image: Image, name: str = "nr_memmap_pages") -> Object:
    if name not in image.variables:
        raise NotApplicable("this generation does not count struct pages")
    return image.variables[name]


@fault("counter-drift", "C1", "an update lost in an error path")
def drift(image: Image, rng: random.Random) -> Place:
    """nr_memmap_pages is a few pages too high."""
    counter = _counter(image)
    pages = rng.randrange(1, 6)
    counter.set_scalar(counter.get_scalar() + pages)
    return {"pages": pages}


@fault(
    "counter-failed-add",
    "C1",
    "mm/sparse-vmemmap: fix vmemmap accounting underflow",
)
def failed_add(image: Image, rng: random.Random) -> Place:
    """nr_memmap_pages was debited for sections that never came: 512 pages each."""
    counter = _counter(image)
    pages = image.core.vmemmap.entries * rng.randrange(1, 4)
    counter.set_scalar(counter.get_scalar() - pages)
    return {"pages": -pages}


@fault(
    "counter-underflow",
    "C2 C1",
    "the same imbalance on a machine that boots small",
)
def underflow(image: Image, rng: random.Random) -> Place:
    """nr_memmap_pages is negative, near 2^64 when read unsigned."""
    counter = _counter(image)
    counter.set_scalar(-rng.randrange(1, 512))
    return {"pages": counter.get_scalar() - (1 << 64)}


@fault(
    "counter-dax-surplus",
    "C3 C1",
    "mm/sparse-vmemmap: fix DAX vmemmap accounting with optimization",
)
def dax_surplus(image: Image, rng: random.Random) -> Place:
    """A DAX range was credited whole: each compound by the pages that it shares."""
    counter = _counter(image)
    pgmap = choose(rng, shared_pgmaps(image), "optimised DAX range")
    vmemmap = image.core.vmemmap
    first, end = vmemmap.page_of(pgmap.start_pfn), vmemmap.page_of(pgmap.end_pfn)
    frames = [int(frame) for frame in vmemmap.frames(first, end)[0]]
    tails = {tail.frame for tail in image.core.tails.values()}
    surplus = len(frames) - len(set(frames) - tails)
    compounds = (pgmap.end_pfn - pgmap.start_pfn) >> pgmap.shift
    counter.set_scalar(counter.get_scalar() + surplus)
    return {"name": pgmap.name, "compounds": compounds, "pages": surplus}


@fault("device-zone-present", "C4", "memory corruption in struct zone")
def device_zone_present(image: Image, rng: random.Random) -> Place:
    """A device zone claims present and managed pages."""
    zones = [
        key
        for key in sorted(image.zones)
        if key[1] == DEVICE and image.zones[key].get("spanned_pages")
    ]
    key = choose(rng, zones, "device zone")
    zone = image.zones[key]
    zone.set("present_pages", zone.get("spanned_pages"))
    zone.set("managed_pages", 512)
    return {"node": key[0]}
