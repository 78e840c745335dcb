# SPDX-License-Identifier: LGPL-2.1-or-later
"""Persistent memory and DAX devices as a guest's sysfs described them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

__all__ = [
    "DaxDevice",
    "Namespace",
    "NdDevice",
    "Wanted",
    "namespaces",
    "parse_dax",
    "parse_nd",
    "parse_wanted",
]


@dataclass(frozen=True)
class Wanted:
    """A namespace that the guest's configuration asked for."""

    region: int
    seed: str
    driver: str
    mode: str
    align: int

    @property
    def is_device_dax(self) -> bool:
        """Whether a character device was wanted, rather than fsdax."""
        return self.driver == "dax_pmem"

    @property
    def has_altmap(self) -> bool:
        """Whether the memmap was to lie on the device itself."""
        return self.mode == "pmem"


@dataclass(frozen=True)
class Namespace:
    """A namespace as it came out: what a page map of its region must look like.

    The page map covers the region from *start_pfn* to *end_pfn*, the info block before
    *data_start_pfn* included.  *owner* is ``device_dax``, ``kmem`` or ``fsdax``.
    """

    name: str
    region: int
    owner: str
    align: int
    has_altmap: bool
    start_pfn: int
    data_start_pfn: int
    end_pfn: int


@dataclass(frozen=True)
class NdDevice:
    """A device of the persistent memory bus; what it lacks is None.

    *mode* is ``ram`` (memmap in RAM), ``pmem`` (memmap on the device, an altmap) or
    ``none``; *attributes* holds every recorded file as text.
    """

    name: str
    devtype: str | None
    mode: str | None
    align: int | None
    namespace: str | None
    resource: int | None
    size: int | None
    attributes: dict[str, str] = field(repr=False)


@dataclass(frozen=True)
class DaxDevice:
    """A device of the DAX bus; *mappings* are (start, end, page_offset), *end* incl."""

    name: str
    align: int | None
    size: int
    resource: int | None
    target_node: int | None
    memmap_on_memory: int | None
    driver: str | None
    mappings: tuple[tuple[int, int, int], ...]


def parse_wanted(text: str) -> list[Wanted]:
    """Return the namespaces of the part ``nd-wanted``."""
    rows = (line.split() for line in text.splitlines())
    return [Wanted(int(row[0]), row[1], row[2], row[3], int(row[4])) for row in rows]


def namespaces(nd: dict[str, NdDevice], dax: dict[str, DaxDevice]) -> list[Namespace]:
    """Return the namespaces that the devices *nd* and *dax* show, by region."""
    found = []
    for name, device in sorted(nd.items()):
        match = re.fullmatch(r"(?:dax|pfn)(\d+)\.\d+", name)
        if not match or device.namespace is None or device.resource is None:
            continue
        region = nd[f"region{match.group(1)}"]
        assert region.resource is not None and region.size is not None
        character = dax.get(name)
        found.append(
            Namespace(
                name=name,
                region=int(match.group(1)),
                owner=(character.driver if character else None) or "fsdax",
                align=device.align or 0,
                has_altmap=device.mode == "pmem",
                start_pfn=region.resource >> 12,
                data_start_pfn=device.resource >> 12,
                end_pfn=(region.resource + region.size) >> 12,
            )
        )
    return sorted(found, key=lambda space: space.region)


def parse_nd(text: str) -> dict[str, NdDevice]:
    """Return the devices of the part ``nd`` by name."""
    devices = {}
    for name, values in _by_device(text).items():
        devices[name] = NdDevice(
            name=name,
            devtype=values.get("devtype"),
            mode=values.get("mode"),
            align=_number(values, "align"),
            namespace=values.get("namespace") or None,
            resource=_number(values, "resource"),
            size=_number(values, "size"),
            attributes=values,
        )
    return devices


def parse_dax(text: str, links: str) -> dict[str, DaxDevice]:
    """Return the devices of the parts ``dax`` and ``dax-links`` by name."""
    drivers = dict(re.findall(r"/devices/([^/\n]+)/driver:.*/(\w+)$", links, re.M))
    devices = {}
    for name, values in _by_device(text).items():
        numbers = sorted(
            int(found.group(1))
            for found in (re.fullmatch(r"mapping(\d+)/start", key) for key in values)
            if found
        )
        devices[name] = DaxDevice(
            name=name,
            align=_number(values, "align"),
            size=int(values["size"]),
            resource=_number(values, "resource"),
            target_node=_number(values, "target_node"),
            memmap_on_memory=_number(values, "memmap_on_memory"),
            driver=drivers.get(name),
            mappings=tuple(_mapping(values, number) for number in numbers),
        )
    return devices


def _mapping(values: dict[str, str], number: int) -> tuple[int, int, int]:
    start, end, offset = (
        int(values[f"mapping{number}/{name}"], 0)
        for name in ("start", "end", "page_offset")
    )
    return start, end, offset


def _by_device(text: str) -> dict[str, dict[str, str]]:
    devices: dict[str, dict[str, str]] = {}
    for name, attribute, value in re.findall(
        r"/devices/([^/\n]+)/([\w/]+):(.*)$", text, re.M
    ):
        devices.setdefault(name, {})[attribute] = value.strip()
    return devices


def _number(values: dict[str, str], name: str) -> int | None:
    text = values.get(name, "")
    return int(text, 0) if re.fullmatch(r"-?(0x[0-9a-f]+|\d+)", text) else None
