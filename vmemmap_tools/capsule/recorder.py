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

from ..arch.pagetable import PageTable
from ..kernel.counters import MemmapCounters, read_memmap_counters
from ..kernel.kernel import Kernel
from ..kernel.memory import Memory, Record, escape
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
from .store import PAGE, STRUCT_PAGES, Store

__all__ = ["RecordedKernel", "Recorder"]

TABLES = "page tables"
VARIABLE = "variables"


class Recorder:
    """A target, and the bytes and answers that it gave."""

    def __init__(self, inner: Target):
        self.inner = inner
        self.arch, self.byteorder = inner.arch, inner.byteorder
        self.live, self.release = inner.live, inner.release
        self.vmcoreinfo = inner.vmcoreinfo
        # Of /proc/kcore without the zeros that stand for frames it leaves out.
        plain = Kernel(inner).memory if inner.live else inner
        self._inner_physical = plain.read_physical
        self.store = Store()
        self.note = CapsuleNote()
        self.kind = VARIABLE
        self.strings: list[tuple[int, str, str]] = []
        """(physical address, kind, text) of C strings that were read."""
        self.reads: dict[int, int] = {}
        """Virtual address -> physical address of ranges read at virtual addresses."""
        self.page_table: PageTable | None = None
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
        """What is not read through a `Memory` are page tables."""
        return self._read_physical(address, size, TABLES)

    def read_struct_pages(self, address: int, size: int) -> bytes:
        return self._read_physical(address, size, STRUCT_PAGES)

    def _read_physical(self, address: int, size: int, kind: str) -> bytes:
        known = self.store.get(address, size)
        if known is not None:
            return known
        data = self._inner_physical(address, size)
        self.store.put(address, data, kind)
        return data if not self.live else self.store.get(address, size) or data

    def read_pieces(self, pa: int, size: int, step: int, count: int) -> bytes:
        """As `Memory.read_pieces`; what lies between the pieces is not kept."""
        span = step * (count - 1) + size
        data = bytearray(self._inner_physical(pa, span))
        for at in range(0, span, step):
            self.store.put(pa + at, bytes(data[at : at + size]), STRUCT_PAGES)
            if self.live:
                data[at : at + size] = self.store.get(pa + at, size) or b""
        return bytes(data)

    def read_words(
        self, pa: int, step: int, count: int, offsets: Sequence[int]
    ) -> bytes:
        """As `Memory.read_words`; nothing but these words is kept."""
        words = self.store.words
        known = words.structs(pa, step, count, offsets, self.byteorder)
        if known is not None:
            return known
        data = self._inner_physical(pa, step * count)
        words.put(pa, step, offsets, data, self.byteorder)
        if self.live:
            return words.structs(pa, step, count, offsets, self.byteorder) or data
        return data

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
    has_words = True

    def __init__(
        self, recorder: Recorder, page_table: PageTable, window: tuple[int, int]
    ):
        super().__init__(recorder, page_table, window, recorder.read_struct_pages)
        self.recorder = recorder

    def of(self, label: str) -> _Labelled:
        """The same memory for another view."""
        other = copy.copy(self)
        other.label = label
        return other

    def read(self, va: int, size: int) -> bytes:
        self.recorder.kind = self.label
        return super().read(va, size)

    def string(self, va: int) -> str:
        text = super().string(va)
        self._note_string(va, text)
        return text

    def _note_string(self, va: int, text: str) -> None:
        place = self.page_table.translate(va)
        if place is not None and text:
            self.recorder.strings.append((place.pa, self.label, text))

    def _read_span(self, pa: int, size: int, step: int, count: int) -> bytes:
        return self.recorder.read_pieces(pa, size, step, count)

    def read_words(
        self, pa: int, step: int, count: int, offsets: Sequence[int]
    ) -> bytes:
        return self.recorder.read_words(pa, step, count, offsets)

    def record(self, struct: Struct, va: int) -> Record:
        before, self.label = self.label, struct.name.replace("struct ", "")
        try:
            found = super().record(struct, va)
            name = struct.members.get("name")
            if name is not None and name.kind == "array" and name.element_size == 1:
                self._note_string(
                    va + name.offset, escape(found.bytes("name").split(b"\0")[0])
                )
            return found
        finally:
            self.label = before
            self.recorder.kind = VARIABLE


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
