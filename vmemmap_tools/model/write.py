# SPDX-License-Identifier: LGPL-2.1-or-later
"""From a finished machine to the files that drgn, gdb and crash open.

`write` writes DIR/vmlinux, DIR/vmcore and DIR/vmcore.kdump. A core comes in the
form of /proc/vmcore, of a QEMU dump or of /proc/kcore (`VARIANTS`), and with ranges
left out as makedumpfile leaves them out. Everything is streamed.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Protocol, Union

from vmemmap_tools.formats.core_write import MAX_LOADS, CoreWriter, pieces
from vmemmap_tools.formats.elf_write import note
from vmemmap_tools.formats.kdump import KdumpHeader, write_kdump
from vmemmap_tools.formats.output import output_file
from vmemmap_tools.model.mapped import mapped_runs
from vmemmap_tools.model.types import TypeGraph
from vmemmap_tools.model.vmcoreinfo import vmcoreinfo
from vmemmap_tools.model.vmlinux import build_id, write_vmlinux

__all__ = [
    "VARIANTS",
    "Image",
    "ImageSymbol",
    "build_id",
    "core_notes",
    "write",
    "write_vmcore",
    "write_vmcore_kdump",
    "write_vmlinux",
]

Buffer = Union[bytes, bytearray, memoryview]
Frames = Sequence[tuple[int, int]]
"""Ranges of page frame numbers, the ends excluded."""

VARIANTS = ("vmcore", "physical", "kcore")
"""As /proc/vmcore: direct map and kernel image. As QEMU: virtual addresses that are the
physical ones. As /proc/kcore: with the vmemmap too, at no physical address."""

NT_PRSTATUS = 1
PRSTATUS = {"x86_64": (336, 112, 16), "aarch64": (392, 112, 32)}
"""Size of the note, offset of its registers, number of the program counter in them."""
TWO_MIB = 2 << 20


class ImageSymbol(Protocol):
    """A symbol: link-time address, size in bytes, "object", "func" or "notype".

    ``type`` is the C type of a variable, None for what assembly defines: such symbols
    get no debug information, as in real kernels.
    """

    @property
    def address(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def kind(self) -> str: ...
    @property
    def type(self) -> str | None: ...
    @property
    def static(self) -> bool: ...


class Memory(Protocol):
    """Physical memory: the ranges a dump names, their content in pieces."""

    @property
    def ranges(self) -> Sequence[tuple[int, int]]: ...
    def chunks(self, start: int, end: int) -> Iterable[tuple[int, Buffer | None]]: ...
    def read(self, pa: int, size: int) -> bytes: ...


class Arch(Protocol):
    """What a writer needs to know of an architecture."""

    @property
    def name(self) -> str: ...
    @property
    def elf_machine(self) -> int: ...
    @property
    def page_shift(self) -> int: ...
    @property
    def page_size(self) -> int: ...
    @property
    def table_bits(self) -> int: ...
    @property
    def image_va(self) -> int: ...
    @property
    def image_map(self) -> int: ...
    @property
    def root_symbol(self) -> str: ...


class Image(Protocol):
    """A finished machine. ``facts`` are those of model.vmcoreinfo, and ``page_offset``:
    the direct-map address of physical address 0."""

    @property
    def types(self) -> TypeGraph: ...
    @property
    def generation(self) -> str: ...
    @property
    def release(self) -> str: ...
    @property
    def arch(self) -> Arch: ...
    @property
    def memory(self) -> Memory: ...
    @property
    def symbols(self) -> Mapping[str, ImageSymbol]: ...
    @property
    def kaslr_offset(self) -> int: ...
    @property
    def phys_base(self) -> int: ...
    @property
    def facts(self) -> Mapping[str, int]: ...


def write(
    image: Image,
    directory: Path,
    *,
    variant: str = "vmcore",
    kdump: bool = False,
    excluded: Frames = (),
) -> None:
    """Write vmlinux and vmcore into a directory, and vmcore.kdump on demand.

    Frames that are ``excluded`` are named by the dumps but not in them.
    """
    directory.mkdir(parents=True, exist_ok=True)
    write_vmlinux(image, directory / "vmlinux")
    write_vmcore(image, directory / "vmcore", variant=variant, excluded=excluded)
    if kdump:
        write_vmcore_kdump(image, directory / "vmcore.kdump", excluded=excluded)


def write_vmcore(
    image: Image, path: Path, *, variant: str = "vmcore", excluded: Frames = ()
) -> None:
    """Write an ELF core in the form of one of `VARIANTS`.

    Raises ValueError for an unknown variant, or when the vmemmap needs more program
    headers than there can be.
    """
    if variant not in VARIANTS:
        raise ValueError(f"no core variant {variant!r}; there are {VARIANTS}")
    slide = 0 if variant == "physical" else image.facts["page_offset"]
    total = sum(end - start for start, end in image.memory.ranges)
    capacity = MAX_LOADS if variant == "kcore" else 256 + (total >> 20)
    with output_file(path, may_replace=True) as file:
        notes = core_notes(image)
        core = CoreWriter(file, image.arch.elf_machine, notes, capacity)
        for part in _parts(image, excluded):
            chunks = image.memory.chunks(part.start, part.end) if part.size else ()
            start = part.start
            core.load(slide + start, start, part.size, chunks, part.absent)
        if variant != "physical":
            core.alias(*_kernel_image(image))
        if variant == "kcore":
            for va, pa, size in mapped_runs(image, *_vmemmap_window(image)):
                core.alias(va, pa, size, has_pa=False)
        core.finish()


def write_vmcore_kdump(image: Image, path: Path, *, excluded: Frames = ()) -> None:
    """Write a kdump-compressed dump, filtered of free memory.

    As makedumpfile does, it stores the zero pages of what the kernel uses, and leaves
    out what is free: here whole 2 MiB blocks outside the kernel's image in which nobody
    wrote.
    """
    header = KdumpHeader(
        release=image.release,
        machine=image.arch.name,
        vmcoreinfo=vmcoreinfo(_Facts(image)),
        notes=core_notes(image),
        phys_base=image.phys_base,
        page_shift=image.arch.page_shift,
    )
    _, image_pa, size = _kernel_image(image)
    kernel = range(image_pa, image_pa + size)
    ranges = ((p.start, p.stop, p.kept(image, kernel)) for p in _parts(image, excluded))
    with output_file(path, may_replace=True) as file:
        write_kdump(file, header, ranges, str(path.parent))


def core_notes(image: Image) -> bytes:
    """The notes of a core: one CPU's registers, and VMCOREINFO."""
    arch = image.arch.name
    size, registers, counter = PRSTATUS[arch]
    status = bytearray(size)
    struct.pack_into("<I", status, 32, 1)  # pr_pid
    text = image.symbols.get("_stext")
    if text is not None:
        address = text.address + image.kaslr_offset
        struct.pack_into("<Q", status, registers + 8 * counter, address)
    info = vmcoreinfo(_Facts(image))
    return note("CORE", NT_PRSTATUS, bytes(status)) + note("VMCOREINFO", 0, info)


