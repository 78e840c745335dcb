# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where KASLR put an x86-64 kernel: found from what a stopped machine shows.

The ways, in this order: VMCOREINFO; the page tables behind cr3, through physical
memory; the interrupt table, which even a user's page tables map; a search for the
banner at every place where it may be. A place counts only if the banner of this very
vmlinux is there. Mirrors ``arch/x86/boot/compressed/kaslr.c`` and ``kernel/head64.c``.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Callable

from ..arch import ARCHITECTURES
from ..arch.pagetable import AbsentTable, HugeLeaf, PageTable
from ..arch.x86_64 import KERNEL_MAP
from .base import Fault, MemoryProvider, SymbolProvider, TargetError
from .elf_symbols import ElfSymbols
from .kernel_tables import kernel_page_table
from .vmcoreinfo import VmcoreInfo
from .witnesses import distances

__all__ = [
    "Boot",
    "Processor",
    "described",
    "direct_map_base",
    "exported",
    "find_boot",
    "has_banner",
    "image_reader",
    "of_note",
    "require_banner",
    "require_build",
    "require_tables",
]

Read = Callable[[int, int], bytes]

IMAGE_SPAN = 1 << 30
"""``KERNEL_IMAGE_SIZE`` with KASLR: what may hold the image from KERNEL_MAP on."""
STEP = 2 << 20
"""``CONFIG_PHYSICAL_ALIGN``: the image moves by multiples of it."""
CR4_LA57 = 1 << 12
UNENCRYPTED = (1 << 47) - 1
"""Encrypted memory is marked by an address bit from 47 on (47 or 51)."""
PTI_USER = 1 << 12
"""The bit that tells the user's half of a pair of page-table roots."""
BANNER = "linux_banner"
BANNER_START = b"Linux version "
FIRST_GATES = ("asm_exc_divide_error", "divide_error")
DIRECT_MAPS = {4: 0xFFFF888000000000, 5: 0xFF11000000000000}
"""``__PAGE_OFFSET_BASE_L4`` and ``_L5``: of kernels that cannot move it."""
MASK_64 = (1 << 64) - 1
MAX_VMCOREINFO = 1 << 16


@dataclass(frozen=True)
class Processor:
    """What a CPU's registers say; None is what the machine does not show."""

    cr3: int | None = None
    cr4: int | None = None
    idt: int | None = None


@dataclass(frozen=True)
class Boot:
    """``offset`` is added to link addresses; ``source`` says in words how it was found.

    ``phys_base`` and ``levels`` are None where VMCOREINFO has them or nothing does.
    """

    offset: int
    source: str
    phys_base: int | None = None
    levels: int | None = None


def of_note(info: VmcoreInfo, symbols: ElfSymbols) -> Boot | None:
    """The offset as VMCOREINFO says it.

    Raises `TargetError` where its symbols contradict those of the vmlinux.
    """
    found = distances(info, symbols.link_address)
    if len(set(found.values())) > 1:
        raise TargetError(
            f"{symbols.path} is of another build than the kernel: its symbols are not "
            "as far from each other as those of VMCOREINFO"
        )
    for name, offset in found.items():
        return Boot(offset, f"VMCOREINFO SYMBOL({name})", info.number("phys_base"))
    text = info.get("KERNELOFFSET")
    if text is None:
        return None
    try:
        offset = int(text, 16)
    except ValueError:
        raise TargetError(f"VMCOREINFO KERNELOFFSET is no number: {text!r}") from None
    return Boot(offset, "VMCOREINFO KERNELOFFSET", info.number("phys_base"))


def find_boot(
    symbols: ElfSymbols,
    processor: Processor,
    read: Read | None,
    read_physical: Read | None,
) -> Boot | None:
    """Where a kernel runs whose memory can be read in at least one of two ways.

    None when nothing was found. Raises `TargetError` for a kernel of another build.
    """
    ways: list[tuple[Iterator[Boot], bool]] = []
    if read_physical is not None and processor.cr3 is not None:
        ways.append((_from_tables(symbols, processor, read_physical), False))
    if read is not None:
        # A user's page tables map the interrupt table, but not the banner.
        ways.append((_from_idt(symbols, processor, read), True))
        ways.append((_from_banner(symbols, processor), False))
    other = None
    for boots, is_sure in ways:
        for boot in boots:
            reader = image_reader(boot, read, read_physical)
            found = has_banner(symbols, boot.offset, reader)
            if found is True or (found is None and is_sure):
                return boot
            other = other or found
    if isinstance(other, bytes):
        text = other.split(b"\n")[0].decode("ascii", "backslashreplace")
        raise TargetError(
            f"{symbols.path} is of another build than the kernel, which says: {text}"
        )
    return None


