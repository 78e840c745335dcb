# SPDX-License-Identifier: LGPL-2.1-or-later
"""Damaged types and symbols: DWARF, BTF, symbol tables and lists, kallsyms, notes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from random import Random
from typing import Callable

from tests.model.kernels import guest, small
from tests.target.machines import Described, SelfDescribed
from tests.target.vmlinux import section_headers
from vmemmap_tools.formats.btf import Btf
from vmemmap_tools.formats.elf import Elf
from vmemmap_tools.model.write import write_vmlinux

from .damage import damaged_bytes, damaged_lines, patched
from .subject import Subject, Words

__all__ = ["SUBJECTS"]

DEBUG = (".debug_info", ".debug_abbrev", ".debug_str")


class Sections(Subject):
    """A vmlinux with damage in some of its sections, their headers and the file's."""

    def __init__(self, folder: Path, *names: str, is_stripped: bool = False):
        machine = small("7.3")
        machine.write(folder)
        self._core, self._path = folder / "vmcore", folder / "vmlinux"
        if is_stripped:
            write_vmlinux(machine.image(), self._path, is_stripped=True)
        headers = section_headers(self._path)
        with Elf(self._path) as elf:
            found = {s.name: s for s in elf.sections() if s.name in names}
        assert set(found) == set(names)
        self._whole = self._path.read_bytes()
        self._areas = [(s.offset, s.offset + s.size) for s in found.values()] * 3
        self._areas += [(headers[name], headers[name] + 64) for name in names]
        self._areas += [(0, 64)]

    def sound(self) -> Words:
        self._path.write_bytes(self._whole)
        return ("-c", str(self._core), "-s", str(self._path))

    def damage(self, draw: Random) -> Words:
        opening = self.sound()
        content = patched(draw, self._whole, self._areas)
        if not draw.randrange(8):
            content = content[: draw.randrange(64, len(content))]
        self._path.write_bytes(content)
        return opening


class BtfFile(Subject):
    """BTF in a file of its own, beside a list of symbols."""

    def __init__(self, folder: Path, generation: str):
        self._machine = machine = Described(guest(generation))
        self._path, symbols = machine.path / "own.btf", machine.path / "System.map"
        symbols.write_bytes(machine.symbol_list())
        core = str(machine.path / "vmcore")
        self._opening = ("-c", core, "-s", str(self._path), "-s", str(symbols))

    def sound(self) -> Words:
        self._path.write_bytes(self._machine.btf)
        return self._opening

    def damage(self, draw: Random) -> Words:
        self._path.write_bytes(damaged_btf(draw, self._machine.btf))
        return self._opening


class SymbolList(Subject):
    """A System.map, beside sound BTF."""

    def __init__(self, folder: Path):
        machine = Described(guest("6.1"))
        self._machine, self._path = machine, machine.path / "System.map"
        types, core = machine.path / "own.btf", str(machine.path / "vmcore")
        types.write_bytes(machine.btf)
        self._lines = machine.symbol_list().decode()
        self._opening = ("-c", core, "-s", str(types), "-s", str(self._path))

    def sound(self) -> Words:
        self._path.write_text(self._lines)
        return self._opening

    def damage(self, draw: Random) -> Words:
        lines = damaged_lines(draw, self._lines).splitlines(keepends=True)
        for _ in range(draw.randrange(3)):
            at = draw.randrange(len(lines))
            address = f"{draw.getrandbits(64):016x}"
            rest = draw.choice((lines[at][16:], " D page\n", "\n", ""))
            lines[at] = draw.choice((address + rest, rest))
        self._path.write_bytes("".join(lines).encode("utf-8", "replace"))
        return self._opening


class NoteFile(Subject):
    """The VMCOREINFO of a file, alone or beside a vmlinux."""

    def __init__(self, folder: Path, types: str):
        self._machine = machine = Described(guest("6.1"))
        self._path = machine.path / "note"
        core, vmlinux = str(machine.path / "vmcore"), str(machine.path / "vmlinux")
        given = ("-c", core, "--vmcoreinfo", str(self._path), "--types", types)
        self._opening = (*given, "-s", vmlinux) if types == "dwarf" else given
        note = machine.memory.vmcoreinfo
        self._text = "".join(f"{k}={v}\n" for k, v in note.items())

    def sound(self) -> Words:
        self._path.write_text(self._text)
        return self._opening

    def damage(self, draw: Random) -> Words:
        text = damaged_lines(draw, self._text)
        self._path.write_bytes(text.encode("utf-8", "replace"))
        return self._opening


class InMemory(Subject):
    """The BTF or the kallsyms tables that a dump's kernel has in its own memory."""

    def __init__(self, folder: Path, generation: str, is_btf: bool):
        self._machine = machine = SelfDescribed(small(generation, kaslr=11))
        core, note = str(machine.core), str(machine.note)
        self._opening = ("-c", core, "--vmcoreinfo", note, "--types", "btf")
        self._is_btf = is_btf
        pieces = machine.tables.pieces
        self._tables = {
            at: piece
            for at, piece in pieces.items()
            if (at == machine.btf_at) == is_btf
        }

    def sound(self) -> Words:
        self._machine.write(self._tables)
        return self._opening

    def damage(self, draw: Random) -> Words:
        opening = self.sound()
        self._machine.write(self._damaged(draw, self._tables))
        return opening

    def _damaged(self, draw: Random, tables: Mapping[int, bytes]) -> dict[int, bytes]:
        if self._is_btf:
            ((at, whole),) = tables.items()
            return {at: damaged_btf(draw, whole).ljust(len(whole), b"\0")}
        pieces = dict(tables)
        for _ in range(draw.randint(1, 4)):
            at = draw.choice(sorted(pieces))
            pieces[at] = patched(draw, pieces[at], [(0, len(pieces[at]))])
        return pieces


def damaged_btf(draw: Random, sound: bytes) -> bytes:
    """Words of records and of the header changed; bytes of strings; a cut end."""
    btf = Btf(sound)
    content = bytearray(sound)
    for _ in range(draw.randint(1, 8)):
        record = 24 + 4 * draw.choice(btf._starts)
        places = (record + 4, record + 8, 4 * draw.randrange(6))
        at = draw.choice((*places, 4 * draw.randrange(6, len(sound) // 4)))
        value = draw.choice(
            (
                draw.randrange(len(btf) + 2),
                draw.randrange(21) << 24 | 1,
                draw.getrandbits(32),
                int.from_bytes(damaged_bytes(draw, sound[at : at + 4]), "little"),
            )
        )
        content[at : at + 4] = value.to_bytes(4, "little")
    end = len(sound) if draw.randrange(6) else draw.randrange(len(sound))
    return bytes(content[:end])


SUBJECTS: dict[str, Callable[[Path], Subject]] = {
    "dwarf": lambda folder: Sections(folder, *DEBUG),
    "symbol table": lambda folder: Sections(
        folder, ".symtab", ".strtab", is_stripped=True
    ),
    "btf file 6.1": partial(BtfFile, generation="6.1"),
    "btf file 7.3": partial(BtfFile, generation="7.3"),
    "btf in memory": partial(InMemory, generation="7.3", is_btf=True),
    "kallsyms 6.1": partial(InMemory, generation="6.1", is_btf=False),
    "kallsyms 7.3": partial(InMemory, generation="7.3", is_btf=False),
    "symbol list": SymbolList,
    "vmcoreinfo alone": partial(NoteFile, types="vmcoreinfo"),
    "vmcoreinfo beside dwarf": partial(NoteFile, types="dwarf"),
}
