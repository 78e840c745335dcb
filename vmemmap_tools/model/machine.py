# SPDX-License-Identifier: LGPL-2.1-or-later
"""The simulated machine: boots, then does what its user says, call by call.

Every operation returns the machine, so that calls can be chained::

    Machine("7.3").hugetlb_alloc("2M", 16).hugetlb_free("2M", 4).write("out")
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Union

from vmemmap_tools.model import boot as booting
from vmemmap_tools.model import hotplug
from vmemmap_tools.model.arch import arch_model
from vmemmap_tools.model.boot import BootPage, NodeMemory
from vmemmap_tools.model.core import DEVICE, MOVABLE, NORMAL, Core, OutOfMemory
from vmemmap_tools.model.dax import Devices
from vmemmap_tools.model.frames import Frames, Kind
from vmemmap_tools.model.generations import generation as find_generation
from vmemmap_tools.model.hugetlb import ACTIVE, ISOLATED, Pools
from vmemmap_tools.model.vmemmap import Vmemmap

if TYPE_CHECKING:
    from vmemmap_tools.model.books import Books
    from vmemmap_tools.model.image import Image

__all__ = ["Machine", "OutOfMemory", "Size", "parse_size"]

Size = Union[int, str]

USES = {
    "anon": Kind.ANON,
    "kernel": Kind.ALLOCATED,
    "pcp": Kind.PCP,
    "slab": Kind.SLAB,
}
"""What memory_use can turn free pages into."""


def parse_size(size: Size) -> int:
    """Bytes from a number or from text such as 64K, 2M, 1G, 1.5T, 0x1000."""
    if isinstance(size, int):
        return size
    text = size.strip()
    if re.fullmatch(r"0[xX][0-9a-fA-F]+", text):
        return int(text, 16)
    match = re.fullmatch(r"(\d+)(?:\.(\d+))?\s*([KMGTkmgt]?)(?:i?B)?", text)
    if match is None:
        raise ValueError(f"{size!r} is no size: write 4096, 0x1000, 64K, 2M, 1.5G")
    unit = 1 << {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}[match[3].upper()]
    part: str = match[2] or ""
    scale = int(10 ** len(part))
    bytes_, rest = divmod(int(match[1] + part) * unit, scale)
    if rest:
        raise ValueError(f"{size!r} is no whole number of bytes")
    return bytes_


class Machine:
    """A simulated kernel of one generation with its memory."""

    def __init__(
        self,
        generation: str = "7.3",
        nodes: Mapping[int, NodeMemory] | None = None,
        *,
        arch: str = "x86_64",
        levels: int = 4,
        kaslr: int | None = None,
        sme: bool = False,
        hvo: bool = True,
        boot_pages: list[BootPage] | None = None,
        extras: Sequence[str] = (),
        mms: int = 2,
        defects: bool = False,
        title: str = "",
    ) -> None:
        """Boot a machine.

        ``nodes`` gives each node's memory (default: one node of 1 GiB), ``kaslr`` the
        seed of the layout (None: no KASLR), ``extras`` names options that change
        types (layouts.EXTRAS), ``mms`` the number of processes with page tables of
        their own, ``defects`` whether the refcount that real kernels of this
        generation leave in boot-time shared tails is shown.
        """
        from vmemmap_tools.model import layouts

        model = arch_model(arch)
        table = find_generation(generation)
        if nodes is None:
            nodes = {0: NodeMemory([(0, 1 << 30)])}
        types = layouts.load(table.name, extras)
        memory = [r for node in nodes.values() for r in node.memory]
        self.title = title
        self.sme = sme
        self.release = layouts.GENERATIONS[table.name].release
        self.defects = defects
        self.kaslr = kaslr
        self.core = Core(
            generation=table,
            types=types,
            arch=model,
            placement=model.place(levels, kaslr, memory),
            hvo=hvo,
            frames=Frames(),
            vmemmap=Vmemmap(
                model.page_size, types.sizeof("struct page"), model.table_entries
            ),
        )
        sections = sum(-(-(e - s) >> model.section_size_bits) for s, e in memory)
        self.boot = booting.boot(
            self.core, dict(nodes), boot_pages or [], self._heap_pages(sections)
        )
        self.hugetlb = Pools(self.core)
        self.devices = Devices(self.core)
        self.device_dump: list[tuple[int, int]] = []
        for pfn, order, nid, populated in self.boot.gigantic:
            hstate = self.hugetlb.hstate(model.page_size << order)
            self.hugetlb.adopt(hstate, pfn, 1, nid, populated=populated)
        self.page_ext_frame = self._take_page_ext()
        runs = self.core.frames.take_frames(
            self.core.kernel_zones(min(self.core.nodes)), mms, Kind.TABLE
        )
        self.pgd_frames = [f for start, n in runs for f in range(start, start + n)]

    def _heap_pages(self, sections: int) -> int:
        """Room for section roots, usage maps, memory blocks, nodes, page tables."""
        return 4096 + sections // 2

    def _take_page_ext(self) -> int:
        """Boot memory for page_ext tables, where the configuration has them."""
        core = self.core
        if not core.types.has("mem_section.page_ext"):
            return 0
        size = core.types.sizeof("struct page_ext") * core.arch.pages_per_section
        core.page_ext_pages = len(core.sections) * -(-size // core.arch.page_size)
        return core.take_boot(min(core.nodes), core.page_ext_pages)[0][0]

    # HugeTLB

    def hugetlb_alloc(
        self, size: Size, count: int = 1, node: int | None = None, surplus: bool = False
    ) -> Machine:
        """Grow a pool; on all nodes in turn, or on one."""
        self.hugetlb.alloc(parse_size(size), count, node, surplus)
        return self

    def hugetlb_free(
        self, size: Size, count: int = 1, node: int | None = None
    ) -> Machine:
        """Shrink a pool: the vmemmap is restored and the memory freed."""
        self.hugetlb.free(parse_size(size), count, node)
        return self

    def hugetlb_demote(
        self, size: Size, count: int = 1, node: int | None = None, to: Size = "2M"
    ) -> Machine:
        """Split free folios into smaller ones."""
        self.hugetlb.demote(parse_size(size), count, node, parse_size(to))
        return self

    def hugetlb_use(
        self, size: Size, count: int = 1, node: int | None = None
    ) -> Machine:
        """Hand free folios to a process: they move to the active list."""
        heads = self.hugetlb.pick(parse_size(size), count, node)
        self.hugetlb.move(heads, ACTIVE)
        return self

    def hugetlb_isolate(
        self, size: Size, count: int = 1, node: int | None = None
    ) -> Machine:
        """Take folios in use off every list, as migration does for a moment."""
        heads = self.hugetlb.pick(parse_size(size), count, node, ACTIVE)
        self.hugetlb.move(heads, ISOLATED)
        return self

    def set_hvo(self, on: bool) -> Machine:
        """Switch the policy for folios made from now on (hugetlb_optimize_vmemmap)."""
        self.core.hvo = on
        return self

    # Devices

    def dax_add(
        self,
        name: str,
        start: Size,
        size: Size,
        *,
        align: Size = "2M",
        node: int = 0,
        altmap: bool = False,
        fsdax: bool = False,
        namespace: bool = True,
        dumped: bool = False,
    ) -> Machine:
        """Attach device memory as device DAX, or as fsdax.

        ``namespace`` puts an info block in front, as persistent memory has it;
        ``dumped`` says that the dump holds the device's memory.
        """
        first = parse_size(start)
        end = first + parse_size(size)
        hotplug.ensure_node(self.core, node)
        self.devices.add(
            name,
            first,
            end,
            node=node,
            align=parse_size(align),
            altmap=altmap,
            fsdax=fsdax,
            namespace=namespace,
        )
        if dumped:
            self.device_dump.append((first, end))
        return self

    def dax_remove(self, name: str) -> Machine:
        """Detach a device."""
        self.devices.remove(name)
        return self

    def dax_to_kmem(self, name: str, zone: str = "Normal") -> Machine:
        """Give a device's memory to the system: whole sections of it, online."""
        pgmap = self.devices.remove(name)
        pages = self.core.arch.pages_per_section
        start = -(-pgmap.data_pfn // pages) * pages
        end = pgmap.end_pfn // pages * pages
        self._memory_add(start, end, pgmap.node, zone, online=True, self_hosted=False)
        return self

    # Memory hotplug

    def memory_add(
        self,
        start: Size,
        size: Size,
        node: int = 0,
        zone: str = "Normal",
        online: bool = True,
        self_hosted: bool = False,
    ) -> Machine:
        """Hot-add system memory; ``self_hosted`` is memmap_on_memory."""
        first, last = self._pfns(start, size)
        self._memory_add(first, last, node, zone, online, self_hosted)
        return self

    def _memory_add(
        self,
        first: int,
        last: int,
        node: int,
        zone: str,
        online: bool,
        self_hosted: bool,
    ) -> None:
        index = {"Normal": NORMAL, "Movable": MOVABLE}.get(zone)
        if index is None:
            raise ValueError(f"hot-added memory goes to Normal or Movable, not {zone}")
        hotplug.add(self.core, first, last, node, index, self_hosted)
        if online:
            hotplug.online(self.core, first, last)

    def memory_online(self, start: Size, size: Size) -> Machine:
        """Online hot-added memory."""
        hotplug.online(self.core, *self._pfns(start, size))
        return self

    def memory_offline(self, start: Size, size: Size) -> Machine:
        """Offline hot-added memory that nobody uses."""
        hotplug.offline(self.core, *self._pfns(start, size))
        return self

    def memory_remove(self, start: Size, size: Size) -> Machine:
        """Offline and remove hot-added memory."""
        hotplug.remove(self.core, *self._pfns(start, size))
        return self

    def memory_use(self, kind: str, size: Size, node: int = 0) -> Machine:
        """Let somebody allocate free memory: anon, kernel, slab, or pcp (free)."""
        if kind not in USES:
            raise ValueError(f"memory is used as one of {', '.join(USES)}, not {kind}")
        count = parse_size(size) >> self.core.arch.page_shift
        zones = [k for k in self.core.kernel_zones(node) if k[0] == node]
        if kind == "anon":
            zones = [(node, MOVABLE), *zones]
        self.core.frames.take_frames(zones, count, USES[kind])
        return self

    def _pfns(self, start: Size, size: Size) -> tuple[int, int]:
        shift = self.core.arch.page_shift
        first = parse_size(start)
        return first >> shift, (first + parse_size(size)) >> shift

    def mapped_ranges(self) -> list[tuple[int, int]]:
        """Physical ranges in the direct map: all memory, devices included."""
        shift = self.core.arch.page_shift
        ranges = self._system_ranges()
        for pgmap in self.devices.pgmaps.values():
            ranges.append((pgmap.start_pfn << shift, pgmap.end_pfn << shift))
        return _merged(ranges)

    def dumped_ranges(self) -> list[tuple[int, int]]:
        """Physical ranges that a dump holds: system memory, and devices marked so."""
        return _merged(self._system_ranges() + self.device_dump)

    def _system_ranges(self) -> list[tuple[int, int]]:
        shift = self.core.arch.page_shift
        ranges = [
            (start << shift, end << shift)
            for node in self.core.nodes.values()
            for start, end in node.memory
        ]
        for section in self.core.sections.values():
            first, last = self.core.section_range(section.nr)
            state = self.core.frames.states.get(first)
            if not section.early and state is not None and state.zone != DEVICE:
                ranges.append((first << shift, last << shift))
        return ranges

    # Results

    def image(self) -> Image:
        """The machine's memory as a dump would find it now."""
        from vmemmap_tools.model.image import make_image

        return make_image(self)

    def books(self) -> Books:
        """The model's own account of this moment."""
        from vmemmap_tools.model.books import Books

        return Books(self)

    def write(
        self,
        directory: str | Path,
        *,
        kdump: bool = False,
        variant: str = "vmcore",
        faults: list[str] | None = None,
        seed: int = 0,
    ) -> Machine:
        """Write vmlinux, vmcore (and vmcore.kdump) and books.json."""
        from vmemmap_tools.model.output import write_machine

        write_machine(self, Path(directory), kdump, variant, faults or [], seed)
        return self


def _merged(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Sorted ranges, overlapping and touching ones joined."""
    out: list[tuple[int, int]] = []
    for start, end in sorted(ranges):
        if out and start <= out[-1][1]:
            out[-1] = out[-1][0], max(end, out[-1][1])
        else:
            out.append((start, end))
    return out
