# SPDX-License-Identifier: LGPL-2.1-or-later
"""Small machines with everything that the verbs read, and targets in each part."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Callable

from tests.model.kernels import GIB, MIB
from tests.sweep.described import SelfDescribedSweep
from tests.sweep.leave_out import Sweep
from vmemmap_tools.model.boot import BootPage, NodeMemory
from vmemmap_tools.model.machine import Machine

__all__ = ["MACHINES", "sweep_of"]


def mixed(generation: str) -> Machine:
    """Two nodes, pools of 2M and 1G pages, devices with and without altmap."""
    machine = Machine(
        generation,
        {
            0: NodeMemory([(0, GIB), (4 * GIB, 6 * GIB)]),
            1: NodeMemory([(8 * GIB, 8 * GIB + 512 * MIB)]),
        },
        boot_pages=[BootPage(0, GIB)],
    )
    machine.memory_use("slab", "1M").memory_use("anon", "1M")
    machine.hugetlb_alloc("2M", 8).hugetlb_free("2M", 2)
    machine.set_hvo(False).hugetlb_alloc("2M", 3).set_hvo(True).hugetlb_use("2M", 2)
    machine.dax_add("dax0", "12G", "1G", align="1G", namespace=False, dumped=True)
    machine.dax_add("dax1", "14G", "132M", align="2M", namespace=False, dumped=True)
    machine.dax_add("dax2", "15G", "128M", altmap=True, dumped=True)
    return machine


def hot_added(generation: str) -> Machine:
    """Memory added after boot: self-hosted, plain, and one block left offline."""
    machine = Machine(generation, {0: NodeMemory([(0, GIB)])})
    machine.memory_add("4G", "256M", zone="Movable", self_hosted=True)
    machine.memory_add("5G", "128M").memory_add("6G", "128M", online=False)
    return machine.hugetlb_alloc("2M", 60)


MACHINES: Mapping[str, Callable[[], Machine]] = {
    "5.14": lambda: mixed("5.14"),
    "6.1": lambda: mixed("6.1"),
    "6.12": lambda: mixed("6.12"),
    "7.3": lambda: mixed("7.3"),
    "section-dax": lambda: mixed("section-dax"),
    "seed": lambda: mixed("seed"),
    "hot-added 6.12": lambda: hot_added("6.12"),
    "hot-added 7.3": lambda: hot_added("7.3"),
    "7.3 without vmlinux": lambda: mixed("7.3"),
}


def sweep_of(name: str) -> Sweep:
    """The sweep over one of these machines."""
    kind = SelfDescribedSweep if name.endswith("without vmlinux") else Sweep
    return kind(name, MACHINES[name]())
