# SPDX-License-Identifier: LGPL-2.1-or-later
"""Cores of one modelled machine in every form that gdb opens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from tests.commands import asking
from vmemmap_tools.formats.core_write import CoreWriter
from vmemmap_tools.formats.elf import PT_LOAD
from vmemmap_tools.kernel.kernel import Kernel
from vmemmap_tools.model import spec
from vmemmap_tools.model.image import Image
from vmemmap_tools.model.machine import Machine
from vmemmap_tools.model.mapped import mapped_runs
from vmemmap_tools.model.write import core_notes, write_vmcore, write_vmlinux
from vmemmap_tools.target.drgn_open import open_dump

__all__ = [
    "FORMS",
    "KASLR",
    "MACHINES",
    "VERBS",
    "Modelled",
    "ask",
    "small_machine",
    "without_sources",
]

FORMS = ("vmcore", "filtered", "physical", "paging", "kcore", "pathless")
"""As /proc/vmcore; as makedumpfile leaves pages out of that; as QEMU without and with
paging; as /proc/kcore, and as its older form, which gives no physical addresses."""
VERBS = (
    "info",
    "summary",
    "sections",
    "zones --all",
    "map",
    "hvo --folios",
    "dax",
    "page pfn:0x10000",
    "walk vmemmap_base",
    "check",
    "check --quick",
)
KASLR = "KASLR offset"
OWN_SOURCES = frozenset({"memory", "types", "symbols", KASLR, "VMCOREINFO"})
"""Rows of `info` that say where facts come from, which differs between the doors."""

MACHINES: Mapping[str, Mapping[str, Any]] = {
    "four-level": {"levels": 4, "kaslr": 5},
    "five-level": {"levels": 5, "kaslr": 23, "sme": True},
}
"""Both with KASLR; the second with encrypted memory too."""


def small_machine(name: str) -> Machine:
    """A small machine with hugetlb folios, one of `MACHINES`."""
    text: dict[str, Any] = {
        "generation": "7.3",
        "machine": MACHINES[name],
        "node": [{"memory": ["0-512M"]}],
        "step": [{"do": "hugetlb_alloc", "size": "2M", "count": 8}],
    }
    return spec.build(spec.parse(text))


class Modelled:
    """A machine's vmlinux and cores in a directory."""

    def __init__(self, image: Image, directory: Path):
        self.image = image
        self.directory = directory
        self.vmlinux = directory / "vmlinux"
        write_vmlinux(image, self.vmlinux)
        self.core = cache(self._core)
        self.answers = cache(self._answers)

    def _core(self, form: str) -> Path:
        path = self.directory / form
        if form == "filtered":
            write_vmcore(self.image, path, excluded=self.excluded)
        elif form == "paging":
            _write_paging(self.image, path)
        elif form == "pathless":
            path.write_bytes(self._core("kcore").read_bytes())
            _forget_physical(path)
        else:
            write_vmcore(self.image, path, variant=form)
        return path

    @property
    def excluded(self) -> Sequence[tuple[int, int]]:
        """Frames that hold neither kernel nor tables: the last MiB of each range."""
        return [((end >> 12) - 256, end >> 12) for _, end in self.image.memory.ranges]

    def _answers(self, form: str) -> Mapping[str, Any]:
        """What the command line answers to each of `VERBS`, through drgn."""
        kernel = Kernel(open_dump(str(self.core(form)), [str(self.vmlinux)]))
        return {verb: ask(kernel, verb) for verb in VERBS}


def without_sources(answer: Any) -> Any:
    """An answer of `info` without the rows on sources, any other as it is.

    The offset of KASLR is kept, and stands once, but not how it was found.
    """
    rows = [row for row in answer["rows"] if not _is_own(row)]
    offsets = [row["value"] for row in answer["rows"] if row.get("subject") == KASLR]
    return {**answer, "rows": rows, KASLR: offsets}


def _is_own(row: Any) -> bool:
    return isinstance(row, dict) and row.get("subject") in OWN_SOURCES


def ask(kernel: Kernel, words: str) -> Any:
    """The JSON that a verb answers."""
    return asking.ask(kernel, *words.split())


def _write_paging(image: Any, path: Path) -> None:
    """As QEMU's dump-guest-memory -p: what is mapped, each with both addresses."""
    base, page_offset = image.facts["vmemmap"], image.facts["page_offset"]
    with open(path, "wb") as file:
        core = CoreWriter(file, image.arch.elf_machine, core_notes(image), 60000)
        for start, end in image.memory.ranges:
            chunks = image.memory.chunks(start, end)
            core.load(page_offset + start, start, end - start, chunks)
        for va, pa, size in mapped_runs(image, base, base + (1 << 40)):
            core.alias(va, pa, size)
        core.finish()


def _forget_physical(path: Path) -> None:
    """Zero every p_paddr."""
    data = bytearray(path.read_bytes())
    for at in _program_headers(data):
        data[at + 24 : at + 32] = bytes(8)
    path.write_bytes(data)


def _program_headers(data: bytearray) -> Iterator[int]:
    start = int.from_bytes(data[32:40], "little")
    count = int.from_bytes(data[56:58], "little")
    for at in range(start, start + 56 * count, 56):
        if int.from_bytes(data[at : at + 4], "little") == PT_LOAD:
            yield at
