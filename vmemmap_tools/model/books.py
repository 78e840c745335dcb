# SPDX-License-Identifier: LGPL-2.1-or-later
"""The model's own account: what backs every vmemmap page and why, pools, counters.

Tests compare a tool's answers with these books. They are made from the machine's
records, never from the image that a tool reads.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vmemmap_tools.formats.output import output_file
from vmemmap_tools.model.hugetlb import ACTIVE, FREE, ISOLATED, folio_name
from vmemmap_tools.model.vmemmap import Backing

if TYPE_CHECKING:
    from vmemmap_tools.model.machine import Machine

__all__ = ["SCHEMA", "Books", "Leaf", "private_pages"]

SCHEMA = "vmemmap_tools.model.books/1"

_LISTS = {FREE: "free", ACTIVE: "active", ISOLATED: "isolated"}


@dataclass(frozen=True)
class Leaf:
    """How one vmemmap page is mapped."""

    frame: int
    writable: bool
    level: int
    """1 for a PTE, 2 for a PMD leaf."""
    why: str


def private_pages(start: int, end: int, backing: Backing) -> int:
    """How many vmemmap pages of a ledger run have a frame of their own."""
    if not backing.period:
        return end - start
    full, rest = divmod(end - backing.origin, backing.period)
    before, part = divmod(start - backing.origin, backing.period)
    kept = backing.kept
    return (full - before) * kept + min(rest, kept) - min(part, kept)


class Books:
    """A snapshot of a machine's account."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        vmemmap = machine.core.vmemmap
        self._runs = list(vmemmap.runs())
        self._starts = [start for start, _, _ in self._runs]
        self._tables = set(vmemmap.tables)
        self._entries = vmemmap.entries
        self._spp = vmemmap.spp
        self.data = self._account()

    def leaf(self, vmemmap_page: int) -> Leaf | None:
        """How a vmemmap page is mapped; None if it is not."""
        index = int(np.searchsorted(self._starts, vmemmap_page, side="right")) - 1
        if index < 0:
            return None
        start, end, backing = self._runs[index]
        if not start <= vmemmap_page < end:
            return None
        frames, tails = backing.frames(np.array([vmemmap_page]))
        level = 1 if vmemmap_page // self._entries in self._tables else 2
        read_only = bool(tails[0]) and backing.tails != "rw"
        return Leaf(int(frames[0]), not read_only, level, backing.why)

    def leaf_of(self, pfn: int) -> Leaf | None:
        """How the vmemmap page with the struct page of ``pfn`` is mapped."""
        return self.leaf(pfn // self._spp)

    def __getitem__(self, key: str) -> Any:
        return self.data[key]

    def write(self, path: Path) -> None:
        """Write the account as JSON."""
        with output_file(path, may_replace=True) as file:
            file.write((json.dumps(self.data, indent=1) + "\n").encode())

    def _account(self) -> dict[str, Any]:
        machine = self._machine
        core = machine.core
        placement, generation = core.placement, core.generation
        return {
            "schema": SCHEMA,
            "title": machine.title,
            "generation": generation.name,
            "family": generation.letter,
            "release": machine.release,
            "arch": core.arch.name,
            "levels": placement.space.levels,
            "page_size": core.arch.page_size,
            "struct_page_size": core.types.sizeof("struct page"),
            "vmemmap_base_va": hex(placement.vmemmap_base),
            "page_offset_va": hex(placement.page_offset),
            "kaslr_offset": hex(placement.kaslr_offset),
            "phys_base": placement.phys_base,
            "hvo": core.hvo,
            "kept_pages": generation.kept,
            "memory": [
                {"start_pa": start, "end_pa": end}
                for start, end in machine.dumped_ranges()
            ],
            "nodes": self._nodes(),
            "zones": self._zones(),
            "sections": self._sections(),
            "shared_tails": self._shared_tails(),
            "vmemmap": self._vmemmap(),
            "backing": [self._backing_row(*run) for run in self._runs],
            "hstates": self._hstates(),
            "folios": self._folios(),
            "pgmaps": self._pgmaps(),
            "counters": self._counters(),
            "static_key": self._static_key(),
            "faults": [],
        }

    def _nodes(self) -> list[dict[str, Any]]:
        return [
            {
                "node": nid,
                "start_pfn": node.start_pfn,
                "spanned_pages": node.end_pfn - node.start_pfn,
                "present_pages": sum(z.present for z in node.zones),
            }
            for nid, node in sorted(self._machine.core.nodes.items())
        ]

    def _zones(self) -> list[dict[str, Any]]:
        frames = self._machine.core.frames
        return [
            {
                "node": nid,
                "zone": zone.name,
                "index": zone.index,
                "start_pfn": zone.start_pfn,
                "spanned_pages": zone.spanned,
                "present_pages": zone.present,
                "managed_pages": zone.present - zone.reserved,
                "free_pages": len(frames.free.get(zone.key, ())),
            }
            for nid, node in sorted(self._machine.core.nodes.items())
            for zone in node.zones
        ]

    def _sections(self) -> list[dict[str, Any]]:
        """Runs of sections that look the same."""
        core = self._machine.core
        rows: list[dict[str, Any]] = []
        for nr, section in sorted(core.sections.items()):
            first = nr * self._entries
            leaf = "pte" if nr in self._tables else "pmd"
            row = {
                "first": nr,
                "count": 1,
                "node": section.nid,
                "online": section.online,
                "early": section.early,
                "taint_zone_device": section.taint,
                "preinit": section.preinit,
                "order": section.order,
                "subsections": hex(section.subsections),
                "mapped_pages": core.vmemmap.mapped(first, first + self._entries),
                "leaf": leaf,
            }
            last = rows[-1] if rows else None
            same = last is not None and all(
                last[k] == v for k, v in row.items() if k not in ("first", "count")
            )
            if last is not None and same and last["first"] + last["count"] == nr:
                last["count"] += 1
            else:
                rows.append(row)
        return rows

    def _shared_tails(self) -> list[dict[str, Any]]:
        core = self._machine.core
        size = core.types.sizeof("struct page")
        mapped: dict[int, int] = {}
        for start, end, backing in self._runs:
            if backing.shared >= 0:
                tails = end - start - private_pages(start, end, backing)
                mapped[backing.shared] = mapped.get(backing.shared, 0) + tails
        rows = []
        for (nid, zone, order), tail in sorted(core.tails.items()):
            refs = core.tail_refs.get((nid, zone, order), 0)
            rows.append(
                {
                    "node": nid,
                    "zone": core.nodes[nid].zones[zone].name,
                    "order": order,
                    "index": order - core.min_order,
                    "frame_pfn": tail.frame,
                    "struct_page_va": hex(
                        core.placement.vmemmap_base + tail.frame * size
                    ),
                    "mapped_by": mapped.get(tail.frame, 0),
                    "refcount": 1 + refs,
                    "boot": tail.boot,
                }
            )
        return rows

    def _vmemmap(self) -> dict[str, Any]:
        core = self._machine.core
        totals = {
            "pages": 0,
            "private_frames": 0,
            "read_only_pages": 0,
            "saved_pages_hvo": 0,
            "saved_pages_dax": 0,
            "altmap_pages": 0,
            "self_hosted_pages": 0,
        }
        used_tails = set()
        for start, end, backing in self._runs:
            private = private_pages(start, end, backing)
            tails = end - start - private
            totals["pages"] += end - start
            totals["private_frames"] += private
            if tails and backing.tails != "rw":
                totals["read_only_pages"] += tails
            if tails:
                kind = "dax" if backing.why == "dax" else "hvo"
                totals[f"saved_pages_{kind}"] += tails
                if core.generation.mask and backing.shared in {
                    t.frame for t in core.tails.values()
                }:
                    used_tails.add(backing.shared)
            if backing.why == "altmap":
                totals["altmap_pages"] += end - start
            if backing.why == "self-hosted":
                totals["self_hosted_pages"] += end - start
        blocks = {
            block
            for start, end, _ in self._runs
            for block in core.vmemmap.blocks(start, end)
        }
        return {
            **totals,
            "distinct_frames": totals["private_frames"] + len(used_tails),
            "shared_tail_pages": len(core.tails),
            "pmd_leaves": len(blocks - self._tables),
            "pte_tables": len(self._tables),
        }

    def _backing_row(self, start: int, end: int, backing: Backing) -> dict[str, Any]:
        row = {
            "page": start,
            "pages": end - start,
            "why": backing.why,
            "frame_pfn": backing.frame
            + (0 if backing.period else start - backing.origin),
        }
        if backing.period:
            row.update(
                origin=backing.origin,
                period=backing.period,
                kept=backing.kept,
                stride=backing.stride,
                gap=backing.gap,
                shared_pfn=None if backing.shared < 0 else backing.shared,
                tails=backing.tails,
                order=backing.order,
            )
        return row

    def _hstates(self) -> list[dict[str, Any]]:
        machine = self._machine
        rows = []
        for hstate in machine.hugetlb.hstates:
            table = machine.hugetlb.table
            mine = table[table["hstate"] == hstate.index]
            pages = machine.core.vmemmap.pages_per(hstate.order)
            per_folio = max(0, pages - machine.core.generation.kept)

            def numbers(part: Any, each: int = per_folio) -> dict[str, int]:
                optimised = int(part["optimised"].sum())
                return {
                    "nr": len(part),
                    "free": int((part["list"] == FREE).sum()),
                    "active": int((part["list"] == ACTIVE).sum()),
                    "surplus": int(part["surplus"].sum()),
                    "optimised": optimised,
                    "saved_pages": optimised * each,
                }

            rows.append(
                {
                    "size": hstate.size,
                    "name": folio_name(hstate.size),
                    "order": hstate.order,
                    **numbers(mine),
                    "nodes": {
                        str(nid): numbers(mine[mine["node"] == nid])
                        for nid in sorted(machine.core.nodes)
                    },
                }
            )
        return rows

    def _folios(self) -> list[dict[str, Any]]:
        """Runs of neighbouring folios in the same state."""
        machine = self._machine
        table = machine.hugetlb.table
        if not len(table):
            return []
        orders = np.array([h.order for h in machine.hugetlb.hstates])[table["hstate"]]
        same = table["pfn"][1:] == table["pfn"][:-1] + (1 << orders[:-1])
        for column in ("hstate", "node", "optimised", "surplus", "list"):
            same &= table[column][1:] == table[column][:-1]
        starts = np.concatenate(([0], np.nonzero(~same)[0] + 1))
        counts = np.diff(np.concatenate((starts, [len(table)])))
        return [
            {
                "head_pfn": int(row["pfn"]),
                "count": int(count),
                "order": int(order),
                "node": int(row["node"]),
                "optimised": bool(row["optimised"]),
                "surplus": bool(row["surplus"]),
                "list": _LISTS[int(row["list"])],
            }
            for row, order, count in zip(table[starts], orders[starts], counts)
        ]

    def _pgmaps(self) -> list[dict[str, Any]]:
        machine = self._machine
        rows = []
        for pgmap in machine.devices.pgmaps.values():
            first, last = pgmap.start_pfn // self._spp, pgmap.end_pfn // self._spp
            runs = list(machine.core.vmemmap.runs(first, last))
            private = sum(private_pages(*run) for run in runs)
            altmap = pgmap.altmap
            rows.append(
                {
                    "name": pgmap.name,
                    "type": "fsdax" if pgmap.fsdax else "devdax",
                    "start_pfn": pgmap.start_pfn,
                    "end_pfn": pgmap.end_pfn,
                    "data_pfn": pgmap.data_pfn,
                    "node": pgmap.node,
                    "align": pgmap.align,
                    "vmemmap_shift": pgmap.shift,
                    "altmap": None
                    if altmap is None
                    else {
                        "base_pfn": altmap.base_pfn,
                        "reserve": altmap.reserve,
                        "free": altmap.free,
                        "align": altmap.align,
                        "alloc": altmap.alloc,
                    },
                    "vmemmap_pages": last - first,
                    "private_frames": private,
                    "saved_pages": last - first - private,
                }
            )
        return rows

    def _counters(self) -> dict[str, int] | None:
        core = self._machine.core
        if not core.generation.counters:
            return None
        return {
            "nr_memmap_pages": core.nr_memmap,
            "nr_memmap_boot_pages": core.nr_memmap_boot + core.page_ext_pages,
            "page_ext_pages": core.page_ext_pages,
        }

    def _static_key(self) -> dict[str, Any] | None:
        generation = self._machine.core.generation
        if generation.static_key is None:
            return None
        counts = generation.static_key_counts == "folios"
        optimised = self._machine.hugetlb.optimised_count()
        value = optimised if counts else int(self._machine.core.hvo)
        return {"name": generation.static_key, "value": value}
