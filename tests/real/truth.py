# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a guest said about itself, as plain data.

The record is a text of parts, each opened by ``@@ NAME`` and all closed by ``@@ end``.
:class:`Truth` keeps the parts as text and gives the ones that tests compare with as
dataclasses.  A page frame number ends in ``_pfn``, sizes are bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from .cache import RealError
from .devices import (
    DaxDevice,
    Namespace,
    NdDevice,
    Wanted,
    namespaces,
    parse_dax,
    parse_nd,
    parse_wanted,
)
from .memory import (
    IomemEntry,
    MemoryBlock,
    Zone,
    parse_blocks,
    parse_iomem,
    parse_zones,
)

__all__ = [
    "HeldPage",
    "IomemEntry",
    "MemoryBlock",
    "PageRun",
    "Pool",
    "Step",
    "Truth",
    "Zone",
    "parse_truth",
    "read_truth",
]


@dataclass(frozen=True)
class Pool:
    """A hugetlb pool: of one node, or of the whole system if *node* is None.

    The system keeps *reserved* and *overcommit*; of a node they are None.
    """

    size: int
    node: int | None
    total: int
    free: int
    surplus: int
    reserved: int | None
    overcommit: int | None


@dataclass(frozen=True)
class Step:
    """2M pages of node 0 and node 1 after a configured step."""

    name: str
    per_node: tuple[int, ...]


@dataclass(frozen=True)
class HeldPage:
    """A 2 MiB step that process *holder* keeps mapped."""

    holder: str
    va: int
    pfn: int


@dataclass(frozen=True)
class PageRun:
    """Pages of one class in ``/proc/kpageflags``.

    *kind* is ``huge-head`` (a run of its own), ``huge-tail``, ``nopage``, ``reserved``,
    ``zero`` (no flag set) or ``other``.
    """

    start_pfn: int
    pages: int
    kind: str


