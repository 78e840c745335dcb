# SPDX-License-Identifier: LGPL-2.1-or-later
"""Physical memory as a guest described it: blocks, zones and ``/proc/iomem``."""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = [
    "IomemEntry",
    "MemoryBlock",
    "Zone",
    "parse_blocks",
    "parse_iomem",
    "parse_zones",
]


@dataclass(frozen=True)
class MemoryBlock:
    """A block below ``/sys/devices/system/memory``."""

    number: int
    phys_index: int
    state: str
    valid_zones: str
    nodes: tuple[int, ...]

    @property
    def is_online(self) -> bool:
        """Whether the block's pages are in use by the buddy allocator."""
        return self.state == "online"


@dataclass(frozen=True)
class Zone:
    """A zone of ``/proc/zoneinfo``; *start_pfn* is None for one without pages."""

    node: int
    name: str
    start_pfn: int | None
    spanned: int
    present: int
    managed: int


@dataclass(frozen=True)
class IomemEntry:
    """A range of ``/proc/iomem``, *end* included; *depth* counts the parents."""

    start: int
    end: int
    depth: int
    name: str

    @property
    def start_pfn(self) -> int:
        """First page frame."""
        return self.start >> 12

    @property
    def end_pfn(self) -> int:
        """Page frame after the last one."""
        return (self.end + 1) >> 12


def parse_blocks(text: str, links: str) -> list[MemoryBlock]:
    """Return the blocks of the parts ``memory`` and ``memory-nodes``."""
    values: dict[int, dict[str, str]] = {}
    for number, name, value in re.findall(r"/memory(\d+)/(\w+):(.*)$", text, re.M):
        values.setdefault(int(number), {})[name] = value.strip()
    nodes: dict[int, list[int]] = {}
    for number, node in re.findall(r"/memory(\d+)/node(\d+)$", links, re.M):
        nodes.setdefault(int(number), []).append(int(node))
    return [
        MemoryBlock(
            number=number,
            phys_index=int(block["phys_index"], 16),
            state=block["state"],
            valid_zones=block.get("valid_zones", ""),
            nodes=tuple(sorted(nodes.get(number, []))),
        )
        for number, block in sorted(values.items())
    ]


def parse_zones(text: str) -> list[Zone]:
    """Return the zones of ``/proc/zoneinfo``."""
    zones = []
    pattern = r"^Node (\d+), zone +(\w+)\n(.*?)(?=^Node |\Z)"
    for node, name, body in re.findall(pattern, text, re.M | re.S):
        numbers = dict(re.findall(r"^ +(spanned|present|managed) +(\d+)$", body, re.M))
        start = re.search(r"^ +start_pfn: +(\d+)$", body, re.M)
        zones.append(
            Zone(
                node=int(node),
                name=name,
                start_pfn=int(start.group(1)) if start else None,
                spanned=int(numbers["spanned"]),
                present=int(numbers["present"]),
                managed=int(numbers["managed"]),
            )
        )
    return zones


def parse_iomem(text: str) -> list[IomemEntry]:
    """Return the ranges of ``/proc/iomem`` in their order."""
    pattern = r"^( *)([0-9a-f]+)-([0-9a-f]+) : (.*)$"
    return [
        IomemEntry(int(start, 16), int(end, 16), len(indent) // 2, name)
        for indent, start, end, name in re.findall(pattern, text, re.M)
    ]
