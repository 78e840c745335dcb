# SPDX-License-Identifier: LGPL-2.1-or-later
"""The devices that the dax bus has registered, against what sysfs said of them.

No verb tells them, so that only what is read in this process can be asked.
"""

from __future__ import annotations

from vmemmap_tools.target.base import Fault

from .compare import Compare
from .dumps import Dump
from .truth import Truth


def test_dax_devices_are_those_of_sysfs(
    dump: Dump, truth: Truth, compare: Compare
) -> None:
    """A device whose driver is device_dax has a map in pgmap_array, kmem's has none."""
    devices = dump.kernel.dax_devices
    assert devices.unknown is None
    assert devices.list.is_complete, devices.list
    faults: list[Fault] = []
    maps = {pgmap.va for pgmap in dump.kernel.pgmaps}
    ours = {
        d.name: (d.align, sum(b - a for a, b in d.ranges) << 12, d.pgmap_va in maps)
        for d in devices.for_each(faults.append)
    }
    judge = {
        d.name: (d.align, d.size, d.driver == "device_dax")
        for d in truth.dax_devices.values()
    }
    assert faults == [] and judge
    compare.equal(
        "dax devices (align, size, has a map in use) = sysfs",
        ours,
        judge,
        f"{len(judge)} of {len(devices.list.entries)} devices",
    )