@dataclass(frozen=True)
class Truth:
    """The record of one guest."""

    parts: Mapping[str, str] = field(repr=False)

    @property
    def uname(self) -> tuple[str, str, str, str, str]:
        """Sysname, nodename, release, version and machine."""
        sysname, nodename, release, version, machine = self._lines("uname")
        return sysname, nodename, release, version, machine

    @property
    def release(self) -> str:
        """Release of the kernel."""
        return self.uname[2]

    @property
    def cmdline(self) -> str:
        """Command line of the kernel."""
        return self.parts["cmdline"].strip()

    @property
    def has_la57(self) -> bool:
        """Whether the guest has five levels of page tables."""
        return "la57" in self.parts["cpuflags"].split()

    @cached_property
    def kallsyms(self) -> dict[str, int]:
        """Addresses of the symbols of interest; absent ones are not in the dict."""
        rows = (line.split() for line in self._lines("kallsyms"))
        return {row[2]: int(row[0], 16) for row in rows}

    @cached_property
    def vmstat(self) -> dict[str, int]:
        """Counters of ``/proc/vmstat``."""
        rows = (line.split() for line in self._lines("vmstat"))
        return {row[0]: int(row[1]) for row in rows}

    @property
    def nr_memmap_pages(self) -> int | None:
        """Memmap pages allocated at run time; None if the kernel does not count."""
        return self.vmstat.get("nr_memmap_pages")

    @property
    def nr_memmap_boot_pages(self) -> int | None:
        """Memmap pages allocated at boot; None if the kernel does not count."""
        return self.vmstat.get("nr_memmap_boot_pages")

    @cached_property
    def hugetlb(self) -> list[Pool]:
        """Pools of the system (node None) and of each node."""
        return list(_parse_pools(self.parts["hugetlb"]))

    @property
    def hugetlb_optimize(self) -> int | None:
        """Whether *new* hugetlb pages are optimised; None without the sysctl."""
        text = self.parts["hugetlb-optimize"].strip()
        return int(text) if text else None

    def pool(self, size: int, node: int | None = None) -> Pool:
        """Return the pool of pages of *size* bytes of *node*.

        :raises KeyError: if there is none
        """
        for pool in self.hugetlb:
            if (pool.size, pool.node) == (size, node):
                return pool
        raise KeyError(f"no hugetlb pool of {size} bytes on node {node}")

    @cached_property
    def steps(self) -> list[Step]:
        """2M pools after each step of the configuration, in order."""
        rows = (line.split() for line in self._lines("steps"))
        return [Step(row[0], tuple(map(int, row[1:]))) for row in rows]

    @cached_property
    def memory_blocks(self) -> list[MemoryBlock]:
        """Hot-pluggable memory blocks, in order of their number."""
        return parse_blocks(self.parts["memory"], self.parts["memory-nodes"])

    @property
    def block_size(self) -> int:
        """Bytes of a memory block."""
        found = re.search(r"/block_size_bytes:(\w+)", self.parts["memory"])
        assert found is not None
        return int(found.group(1), 16)

    @cached_property
    def zones(self) -> list[Zone]:
        """Zones of each node as ``/proc/zoneinfo`` lists them, empty ones too."""
        return parse_zones(self.parts["zoneinfo"])

    @cached_property
    def iomem(self) -> list[IomemEntry]:
        """Lines of ``/proc/iomem``."""
        return parse_iomem(self.parts["iomem"])

    @cached_property
    def page_runs(self) -> list[PageRun]:
        """``/proc/kpageflags`` in runs of one class."""
        rows = (line.split() for line in self._lines("kpageflags"))
        return [PageRun(int(row[0], 16), int(row[1]), row[2]) for row in rows]

    @property
    def hugetlb_head_pfns(self) -> list[int]:
        """Head of each hugetlb page, ascending."""
        return [run.start_pfn for run in self.page_runs if run.kind == "huge-head"]

    @cached_property
    def held(self) -> list[HeldPage]:
        """Pages that processes keep mapped."""
        return list(_parse_held(self._lines("held")))

    @cached_property
    def nd_devices(self) -> dict[str, NdDevice]:
        """Devices of the persistent memory bus by name."""
        return parse_nd(self.parts["nd"])

    @cached_property
    def dax_devices(self) -> dict[str, DaxDevice]:
        """Devices of the DAX bus by name."""
        return parse_dax(self.parts["dax"], self.parts["dax-links"])

    @cached_property
    def namespaces(self) -> list[Namespace]:
        """Namespaces as the kernel made them, by region."""
        return namespaces(self.nd_devices, self.dax_devices)

    @cached_property
    def wanted(self) -> list[Wanted]:
        """Namespaces as they were asked for; compare with :attr:`nd_devices`."""
        return parse_wanted(self.parts["nd-wanted"])

    @property
    def complaints(self) -> list[str]:
        """What the configuration asked for and the kernel refused."""
        names = ("modules-failed", "nd-refused", "held-errors")
        return [line for name in names for line in self._lines(name)]

    def _lines(self, part: str) -> list[str]:
        return self.parts[part].splitlines()


def read_truth(path: Path) -> Truth:
    """Return the record in file *path*."""
    return parse_truth(path.read_text(errors="replace"))


def parse_truth(text: str) -> Truth:
    """Return the record *text*.

    :raises RealError: if it was cut short
    """
    parts: dict[str, str] = {}
    for chunk in re.split(r"^@@ ", text, flags=re.M)[1:]:
        name, _, body = chunk.partition("\n")
        parts[name.strip()] = body
    if "end" not in parts:
        raise RealError("the guest's record has no end: it was cut short")
    return Truth(parts)


def _parse_pools(text: str) -> Iterator[Pool]:
    pools: dict[tuple[int, int | None], dict[str, int]] = {}
    pattern = r"^\S*?(?:/node(\d+))?/hugepages/hugepages-(\d+)kB/(\w+):(\d+)$"
    for node, kilobytes, name, value in re.findall(pattern, text, re.M):
        key = (int(kilobytes) << 10, int(node) if node else None)
        pools.setdefault(key, {})[name] = int(value)
    for (size, owner), values in pools.items():
        yield Pool(
            size=size,
            node=owner,
            total=values["nr_hugepages"],
            free=values["free_hugepages"],
            surplus=values["surplus_hugepages"],
            reserved=values.get("resv_hugepages"),
            overcommit=values.get("nr_overcommit_hugepages"),
        )


def _parse_held(lines: list[str]) -> Iterator[HeldPage]:
    for line in lines:
        path, _, text = line.partition(":")
        words = text.split()
        if len(words) == 2:
            yield HeldPage(
                path.rsplit("/", 1)[-1], int(words[0], 16), int(words[1], 16)
            )
