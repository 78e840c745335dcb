# SPDX-License-Identifier: LGPL-2.1-or-later
"""The vmlinux of a simulated machine: symbols, types and a build-id, but no code.

Variables are in NOBITS sections: a reader that misses them in the core must fail, not
find a plausible value in the file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from vmemmap_tools.formats.btf import Kind, Record
from vmemmap_tools.formats.btf_write import closure, encode
from vmemmap_tools.formats.dwarf import Function, Variable, dwarf_sections
from vmemmap_tools.formats.elf_write import (
    Section,
    Symbol,
    build_id_note,
    write_executable,
)
from vmemmap_tools.formats.output import output_file
from vmemmap_tools.model.types import TypeGraph

if TYPE_CHECKING:
    from vmemmap_tools.model.write import Image

__all__ = ["build_id", "write_vmlinux"]

BANNER = "linux_banner"
PAGE = 4096
CODE = b"\xcc" * 16
"""Stands for .init.text, which drgn wants to see: breakpoint instructions."""
CLASSES = {"x": (".text", "ax"), "r": (".rodata", "a"), "w": (".bss", "wa")}


def build_id(image: Image) -> bytes:
    """20 bytes that depend on the types and on where the symbols are."""
    digest = hashlib.sha1(usedforsecurity=False)
    digest.update(repr((image.generation, image.release, image.arch.name)).encode())
    for name, symbol in sorted(image.symbols.items()):
        digest.update(repr((name, symbol.address, symbol.size, symbol.type)).encode())
    return digest.digest()


def write_vmlinux(image: Image, path: Path, *, is_stripped: bool = False) -> None:
    """Write the vmlinux of an image.

    One that ``is_stripped``, as by ``strip -g``, has BTF in the place of DWARF.
    """
    loaded = list(_loaded(image))
    end = max(s.address + s.length for s in loaded)
    init_text = -(-end // PAGE) * PAGE
    code = Section(".init.text", init_text, CODE, flags="ax", align=16)
    identity = build_id_note(build_id(image))
    notes = Section(
        ".note.gnu.build-id",
        init_text + PAGE,
        identity,
        flags="a",
        align=4,
        is_note=True,
    )
    described = {".BTF": _btf(image.types)} if is_stripped else _debug(image)
    debug = [Section(name, data=data) for name, data in described.items()]
    symbols = [
        Symbol(name, symbol.address, symbol.size, symbol.kind, symbol.static)
        for name, symbol in image.symbols.items()
    ]
    with output_file(path, may_replace=True) as file:
        write_executable(
            file,
            image.arch.elf_machine,
            [*loaded, code, notes, *debug],
            symbols,
            image.arch.image_map,
        )


def _loaded(image: Image) -> Iterator[Section]:
    """Sections around the symbols: neighbours of one class share one."""
    extents: list[tuple[str, int, int]] = []
    sized = ((s.address, s.address + s.size, n) for n, s in image.symbols.items())
    for start, end, name in sorted(sized):
        letter = _class(image, name)
        if end == start:
            continue
        if extents and extents[-1][0] == letter:
            _, first, last = extents.pop()
            extents.append((letter, first, max(last, end)))
        else:
            extents.append((letter, start, end))
    used: dict[str, int] = {}
    for letter, start, end in extents:
        name, flags = CLASSES[letter]
        used[name] = number = used.get(name, 0) + 1
        unique = name if number == 1 else f"{name}.{number}"
        # crash takes a file whose .text has no bytes for one of debug info alone.
        data = bytes(end - start) if letter == "x" else None
        if letter == "r":
            data = _banner(image)
        yield Section(unique, start, data, end - start, flags)


def _class(image: Image, name: str) -> str:
    if name == BANNER:
        return "r"
    return "x" if image.symbols[name].kind == "func" else "w"


def _banner(image: Image) -> bytes:
    """The banner as memory has it, else one that names the release."""
    symbol = image.symbols[BANNER]
    va = symbol.address + image.kaslr_offset
    text = image.memory.read(va - image.arch.image_map + image.phys_base, symbol.size)
    if not any(text):
        text = f"Linux version {image.release} (model)\n".encode()
    return text[: symbol.size].ljust(symbol.size, b"\0")


def _btf(graph: TypeGraph) -> bytes:
    return encode(closure(graph.__getitem__, sorted(graph.records)))


def _debug(image: Image) -> dict[str, bytes]:
    graph = image.types
    variables = [
        Variable(name, graph.type_id(symbol.type), symbol.address, not symbol.static)
        for name, symbol in image.symbols.items()
        if symbol.type is not None and symbol.kind != "func"
    ]
    return dwarf_sections(
        graph.__getitem__,
        _defined(graph),
        variables,
        list(_functions(image)),
        producer=f"vmemmap_tools model of {image.generation}",
    )


def _functions(image: Image) -> Iterator[Function]:
    for record in image.types.records.values():
        if record.kind == Kind.FUNC:
            symbol = image.symbols.get(record.name)
            if symbol is None or symbol.kind != "func":
                yield Function(record.name, record.type)
            else:
                yield Function(record.name, record.type, symbol.address, symbol.size)


def _defined(graph: TypeGraph) -> Iterable[int]:
    """The types that a reader may look up by name or by enumerator."""
    return (i for i, record in graph.records.items() if _is_definition(record))


def _is_definition(record: Record) -> bool:
    if record.kind in (Kind.ENUM, Kind.ENUM64):
        return bool(record.enumerators)
    return bool(record.name) and record.kind not in (Kind.FWD, Kind.FUNC)