def has_banner(
    symbols: ElfSymbols, offset: int, read: Read | None
) -> bool | bytes | None:
    """Whether the banner of this vmlinux lies where it would with this offset.

    None when that cannot be read, another kernel's banner where that is found.
    """
    linked = symbols.linked(BANNER)
    if linked is None or read is None:
        return None
    size = min(max(linked.size, len(BANNER_START)), 1 << 10)
    try:
        found = read(linked.address + offset & MASK_64, size)
    except Fault:
        return None
    if not found.startswith(BANNER_START):
        return False
    expected = symbols.content(linked, size)
    if expected is None or expected == found:
        return True
    return found


def exported(memory_read: Read, symbols: ElfSymbols) -> VmcoreInfo | None:
    """VMCOREINFO as a kernel keeps it in its memory for a crash."""
    pointer, size = symbols.symbol("vmcoreinfo_data"), symbols.symbol("vmcoreinfo_size")
    if pointer is None or size is None:
        return None
    try:
        address = int.from_bytes(memory_read(pointer, 8), "little")
        length = int.from_bytes(memory_read(size, 8), "little")
        if not address or not 0 < length <= MAX_VMCOREINFO:
            return None
        text = memory_read(address, length).decode("utf-8", "replace")
    except Fault:
        return None
    return VmcoreInfo(text) if text.startswith("OSRELEASE=") else None


def described(boot: Boot, symbols: ElfSymbols, read: Read | None) -> VmcoreInfo:
    """What VMCOREINFO would say, as far as it is known, for kernels without it.

    ``symbols`` have been moved; ``read`` reads the kernel image. Raises `TargetError`
    when too little is known.
    """
    phys_base, levels = boot.phys_base, boot.levels
    if phys_base is None:
        phys_base = _variable(symbols, "phys_base", 8, read)
    if levels is None:
        enabled = _variable(symbols, "__pgtable_l5_enabled", 4, read)
        levels = 5 if enabled else 4
    root = symbols.symbol("init_top_pgt")
    if phys_base is None or root is None:
        raise TargetError(
            f"the kernel of {symbols.path} was found ({boot.source}), but not where "
            "it is in physical memory: phys_base cannot be read"
        )
    encrypted = _variable(symbols, "sme_me_mask", 8, read) or 0
    text = (
        f"PAGESIZE=4096\nSYMBOL(init_top_pgt)={root:x}\nNUMBER(phys_base)={phys_base}\n"
        f"NUMBER(sme_mask)={encrypted & MASK_64}\n"
        f"NUMBER(pgtable_l5_enabled)={int(levels == 5)}\nKERNELOFFSET={boot.offset:x}\n"
    )
    release = _release(symbols)
    return VmcoreInfo(f"OSRELEASE={release}\n{text}" if release else text)


def direct_map_base(
    symbols: SymbolProvider, read: Read, info: Mapping[str, str]
) -> int:
    """The address that maps physical address 0. Raises `Fault`."""
    address = symbols.symbol("page_offset_base")
    if address is None:
        return DIRECT_MAPS[5 if info.get("NUMBER(pgtable_l5_enabled)") == "1" else 4]
    return int.from_bytes(read(address, 8), "little")


def require_build(info: Mapping[str, str], symbols: ElfSymbols) -> None:
    """Refuse a vmlinux of another build than VMCOREINFO's. Raises `TargetError`."""
    expected = info.get("BUILD-ID")
    if expected and symbols.build_id and expected.lower() != symbols.build_id:
        raise TargetError(
            f"{symbols.path} is of another build than the kernel: build-id "
            f"{symbols.build_id}, not {expected}"
        )


def require_banner(source: str, symbols: ElfSymbols, read: Read) -> str:
    """Refuse a vmlinux whose banner is not where ``symbols``, moved already, have it.

    Returns what came of it, in words; ``source`` names the memory. Raises
    `TargetError`.
    """
    banner = has_banner(symbols, symbols.offset, read)
    if banner not in (True, None):
        raise TargetError(
            f"{source} does not hold the kernel of {symbols.path}: its banner is "
            "not where VMCOREINFO has it; one of them is damaged or of another build"
        )
    return "banner verified" if banner else "banner not in the dump"


def require_tables(memory: MemoryProvider, symbols: ElfSymbols, boot: Boot) -> None:
    """Refuse page tables that do not map the kernel they are said to be of.

    A wrong ``phys_base`` leads to memory that holds anything, or zeros: everything
    would seem to be unmapped. Raises `TargetError`.
    """
    address = symbols.symbol(BANNER)
    table = kernel_page_table(memory)
    if table is None or address is None:
        return
    try:
        if table.translate(address) is not None:
            return
    except Fault as fault:
        if fault.kind in ("excluded", "cut"):
            return
    raise TargetError(
        f"the kernel of {symbols.path} was found ({boot.source}), but its page tables "
        f"are not at {table.root_pa:#x}, where VMCOREINFO or phys_base has them"
    )


