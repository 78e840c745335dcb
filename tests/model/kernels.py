# SPDX-License-Identifier: LGPL-2.1-or-later
"""Machines that several tests look at."""

from __future__ import annotations

from vmemmap_tools.model.boot import BootPage, NodeMemory
from vmemmap_tools.model.machine import Machine

__all__ = ["GENERATIONS", "GIB", "MIB", "guest", "small", "varied"]

MIB = 1 << 20
GIB = 1 << 30
GENERATIONS = (
    "5.14",
    "5.18",
    "6.1",
    "6.12",
    "7.2",
    "7.3",
    "section-order",
    "section-dax",
    "seed",
)


def small(generation: str, **options: object) -> Machine:
    """One node of 1 GiB."""
    return Machine(generation, {0: NodeMemory([(0, GIB)])}, **options)  # type: ignore[arg-type]


def guest(
    generation: str, gigantic: bool = True, hvo: bool = True, kmem: bool = False
) -> Machine:
    """The configuration of the real guests that the numbers of tests come from.

    8 GiB on two nodes, 2.8 GiB of it declared persistent memory, 64 + 16 + 8 - 8 pages
    of 2M, and a 1G page at the start of node 1 where KASLR allowed it.
    """
    machine = Machine(
        generation,
        {
            0: NodeMemory([(0, 2 * GIB), (7008 * MIB, 8 * GIB)]),
            1: NodeMemory([(8 * GIB, 10 * GIB)]),
        },
        hvo=hvo,
        boot_pages=[BootPage(1, GIB, 0x200000)] if gigantic else [],
    )
    machine.hugetlb_alloc("2M", 64)
    machine.dax_add("region0", "4G", "2G", align="1G", dumped=True)
    machine.dax_add("region1", "6G", "512M", align="2M", dumped=True)
    machine.dax_add("region2", "6656M", "256M", align="2M", altmap=True, dumped=True)
    machine.dax_add("region3", "6912M", "96M", fsdax=True, dumped=True)
    if kmem:
        machine.dax_to_kmem("region1")
    machine.hugetlb_alloc("2M", 16, 1).set_hvo(False).hugetlb_alloc("2M", 8, 1)
    return machine.set_hvo(hvo).hugetlb_free("2M", 8, 0)


def varied(generation: str, **options: object) -> Machine:
    """Everything at once: pools in all states, devices, mixed sections, used memory."""
    machine = Machine(
        generation,
        {
            0: NodeMemory([(0, 2 * GIB), (4 * GIB, 6912 * MIB), (7008 * MIB, 8 * GIB)]),
            1: NodeMemory([(8 * GIB, 10 * GIB)]),
        },
        boot_pages=[BootPage(1, GIB)],
        **options,  # type: ignore[arg-type]
    )
    machine.memory_use("slab", "1M").memory_use("anon", "1M").memory_use("pcp", "64K")
    machine.hugetlb_alloc("2M", 64).hugetlb_free("2M", 12)
    machine.set_hvo(False).hugetlb_alloc("2M", 8).set_hvo(True).hugetlb_use("2M", 4)
    machine.dax_add("dax0", "12G", "2G", align="1G", namespace=False, dumped=True)
    machine.dax_add("dax1", "14G", "260M", align="2M", namespace=False, dumped=True)
    machine.dax_add("dax2", "15G", "256M", altmap=True, dumped=True)
    return machine.dax_add("pmem3", "6912M", "96M", fsdax=True, dumped=True)
