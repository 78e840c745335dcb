# SPDX-License-Identifier: LGPL-2.1-or-later
"""From a kernel's BTF to the few tens of KB that the model needs of it.

``python -m vmemmap_tools.model.layouts.reduce vmlinux --name 7.3`` reads a vmlinux (or
a raw BTF file) and writes NAME.btf and its entry in index.json. Sizes and offsets are
the kernel's; members, structs and functions that nobody reads are left out.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from vmemmap_tools.formats.btf import Btf, BtfError, Kind, Member, Record
from vmemmap_tools.formats.btf_records import TRANSPARENT
from vmemmap_tools.formats.btf_write import closure, encode, renumbered
from vmemmap_tools.formats.elf import Elf, ElfError
from vmemmap_tools.model.layouts import wanted
from vmemmap_tools.model.layouts.origin import INDEX_NAME, Origin
from vmemmap_tools.model.types import AGGREGATES

__all__ = [
    "Source",
    "main",
    "read_source",
    "reduced",
    "write_layout",
]

BANNER = re.compile(rb"Linux version (\S+) \(")
CODE = (Kind.FUNC, Kind.FUNC_PROTO)
BTF_MAGICS = (b"\x9f\xeb", b"\xeb\x9f")


@dataclass(frozen=True)
class Source:
    """A kernel's BTF and what the file says about the kernel."""

    btf: bytes
    origin: Origin


def read_source(path: Path) -> Source:
    """The BTF of a vmlinux or of a raw BTF file.

    Raises `BtfError` or `ElfError` when the file holds none.
    """
    with open(path, "rb") as file:
        if file.read(2) in BTF_MAGICS:
            return Source(path.read_bytes(), Origin("", ""))
    with Elf(path) as elf:
        btf = elf.section_bytes(".BTF")
        if btf is None:
            raise BtfError(f"{path} has no .BTF section")
        build_id = elf.build_id() or b""
        banner = BANNER.search(elf.section_bytes(".rodata") or b"")
        release = banner[1].decode() if banner else ""
        return Source(btf, Origin(release, build_id.hex()))


def reduced(data: bytes) -> bytes:
    """The BTF of the wanted types alone, with everything they hold by value."""
    cutter = _Cutter(Btf(data))
    return encode(closure(cutter.record, cutter.roots))


class _Cutter:
    """Cuts structs to their wanted members, and those only pointed to to their name.

    A struct is whole when it is wanted or a whole one holds it by value; all others
    become incomplete types, wherever they occur.
    """

    def __init__(self, btf: Btf):
        self._btf = btf
        self.roots = sorted(set(_roots(btf)))
        self._whole: set[int] = set()
        self._find_whole()
        self._named: dict[tuple[Kind, str], int] = {}
        for type_id in sorted(self._whole, reverse=True):
            record = btf[type_id]
            self._named[record.kind, record.name] = type_id

    def record(self, type_id: int) -> Record:
        """The record as the reduced BTF has it, still with the kernel's ids."""
        record = self._cut(type_id)
        if record.kind in AGGREGATES and type_id not in self._whole:
            if not record.name:
                return replace(record, members=())
            return Record(Kind.FWD, record.name, flag=record.kind == Kind.UNION)
        return renumbered(record, self._canonical)

    def _canonical(self, type_id: int) -> int:
        """One id for all structs of a name: the whole one's, else the first seen."""
        record = self._btf[type_id]
        kind = record.kind
        if kind == Kind.FWD:
            kind = Kind.UNION if record.flag else Kind.STRUCT
        if kind not in AGGREGATES or not record.name or type_id in self._whole:
            return type_id
        return self._named.setdefault((kind, record.name), type_id)

    def _find_whole(self) -> None:
        pending = [i for i in self.roots if self._btf[i].kind not in CODE]
        seen = set(pending)
        while pending:
            type_id = pending.pop()
            record = self._cut(type_id)
            held = [m.type for m in record.members]
            if record.kind in AGGREGATES:
                self._whole.add(type_id)
            elif record.kind in TRANSPARENT or record.kind == Kind.ARRAY:
                held = [record.type]
            fresh = {i for i in held if i} - seen
            seen |= fresh
            pending.extend(fresh)

    def _cut(self, type_id: int) -> Record:
        record = self._btf[type_id]
        if record.kind != Kind.STRUCT or record.name not in wanted.PARTIAL:
            return record
        chosen = set(wanted.PARTIAL[record.name].split())
        members = tuple(m for m in record.members if self._is_chosen(m, chosen))
        return replace(record, members=members)

    def _is_chosen(self, member: Member, chosen: set[str]) -> bool:
        """An anonymous member is chosen for any name it brings."""
        if member.name:
            return member.name in chosen
        return any(m.name in chosen for m in self._btf.flatten(member.type))


def _roots(btf: Btf) -> Iterator[int]:
    for name in wanted.STRUCTS:
        yield from btf.find_all(name, *AGGREGATES)[:1]
    for name in wanted.TYPEDEFS:
        yield from btf.find_all(name, Kind.TYPEDEF)[:1]
    for name in wanted.FUNCTIONS:
        yield from btf.find_all(name, Kind.FUNC)[:1]
    names = set(wanted.ENUMERATORS)
    for type_id in btf.ids(Kind.ENUM, Kind.ENUM64):
        if any(c.name in names for c in btf[type_id].enumerators):
            yield type_id
    for type_id in btf.ids(Kind.INT):
        yield type_id


def write_layout(source: Source, name: str, directory: Path) -> Path:
    """NAME.btf and its entry in the index of ``directory``; gives the BTF's path."""
    path = directory / f"{name}.btf"
    path.write_bytes(reduced(source.btf))
    index_path = directory / INDEX_NAME
    index = json.loads(index_path.read_text()) if index_path.exists() else {}
    index[name] = asdict(source.origin)
    ordered = dict(sorted(index.items()))
    index_path.write_text(json.dumps(ordered, indent=2) + "\n")
    return path


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line: exit status 2 and one line for a file without BTF."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("file", type=Path, help="vmlinux with BTF, or raw BTF")
    parser.add_argument("--name", required=True, help="the layout's name, e.g. 7.3")
    parser.add_argument("--directory", type=Path, default=Path(__file__).parent)
    parser.add_argument("--release", help="overrides the one the vmlinux names")
    parser.add_argument("--build-id", help="overrides the one the vmlinux has")
    parser.add_argument("--package", default="", help="where the kernel comes from")
    options = parser.parse_args(arguments)
    try:
        source = read_source(options.file)
        origin = Origin(
            options.release or source.origin.release,
            options.build_id or source.origin.build_id,
            options.package,
        )
        path = write_layout(
            replace(source, origin=origin), options.name, options.directory
        )
    except (BtfError, ElfError, OSError) as error:
        print(f"{options.file}: {error}", file=sys.stderr)
        return 2
    print(f"{path}: {path.stat().st_size} bytes, {origin.release}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
