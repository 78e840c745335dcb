# SPDX-License-Identifier: LGPL-2.1-or-later
"""A Target that keeps what is read through it, and a Kernel that says why it reads.

What one look has read stays as it was: on a running kernel everything that is asked
afterwards answers from the same bytes that the capsule will hold.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import astuple
from functools import cached_property
from typing import Any

from ..arch.pagetable import HugeLeaf, LeafTable, PageTable
from ..kernel.counters import MemmapCounters, read_memmap_counters
from ..kernel.kernel import Kernel
from ..kernel.memory import Memory, Record
from ..kernel.pgmap import Pgmaps
from ..kernel.sections import Sections
from ..kernel.zones import Zones
from ..target.base import (
    Evidence,
    Fault,
    Function,
    PhysicalRange,
    Struct,
    Target,
    Variable,
)
from ..target.recorded import CapsuleNote
from .store import Store

__all__ = ["RecordedKernel", "Recorder"]

PAGE = 4096
TABLES = "page tables"
STRUCT_PAGES = "struct pages"
VARIABLE = "variables"
HUGE_LEVEL = 2
"""Of the only huge leaves that a vmemmap has."""


class Recorder:
    """A target, and the bytes and answers that it gave."""

    def __init__(self, inner: Target):
        self.inner = inner
        self.arch, self.byteorder = inner.arch, inner.byteorder
        self.live, self.release = inner.live, inner.release
        self.vmcoreinfo = inner.vmcoreinfo
        self.store = Store()
        self.note = CapsuleNote()
        self.kind = VARIABLE
        self.reads: dict[int, int] = {}
        """Virtual address -> physical address of ranges read at virtual addresses."""
        self.page_table: PageTable | None = None
        self.frames_of_vmemmap: set[int] = set()
        self._early: list[tuple[int, int, bytes]] = []

    # Memory

    def read(self, address: int, size: int) -> bytes:
        if self.page_table is None:
            # Geometry is read before there is a page table to say where it lies.
            data = self.inner.read(address, size)
            self._early.append((address, size, data))
            return data
        return self._keep(address, size, self.inner.read(address, size))

    def read_physical(self, address: int, size: int) -> bytes:
        known = self.store.get(address, size)
        if known is not None:
            return known
        data = self.inner.read_physical(address, size)
        is_struct_page = address // PAGE in self.frames_of_vmemmap
        self.store.put(address, data, STRUCT_PAGES if is_struct_page else TABLES)
        return data if not self.live else self.store.get(address, size) or data

    def use(self, page_table: PageTable) -> None:
        """From now on virtual addresses can be told where they lie."""
        self.page_table = page_table
        for address, size, data in self._early:
            self._keep(address, size, data)
        self._early.clear()

    def _keep(self, va: int, size: int, data: bytes) -> bytes:
        assert self.page_table is not None
        at, kept = 0, []
        while at < size:
            length = min(size - at, PAGE - (va + at) % PAGE)
            try:
                place = self.page_table.translate(va + at)
            except Fault:
                place = None
            if place is None:
                return data
            self.reads[va + at] = place.pa
            self.store.put(place.pa, data[at : at + length], self.kind)
            kept.append(self.store.get(place.pa, length) or b"")
            at += length
        return b"".join(kept)

    def ranges(self) -> Sequence[PhysicalRange]:
        return self.inner.ranges()

    # Answers

    def _said(self, part: str, name: str, answer: Any) -> None:
        self.note.answers[part][name] = answer

    def symbol(self, name: str) -> int | None:
        found = self.inner.symbol(name)
        self._said("symbols", name, found)
        return found

    def unsigned(self, name: str) -> int | None:
        variable = self.variable(name)
        if variable is None or variable.type.kind not in ("int", "enum", "pointer"):
            return None
        before, self.kind = self.kind, VARIABLE
        try:
            data = self.read(variable.address, variable.type.size)
        except Fault:
            return None
        finally:
            self.kind = before
        return int.from_bytes(data, self.byteorder)

    def variable(self, name: str) -> Variable | None:
        found = self.inner.variable(name)
        self._said(
            "variables",
            name,
            found and {"type": astuple(found.type), "address": found.address},
        )
        return found

    def struct(self, name: str) -> Struct | None:
        found = self.inner.struct(name)
        if name not in self.note.answers["structs"]:
            members = found and {k: astuple(m) for k, m in found.members.items()}
            said = found and {
                "name": found.name,
                "size": found.size,
                "members": members,
            }
            self._said("structs", name, said)
        return found

    def function(self, name: str) -> Function | None:
        found = self.inner.function(name)
        self._said("functions", name, found and list(found.parameters))
        return found

    def enumerator(self, name: str) -> int | None:
        found = self.inner.enumerator(name)
        self._said("enumerators", name, found)
        return found

    def enumerators(self, enum: str) -> Mapping[str, int]:
        found = self.inner.enumerators(enum)
        self._said("enums", enum, dict(found))
        return found

    def evidence(self) -> list[Evidence]:
        return self.inner.evidence()


class _Labelled(Memory):
    """Memory that tells the recorder what it is read for."""

    label = "lists"

    def of(self, label: str) -> _Labelled:
        """The same memory for another view."""
        other = copy.copy(self)
        other.label = label
        return other

    def read(self, va: int, size: int) -> bytes:
        recorder: Recorder = self.target  # type: ignore[assignment]
        recorder.kind = self.label
        return super().read(va, size)

    def record(self, struct: Struct, va: int) -> Record:
        recorder: Recorder = self.target  # type: ignore[assignment]
        before, self.label = self.label, struct.name.replace("struct ", "")
        try:
            return super().record(struct, va)
        finally:
            self.label = before
            recorder.kind = VARIABLE


class RecordedKernel(Kernel):
    """A Kernel over a recorder; each view labels what it reads."""

    def __init__(self, recorder: Recorder):
        super().__init__(recorder)
        self.recorder = recorder
        recorder.use(self.page_table)
        self.labelled = _Labelled(
            recorder, self.page_table, self.geometry.vmemmap_window
        )
        self.memory = self.labelled
        self.missing = self.memory.missing
        recorder.frames_of_vmemmap = _frames(self)

    def fresh(self) -> Kernel:
        return RecordedKernel(self.recorder)

    @cached_property
    def sections(self) -> Sections:
        return Sections(self.target, self.labelled.of("mem_section"), self.geometry)

    @cached_property
    def zones(self) -> Zones:
        return Zones(self.target, self.labelled.of("nodes and zones"), self.geometry)

    @cached_property
    def pgmaps(self) -> Pgmaps:
        return Pgmaps(self.target, self.labelled.of("device memory"), self.geometry)

    @cached_property
    def counters(self) -> MemmapCounters:
        return read_memmap_counters(self.target, self.labelled.of(VARIABLE))


def _frames(kernel: Kernel) -> set[int]:
    """The frames that the vmemmap's page tables name."""
    g, fmt = kernel.geometry, kernel.page_table.format
    frames: set[int] = set()
    for item in kernel.page_table.for_each_table(*g.vmemmap_window):
        if isinstance(item, LeafTable):
            frames.update(
                fmt.leaf_pa(entry, 1) >> g.page_shift
                for entry in item.entries[item.first : item.last]
                if entry & fmt.present_mask
            )
        elif isinstance(item, HugeLeaf) and item.level == HUGE_LEVEL:
            first = fmt.leaf_pa(item.entry, item.level) >> g.page_shift
            frames.update(range(first, first + fmt.entries))
    return frames
