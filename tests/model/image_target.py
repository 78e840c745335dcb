# SPDX-License-Identifier: LGPL-2.1-or-later
"""A model's image as a Target, without files: for tests that look at many machines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vmemmap_tools.arch import ARCHITECTURES
from vmemmap_tools.arch.pagetable import PageTable
from vmemmap_tools.formats.btf_write import closure
from vmemmap_tools.formats.btf_write import encode as encode_btf
from vmemmap_tools.model.image import Image
from vmemmap_tools.model.write import core_notes
from vmemmap_tools.target.base import ByteOrder, Evidence, Fault, PhysicalRange
from vmemmap_tools.target.btf_types import BtfTypes
from vmemmap_tools.target.composed import ComposedTarget
from vmemmap_tools.target.vmcoreinfo import VmcoreInfo

__all__ = ["image_target"]

PAGE = 4096


def image_target(image: Image) -> ComposedTarget:
    """The machine of an image: its memory, types as BTF, symbols as kallsyms has."""
    memory = _ImageMemory(image)
    types = image.types
    btf = encode_btf(closure(types.__getitem__, sorted(types.records)))
    return ComposedTarget(
        memory, BtfTypes.from_bytes(btf, "image", memory.vmcoreinfo), _Symbols(image)
    )


class _ImageMemory:
    """The physical memory of an image, and its page tables."""

    byteorder: ByteOrder = "little"
    live = False

    def __init__(self, image: Image):
        self.arch = image.arch.name
        notes = core_notes(image)
        text = notes[notes.index(b"OSRELEASE=") :].rstrip(b"\0").decode()
        self.vmcoreinfo = VmcoreInfo(text)
        self._memory = image.memory
        self._ranges = image.memory.ranges
        facts = _Facts(self.vmcoreinfo)
        arch = ARCHITECTURES[self.arch]
        root = arch.root_pa(facts)
        assert root is not None
        self._table = PageTable(
            self.read_physical,
            arch.table_format(facts),
            arch.levels(facts).value,
            root.value,
            self.byteorder,
        )

    def read(self, address: int, size: int) -> bytes:
        data = b""
        while len(data) < size:
            at = address + len(data)
            translation = self._table.translate(at)
            if translation is None:
                raise Fault(at, size - len(data), "unmapped")
            length = min(size - len(data), PAGE - at % PAGE)
            data += self.read_physical(translation.pa, length)
        return data

    def read_physical(self, address: int, size: int) -> bytes:
        if not any(s <= address and address + size <= e for s, e in self._ranges):
            raise Fault(address, size, "outside", physical=True)
        return self._memory.read(address, size)

    def ranges(self) -> Sequence[PhysicalRange]:
        return [PhysicalRange(start, end, True) for start, end in self._ranges]

    def evidence(self) -> list[Evidence]:
        return []


class _Symbols:
    def __init__(self, image: Image):
        self._symbols = image.symbols
        self._offset = image.kaslr_offset

    def symbol(self, name: str) -> int | None:
        found = self._symbols.get(name)
        return None if found is None else found.address + self._offset

    def evidence(self) -> list[Evidence]:
        return []


class _Facts:
    """What VMCOREINFO says; variables would need the table that is being made."""

    def __init__(self, vmcoreinfo: Mapping[str, str]):
        self.vmcoreinfo = vmcoreinfo

    def symbol(self, name: str) -> int | None:
        return None

    def unsigned(self, name: str) -> int | None:
        return None
