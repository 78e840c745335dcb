# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs small enough to be committed: a capsule, and the record that judges it.

The record is the guest's own, with QEMU's walk of the kernel half and the words of
memory at which that walk was anchored as two more parts.
"""

from __future__ import annotations

import io
import lzma
import tempfile
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from vmemmap_tools.cli import main

from .cache import RealError
from .runs import Run
from .tlb import TlbLeaf, parse_tlb
from .truth import Truth, parse_truth
from .walk import KERNEL_HALF, PhysicalMemory, QemuWalk

__all__ = [
    "CAPTURES",
    "Capture",
    "capsule_sizes",
    "capture_run",
    "is_committed",
    "write_record",
]

CAPTURES = Path(__file__).parents[2] / "vmcores" / "real"

ANCHORS = ("vmemmap_base", "page_offset_base")
"""Variables that `QemuWalk` looks up in memory."""

END = "@@ end\n"


@dataclass(frozen=True)
class Capture:
    """A committed capsule; what `QemuWalk` asks of a run and of its memory."""

    packed: Path

    @property
    def name(self) -> str:
        """Release and variant."""
        return self.packed.name[: -len(".core.xz")]

    def unpack(self, path: Path) -> None:
        """Write the capsule to *path*."""
        path.write_bytes(lzma.decompress(self.packed.read_bytes()))

    def truth(self) -> Truth:
        """Return what the guest said about itself."""
        return self._truth

    def tlb(self, start_va: int = 0, end_va: int = 1 << 64) -> Iterator[TlbLeaf]:
        """Yield the leaves of QEMU's page-table walk in [*start_va*, *end_va*)."""
        return parse_tlb(self._truth.parts["info-tlb"].splitlines(), start_va, end_va)

    def word(self, pa: int) -> int:
        """Return the 64-bit word at *pa*.

        :raises KeyError: if the record does not hold it
        """
        return self._words[pa]

    def walk(self) -> QemuWalk:
        """Return what QEMU said about the guest's page tables."""
        return QemuWalk(self, self)

    @cached_property
    def _truth(self) -> Truth:
        path = self.packed.with_name(f"{self.name}.truth.xz")
        return parse_truth(lzma.decompress(path.read_bytes()).decode())

    @cached_property
    def _words(self) -> dict[int, int]:
        lines = self._truth.parts["words"].splitlines()
        return {int(pa, 16): int(word, 16) for pa, word in map(str.split, lines)}


def is_committed(run: Run) -> bool:
    """Whether there is a capsule of such a run already."""
    return (CAPTURES / f"{run.release}_{run.variant}.core.xz").exists()


def capture_run(run: Run, directory: Path = CAPTURES) -> Path:
    """Write the packed capsule of *run*, and the record that judges it.

    :raises RealError: if the capsule cannot be made
    """
    with tempfile.TemporaryDirectory() as scratch:
        packed = _pack(_capsule(run, Path(scratch) / "core"))
    write_record(run, directory)
    path = directory / f"{run.release}_{run.variant}.core.xz"
    path.write_bytes(packed)
    return path


def capsule_sizes(run: Run) -> tuple[int, int, int]:
    """Return the bytes of a capsule of *run*: ELF, kdump, ELF after ``xz``.

    :raises RealError: if the capsule cannot be made
    """
    with tempfile.TemporaryDirectory() as scratch:
        elf = _capsule(run, Path(scratch) / "elf")
        kdump = _capsule(run, Path(scratch) / "kdump", "--kdump")
        return elf.stat().st_size, kdump.stat().st_size, len(_pack(elf))


def _capsule(run: Run, path: Path, *options: str) -> Path:
    opening = ["-c", str(run.elf), "-s", str(run.vmlinux)]
    with redirect_stdout(io.StringIO()):
        status = main([*opening, "capsule", str(path), *options])
    if status:
        raise RealError(f"{run.directory}: no capsule")
    return path


def _pack(path: Path) -> bytes:
    return lzma.compress(path.read_bytes(), preset=9 | lzma.PRESET_EXTREME)


def write_record(run: Run, directory: Path = CAPTURES) -> Path:
    """Write what judges a capsule of *run*; return the file."""
    text = (run.directory / "truth.txt").read_text(errors="replace")
    leaves = (run.directory / "tlb.txt").read_text().splitlines(keepends=True)
    kernel_half = (line for line in leaves if int(line[:16], 16) >= KERNEL_HALF)
    words = []
    memory = PhysicalMemory(run.elf)
    walk = QemuWalk(run, memory)
    for name in ANCHORS:
        pa = walk.translate(run.truth().kallsyms[name]).pa
        words.append(f"{pa:#x} {memory.word(pa):#x}\n")
    assert text.endswith(END)
    parts = (text[: -len(END)], "@@ info-tlb\n", *kernel_half, "@@ words\n", *words)
    path = directory / f"{run.release}_{run.variant}.truth.xz"
    whole = "".join((*parts, END))
    path.write_bytes(lzma.compress(whole.encode(), preset=9 | lzma.PRESET_EXTREME))
    return path