def _variable(
    symbols: ElfSymbols, name: str, size: int, read: Read | None
) -> int | None:
    address = symbols.symbol(name)
    if address is None or read is None:
        return None
    try:
        return int.from_bytes(read(address, size), "little", signed=True)
    except Fault:
        return None


def _release(symbols: ElfSymbols) -> str | None:
    """The release that the banner names."""
    linked = symbols.linked(BANNER)
    if linked is None:
        return None
    text = symbols.content(linked, min(linked.size, 1 << 10))
    if not text or not text.startswith(BANNER_START):
        return None
    return text[len(BANNER_START) :].split(b" ")[0].decode("ascii", "backslashreplace")


def _from_tables(
    symbols: ElfSymbols, processor: Processor, read_physical: Read
) -> Iterator[Boot]:
    """The first thing mapped in the image's range is ``_text``."""
    text = symbols.linked("_text") or symbols.linked("_stext")
    arch = ARCHITECTURES["x86_64"]
    if text is None or processor.cr3 is None:
        return
    plain = arch.table_format(_NoFacts())
    table_format = replace(plain, address_mask=plain.address_mask & UNENCRYPTED)
    root = processor.cr3 & table_format.address_mask
    depths: tuple[int, ...] = (4, 5)
    if processor.cr4 is not None:
        depths = (5,) if processor.cr4 & CR4_LA57 else (4,)
    for levels in depths:
        # The kernel's root is the first of a pair; without PTI there may be no pair.
        for place in dict.fromkeys((root & ~PTI_USER, root)):
            table = PageTable(
                read_physical, table_format, levels, place, absent_errors=(Fault,)
            )
            first = _first_mapping(table)
            if first is not None:
                va, pa = first
                yield Boot(
                    va - text.address & MASK_64,
                    f"page tables at {place:#x} (cr3), physical memory",
                    pa - (va - KERNEL_MAP),
                    levels,
                )


def _first_mapping(table: PageTable) -> tuple[int, int] | None:
    """(va, pa) of the first page that is mapped where the image may be."""
    fmt = table.format
    for item in table.for_each_table(KERNEL_MAP, KERNEL_MAP + IMAGE_SPAN):
        if isinstance(item, AbsentTable):
            return None
        if isinstance(item, HugeLeaf):
            return item.va, fmt.leaf_pa(item.entry, item.level)
        for index in range(item.first, item.last):
            if item.entries[index] & fmt.present_mask:
                va = item.va + (index << fmt.page_shift)
                return va, fmt.leaf_pa(item.entries[index], 1)
    return None


def _from_idt(symbols: ElfSymbols, processor: Processor, read: Read) -> Iterator[Boot]:
    """Gate 0 leads to the handler of division by zero."""
    names = (symbols.linked(name) for name in FIRST_GATES)
    handler = next((found for found in names if found is not None), None)
    if handler is None or processor.idt is None:
        return
    try:
        low, _, _, middle, high = struct.unpack("<HHHHI", read(processor.idt, 12))
    except Fault:
        return
    offset = (high << 32 | middle << 16 | low) - handler.address & MASK_64
    if offset % STEP == 0 and offset < IMAGE_SPAN:
        yield Boot(offset, "interrupt table, gate 0", None, _levels(processor))


def _from_banner(symbols: ElfSymbols, processor: Processor) -> Iterator[Boot]:
    for offset in range(0, IMAGE_SPAN, STEP):
        yield Boot(offset, "search for the banner", None, _levels(processor))


def _levels(processor: Processor) -> int | None:
    if processor.cr4 is None:
        return None
    return 5 if processor.cr4 & CR4_LA57 else 4


def image_reader(
    boot: Boot, read: Read | None, read_physical: Read | None
) -> Read | None:
    """A reader of the kernel image: by arithmetic where ``phys_base`` is known."""
    if boot.phys_base is None or read_physical is None:
        return read
    base, physical = boot.phys_base, read_physical
    return lambda va, size: physical(va - KERNEL_MAP + base & MASK_64, size)


class _NoFacts:
    """Nothing is known of a kernel before it is found."""

    vmcoreinfo: dict[str, str] = {}  # noqa: RUF012 - read only

    def symbol(self, name: str) -> int | None:
        return None

    def unsigned(self, name: str) -> int | None:
        return None