class _Facts:
    """An image as model.vmcoreinfo wants to see it."""

    def __init__(self, image: Image):
        self._image = image
        self.types = image.types
        self.release = image.release
        self.arch_name = image.arch.name
        self.page_size = image.arch.page_size
        self.build_id = build_id(image)
        self.kaslr_offset = image.kaslr_offset
        self.phys_base = image.phys_base
        self.numbers = image.facts

    def address(self, symbol: str) -> int | None:
        found = self._image.symbols.get(symbol)
        return None if found is None else found.address + self.kaslr_offset


@dataclass(frozen=True)
class _Part:
    """Memory from ``start`` to ``end``; ``absent`` bytes behind it are left out."""

    start: int
    end: int
    absent: int

    @property
    def size(self) -> int:
        return self.end - self.start

    @property
    def stop(self) -> int:
        return self.end + self.absent

    def kept(self, image: Image, kernel: range) -> Iterator[tuple[int, Buffer | None]]:
        """Its content, None for what a filter leaves out."""
        if self.size:
            chunks = image.memory.chunks(self.start, self.end)
            for at, size, content in pieces(chunks, self.end):
                if content is not None:
                    yield at, content
                else:
                    yield from self._untouched(at, at + size, kernel)
        if self.absent:
            yield self.end, None

    def _untouched(
        self, start: int, end: int, kernel: range
    ) -> Iterator[tuple[int, Buffer | None]]:
        """Memory that nobody wrote: zeros beside what is used, else left out."""
        behind = start if start == self.start else min(end, _block_end(start))
        before = end if end == self.end else max(start, end - end % TWO_MIB)
        used = [(start, behind), (kernel.start, kernel.stop), (before, end)]
        position = start
        for low, high in sorted(used):
            first, last = max(low, position), min(high, end)
            if first >= last:
                continue
            if position < first:
                yield position, None
            for at in range(first, last, TWO_MIB):
                yield at, _zeros(min(TWO_MIB, last - at))
            position = last
        if position < end:
            yield position, None


def _block_end(pa: int) -> int:
    return (pa // TWO_MIB + 1) * TWO_MIB


@cache
def _zeros(size: int) -> bytes:
    """Zeros that are always the same object, so that they are compressed once."""
    return bytes(size)


def _parts(image: Image, excluded: Frames) -> Iterator[_Part]:
    """The memory's ranges, cut behind each excluded range."""
    shift = image.arch.page_shift
    holes = sorted((first << shift, last << shift) for first, last in excluded)
    for start, end in image.memory.ranges:
        position = start
        for low, high in holes:
            first, last = max(low, position), min(high, end)
            if first < last:
                yield _Part(position, first, last - first)
                position = last
        if position < end:
            yield _Part(position, end, 0)


def _kernel_image(image: Image) -> tuple[int, int, int]:
    """Where the kernel's text and variables are: virtual, physical, size."""
    start = image.arch.image_va
    end = max(symbol.address + symbol.size for symbol in image.symbols.values())
    size = -(-(end - start) // TWO_MIB) * TWO_MIB
    va = start + image.kaslr_offset
    return va, va - image.arch.image_map + image.phys_base, size


def _vmemmap_window(image: Image) -> tuple[int, int]:
    """The virtual addresses of the struct pages of all memory there is."""
    page = image.types.sizeof("struct page")
    shift = image.arch.page_shift
    frames = 1 << (image.facts["max_physmem_bits"] - shift)
    base = image.facts["vmemmap"]
    return base, base + frames * page
