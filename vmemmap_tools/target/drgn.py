# SPDX-License-Identifier: LGPL-2.1-or-later
"""The memory of any drgn Program: vmcore, kdump, /proc/kcore, QMP, a script's prog.

drgn reads ranges that were filtered out of an ELF dump as zeros; here they are faults,
because the program headers are asked first (`SegmentMap`). `DrgnTarget` is this memory
with drgn's own types and symbols.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Callable

import drgn

from ..arch.pagetable import PageTable
from ..formats.elf import SegmentMap
from ..formats.kdump_header import KdumpPages
from .base import ByteOrder, Evidence, Fault, PhysicalRange, TargetError
from .composed import TypedMemory
from .drgn_types import DrgnSymbols, DrgnTypes
from .kernel_tables import kernel_page_table
from .recorded import CapsuleNote
from .vmcoreinfo import VmcoreInfo

__all__ = ["DrgnMemory", "DrgnTarget"]

PAGE = 4096


class DrgnMemory:
    """Reads a kernel's memory through a drgn Program.

    ``segments`` are an ELF dump's program headers, or the pages of a kdump file that is
    incomplete; None for other sources. ``incomplete`` is a sentence on what the file
    lacks. ``reopen`` makes a new Program where a source's memory may come and go: drgn
    notes only at the start what there is.
    """

    def __init__(
        self,
        prog: drgn.Program,
        segments: SegmentMap | KdumpPages | None = None,
        source: str = "drgn Program",
        reopen: Callable[[], drgn.Program] | None = None,
        capsule: CapsuleNote | None = None,
        incomplete: str = "",
    ):
        self.prog = prog
        self.incomplete = incomplete
        self.capsule = capsule
        self.reopen = reopen
        self.live = bool(prog.flags & drgn.ProgramFlags.IS_LIVE)
        self.is_kcore = self.live and bool(prog.flags & drgn.ProgramFlags.IS_LOCAL)
        platform = prog.platform
        self.arch = platform.arch.name.lower() if platform else "unknown"
        little = not platform or platform.flags & drgn.PlatformFlags.IS_LITTLE_ENDIAN
        self.byteorder: ByteOrder = "little" if little else "big"
        self.segments = segments
        self.source = source
        self.vmcoreinfo = VmcoreInfo(_vmcoreinfo_text(prog))
        self._page_table: PageTable | None = None
        # ELF dumps that hold every byte they name need no second look.
        self._checked = segments is not None and (
            segments.has_holes or capsule is not None
        )
        # drgn's own walk takes the bit of encrypted memory for part of an address.
        is_encrypted = self.vmcoreinfo.number("sme_mask") or 0
        self._walks = self._checked or bool(is_encrypted)

    def read(self, address: int, size: int) -> bytes:
        if self._walks:
            return b"".join(
                self.read_physical(pa, length)
                for pa, length in self._translate(address, size)
            )
        try:
            return bytes(self.prog.read(address, size))
        except drgn.FaultError as error:
            raise _fault(error, address, size, physical=False) from None
        except (OverflowError, ValueError):
            raise Fault(address, size, "unmapped") from None
        except OSError as error:
            raise self._gone(error) from None

    def read_physical(self, address: int, size: int) -> bytes:
        if self._checked:
            assert self.segments is not None
            absent = self.segments.first_absent(address, size)
            if absent:
                raise Fault(absent[0], size, absent[1], physical=True)
        try:
            return bytes(self.prog.read(address, size, True))
        except drgn.FaultError as error:
            raise _fault(error, address, size, physical=True) from None
        except (OverflowError, ValueError):
            raise Fault(address, size, "outside", physical=True) from None
        except OSError as error:
            raise self._gone(error) from None

    def _gone(self, error: OSError) -> TargetError:
        """Not some memory is missing, but all: a guest ended, a file was lost."""
        return TargetError(f"{self.source} can no longer be read: {error.strerror}")

    def refresh(self) -> None:
        self._page_table = None
        if self.reopen is not None:
            self.prog = self.reopen()

    def ranges(self) -> Sequence[PhysicalRange]:
        if self.segments is None:
            return ()
        return [PhysicalRange(e.start, e.end, e.present) for e in self.segments.extents]

    def _translate(self, address: int, size: int) -> Iterator[tuple[int, int]]:
        """Physical pieces of a virtual range, by our own walk. Raises `Fault`."""
        table = self._kernel_page_table()
        end = address + size
        while address < end:
            translation = table.translate(address)
            if translation is None:
                raise Fault(address, end - address, "unmapped")
            length = min(end - address, PAGE - address % PAGE)
            yield translation.pa, length
            address += length

    def _kernel_page_table(self) -> PageTable:
        if self._page_table is None:
            self._page_table = kernel_page_table(self)
        if self._page_table is None:
            raise Fault(0, 0, "unmapped")
        return self._page_table

    def evidence(self) -> list[Evidence]:
        found = [Evidence("memory", self.source, f"drgn {drgn.__version__}")]
        if self.incomplete:
            found.append(Evidence("dump", "incomplete", self.incomplete))
        return found


class DrgnTarget(DrgnMemory, TypedMemory):
    """A drgn Program as a Target: its memory, its types, its symbols.

    ``release`` is shown instead of the Program's when that had to be altered for a
    library.
    """

    def __init__(
        self,
        prog: drgn.Program,
        segments: SegmentMap | KdumpPages | None = None,
        release: str | None = None,
        source: str = "drgn Program",
        reopen: Callable[[], drgn.Program] | None = None,
        capsule: CapsuleNote | None = None,
        incomplete: str = "",
    ):
        super().__init__(prog, segments, source, reopen, capsule, incomplete)
        self._combine(DrgnTypes(prog), DrgnSymbols(prog))
        self.release = release or self.vmcoreinfo.get("OSRELEASE", "unknown")

    @classmethod
    def over(cls, memory: DrgnMemory, release: str | None = None) -> DrgnTarget:
        """The Program of an opened memory as a Target."""
        return cls(
            memory.prog,
            memory.segments,
            release,
            memory.source,
            memory.reopen,
            memory.capsule,
            memory.incomplete,
        )

    def unsigned(self, name: str) -> int | None:
        return self.unsigned_from(self, name)

    def evidence(self) -> list[Evidence]:
        return [
            *super().evidence(),
            *self.types.evidence(),
            *self.symbols.evidence(),
        ]


def _vmcoreinfo_text(prog: drgn.Program) -> str:
    try:
        return str(prog["VMCOREINFO"].string_(), "utf-8", "replace")
    except LookupError:
        return ""


def _fault(error: drgn.FaultError, address: int, size: int, *, physical: bool) -> Fault:
    """Tell by drgn's message why a read failed; it has no codes for that."""
    message = str(error)
    if "Excluded page" in message:
        kind = "excluded"
    elif "not mapped" in message:
        kind = "unmapped"
    elif "memory segment" in message or "Out-of-bounds" in message:
        kind = "outside"
    else:
        kind = "io"
    if "range" in message and kind == "io":
        kind = "outside"
    return Fault(address, size, kind, physical)
