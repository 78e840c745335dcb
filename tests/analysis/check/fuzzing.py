# SPDX-License-Identifier: LGPL-2.1-or-later
"""Running the command line on damaged dumps, where a crash would not end the tests.

Each run is a process of its own, forked from a server that has the modules loaded: a
library that dies of a header, or loops over one, is a finding and not the end.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import multiprocessing
import os
import resource
import struct
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vmemmap_tools.model.image import Image
from vmemmap_tools.model.machine import Machine

__all__ = ["Dump", "Patch", "Region", "judge", "regions"]

PAGE = 4096
SECONDS = 20.0
"""A run takes a third of a second: a hang, not a slow machine, takes so long."""
ADDRESS_SPACE = 8 << 30
RESIDENT = 1 << 30
PT_LOAD = 1
ADDRESS_MASK = 0x000FFFFFFFFFF000

Patch = tuple[int, bytes]
"""(offset in the file, bytes to stand there)"""

_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload(["drgn", __name__, "vmemmap_tools.target.drgn_open"])


def _child(words: Sequence[str], out: str, err: str) -> None:
    from vmemmap_tools.cli import main

    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for stream, path in ((1, out), (2, err)):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, stream)
    status = main(list(words))
    sys.stdout.flush()
    sys.stderr.flush()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    # An answer within its bounds is 0 to 2; too much memory a status of its own.
    os._exit(status if peak < RESIDENT else 99)


class Dump:
    """A dump of a model machine that can be damaged and mended again."""

    def __init__(self, machine: Machine, directory: Path, name: str = "vmcore"):
        machine.write(directory, kdump=name.endswith("kdump"))
        self.path, self.symbols = directory / name, directory / "vmlinux"
        self._out, self._err = directory / "out", directory / "err"
        self.size = self.path.stat().st_size
        self._loads = list(_loads(self.read(0, 16 * PAGE)))

    def offset(self, pa: int) -> int | None:
        """Where a physical address stands in the file (ELF only)."""
        for start, size, offset in self._loads:
            if start <= pa < start + size:
                return offset + pa - start
        return None

    @contextlib.contextmanager
    def damaged(self, patches: Sequence[Patch]) -> Iterator[None]:
        """The file with these patches, in order; as it was afterwards."""
        undo: list[Patch] = []
        with open(self.path, "r+b", buffering=0) as file:
            for offset, data in patches:
                file.seek(offset)
                undo.append((offset, file.read(len(data))))
                file.seek(offset)
                file.write(data)
            try:
                yield
            finally:
                for offset, data in reversed(undo):
                    file.seek(offset)
                    file.write(data)

    def read(self, offset: int, size: int) -> bytes:
        with open(self.path, "rb") as file:
            file.seek(offset)
            return file.read(size)

    def find(self, text: bytes) -> int:
        """Offset of the first place where a text stands."""
        with open(self.path, "rb") as file:
            view = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            with contextlib.closing(view):
                return view.find(text)

    def run(self, *words: str) -> tuple[int, str, str]:
        """(exit status, answer, complaint) of ``vmemmap -c DUMP -s VMLINUX WORDS``.

        Fails when it neither ends in time nor by itself.
        """
        line = ["-c", str(self.path), "-s", str(self.symbols), *words]
        process = _server.Process(
            target=_child, args=(line, str(self._out), str(self._err))
        )
        start = time.monotonic()
        process.start()
        process.join(SECONDS)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise AssertionError(f"no end after {time.monotonic() - start:.0f} s")
        assert process.exitcode >= 0, f"died of signal {-process.exitcode}"
        return process.exitcode, self._out.read_text(), self._err.read_text()


def judge(ended: tuple[int, str, str]) -> None:
    """An answer with findings, or a refusal in one line; nothing else."""
    status, out, err = ended
    assert "Traceback" not in err
    if status in (0, 1):
        rows = json.loads(out)["rows"]
        assert bool(status) == any(row["severity"] == "E" for row in rows)
        return
    assert status == 2, (status, err)
    (line,) = err.splitlines()
    assert line.startswith("vmemmap: ") and "unforeseen" not in line, line
    assert line.isprintable(), line


def _loads(head: bytes) -> Iterator[tuple[int, int, int]]:
    """(physical address, size, offset) of an ELF file's segments; none of a kdump's."""
    if head[:4] != b"\x7fELF":
        return
    (at,) = struct.unpack_from("<Q", head, 32)
    size, count = struct.unpack_from("<HH", head, 54)
    for i in range(count):
        kind, _, offset, _, pa, length, _, _ = struct.unpack_from(
            "<IIQQQQQQ", head, at + i * size
        )
        if kind == PT_LOAD:
            yield pa, length, offset


@dataclass(frozen=True)
class Region:
    """A structure in physical memory."""

    name: str
    pa: int
    size: int


def regions(image: Image) -> dict[str, list[Region]]:
    """The structures that `check` follows, by kind."""
    sizeof = image.types.sizeof
    found: dict[str, list[Region]] = {
        "tables": [Region("table", pa, PAGE) for pa in _tables(image)],
        "mem_section": [
            Region("section", s.pa, sizeof("struct mem_section"))
            for s in image.sections.values()
        ],
        "usage": [Region("usage", u.pa, 64) for u in image.usages.values()],
        "hstates": [
            Region("hstate", h.pa, sizeof(f"struct {h.tag}")) for h in image.hstates
        ],
        "zones": [
            Region("zone", z.pa, sizeof("struct zone")) for z in image.zones.values()
        ],
        "nodes": [Region("node", n.pa, 256) for n in image.nodes.values()],
        "pgmaps": [
            Region("pgmap", p.pa, sizeof("struct dev_pagemap"))
            for p in image.pgmaps.values()
        ],
        "xarray": list(_xarray(image)),
        "variables": [
            Region(
                name,
                _image_pa(image, symbol.address + image.kaslr_offset),
                max(8, symbol.size),
            )
            for name, symbol in image.symbols.items()
            if symbol.kind == "object" and symbol.size <= PAGE
        ],
        "struct pages": [
            Region("page", image.page_pa(int(pfn)), 4 * sizeof("struct page"))
            for pfn in image.machine.hugetlb.table["pfn"][::5]
        ],
    }
    return {kind: some for kind, some in found.items() if some}


def _tables(image: Image) -> Iterator[int]:
    """Tables of every level that the vmemmap hangs below."""
    pa = _image_pa(image, image.root_va)
    start = image.core.placement.vmemmap_base
    for shift in range(12 + 9 * (image.late_facts()["levels"] - 1), 12, -9):
        yield pa
        pa = image.read64(pa + 8 * (start >> shift & 511)) & ADDRESS_MASK
        if not pa:
            break
    yield from (frame * PAGE for frame in image.core.vmemmap.tables.values())


def _xarray(image: Image) -> Iterator[Region]:
    """The top of pgmap_array and its first node."""
    symbol = image.symbols.get("pgmap_array")
    if symbol is None:
        return
    root = _image_pa(image, symbol.address + image.kaslr_offset)
    yield Region("xarray", root, 16)
    head = image.read64(root + image.types.offsetof("xarray.xa_head")) & ~3
    if head:
        yield Region(
            "node", head - image.heap.offset, image.types.sizeof("struct xa_node")
        )


def _image_pa(image: Image, va: int) -> int:
    """Physical address of what lies in the kernel image."""
    return va + image.phys_base - image.arch.image_map
