# SPDX-License-Identifier: LGPL-2.1-or-later
"""A modelled machine read by types of three origins: DWARF, BTF, VMCOREINFO."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.fakes.kallsyms import Tables, encode
from vmemmap_tools.commands import VerbGroup
from vmemmap_tools.commands.session import Session
from vmemmap_tools.formats.btf_write import closure
from vmemmap_tools.formats.btf_write import encode as encode_btf
from vmemmap_tools.formats.elf import Elf
from vmemmap_tools.kernel.kernel import Kernel
from vmemmap_tools.model.machine import Machine
from vmemmap_tools.target.base import TypeSource
from vmemmap_tools.target.drgn import DrgnMemory, DrgnTarget
from vmemmap_tools.target.drgn_open import open_dump
from vmemmap_tools.target.providers import compose
from vmemmap_tools.target.vmcoreinfo import VmcoreInfo

__all__ = ["Described", "SelfDescribed", "answer"]

BTF_AT, KALLSYMS_AT = 0xFFFFFFFF94000000, 0xFFFFFFFF98000000


class MemoryWithTables(DrgnMemory):
    """A dump that has BTF and kallsyms besides what it holds."""

    def __init__(self, base: DrgnMemory, tables: Tables):
        super().__init__(base.prog, base.segments)
        self._tables = tables
        note = {**base.vmcoreinfo, **tables.keys}
        text = "".join(f"{key}={value}\n" for key, value in note.items())
        self.vmcoreinfo = VmcoreInfo(text)

    def read(self, address: int, size: int) -> bytes:
        found = self._tables.read(address, size)
        return super().read(address, size) if found is None else found


class Described:
    """One machine's dump, and the descriptions that a kernel carries of itself."""

    def __init__(self, machine: Machine):
        self._folder = tempfile.TemporaryDirectory()
        self.path = path = Path(self._folder.name)
        machine.write(path)
        target = open_dump(str(path / "vmcore"), [str(path / "vmlinux")])
        assert isinstance(target, DrgnTarget)
        self.known = target
        self.memory = DrgnMemory(target.prog, target.segments)
        self.image = image = machine.image()
        types = image.types
        self.btf = encode_btf(closure(types.__getitem__, sorted(types.records)))
        symbols = [
            ("d" if symbol.static else "D", name, symbol.address + image.kaslr_offset)
            for name, symbol in sorted(image.symbols.items())
        ]
        stop = BTF_AT + len(self.btf)
        symbols += [("R", "__start_BTF", BTF_AT), ("R", "__stop_BTF", stop)]
        self.symbols = symbols
        self.kaslr_offset = image.kaslr_offset
        self.tables = encode(symbols, KALLSYMS_AT)
        self.tables.pieces[BTF_AT] = self.btf

    def symbol_list(self, distance: int = 0) -> bytes:
        """A file like /proc/kallsyms, of a boot that put the kernel elsewhere."""
        lines = (
            f"{address + distance if address >> 63 else address:016x} {letter} {name}\n"
            for letter, name, address in self.symbols
        )
        return "".join(lines).encode()

    def kernel(self, types: TypeSource = "dwarf", has_kallsyms: bool = True) -> Kernel:
        """The machine by types of this origin."""
        if types == "dwarf":
            return Kernel(self.known)
        memory = self.memory
        if has_kallsyms:
            memory = MemoryWithTables(self.memory, self.tables)
        return Kernel(compose(memory, types=types))


class SelfDescribed(Described):
    """A machine whose dump holds its BTF and kallsyms, in the image as kernels do."""

    def __init__(self, machine: Machine):
        super().__init__(machine)
        self.core = self.path / "vmcore"
        image = self.image
        end = max(s.address + s.size for s in image.symbols.values() if s.size)
        btf_at = _page_behind(end + image.kaslr_offset)
        stop = btf_at + len(self.btf)
        symbols = [s for s in self.symbols if not s[1].endswith("_BTF")]
        symbols += [("R", "__start_BTF", btf_at), ("R", "__stop_BTF", stop)]
        self.tables = encode(symbols, _page_behind(stop))
        self.tables.pieces[btf_at] = self.btf
        self.btf_at = btf_at
        keys = {**self.memory.vmcoreinfo, **self.tables.keys}
        self.note = self.path / "note"
        self.note.write_text("".join(f"{k}={v}\n" for k, v in keys.items()))
        self.write(self.tables.pieces)

    def write(self, pieces: Mapping[int, bytes]) -> None:
        """Write bytes into the dump, by the addresses that its headers give."""
        with Elf(self.core) as elf:
            loads = elf.loads()
        with self.core.open("r+b") as file:
            for va, data in pieces.items():
                held = next(s for s in loads if s.va <= va < s.va + s.file_size)
                assert va + len(data) <= held.va + held.file_size
                file.seek(held.offset + va - held.va)
                file.write(data)


def _page_behind(va: int) -> int:
    return -(-va // 4096) * 4096


def answer(kernel: Kernel, *words: str) -> dict[str, Any]:
    """The JSON of a verb."""
    out = io.StringIO()
    session = Session(lambda: kernel, format="json", stream=out)
    group = VerbGroup("vmemmap")
    with group.make_context("vmemmap", list(words), obj=session) as context:
        group.invoke(context)
    found: dict[str, Any] = json.loads(out.getvalue())
    return found
