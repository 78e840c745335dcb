# SPDX-License-Identifier: LGPL-2.1-or-later
"""Faulty dumps without writing them: a healthy dump with changed pages laid over it.

Types and symbols are those of the dump that was written once for a generation; memory
is read from it too, but for the frames that a fault changed in the model's image.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path

from vmemmap_tools.analysis.check import Checker, Finding
from vmemmap_tools.analysis.check.findings import group
from vmemmap_tools.analysis.check.registry import all_rules
from vmemmap_tools.kernel.kernel import Kernel
from vmemmap_tools.model.faults import Planted, apply
from vmemmap_tools.model.image import Image
from vmemmap_tools.model.machine import Machine
from vmemmap_tools.target.base import Fault
from vmemmap_tools.target.drgn import DrgnTarget
from vmemmap_tools.target.drgn_open import open_dump

__all__ = ["Bench", "Holes", "Overlay", "find"]

PAGE = 4096


class Overlay(DrgnTarget):
    """A dump's target in which some frames hold other bytes."""

    def __init__(self, base: DrgnTarget, frames: dict[int, bytes]):
        super().__init__(base.prog, None, base.release, "overlay")
        self._frames = frames
        self.struct = base.struct

    def read(self, address: int, size: int) -> bytes:
        pieces = self._translate(address, size)
        return b"".join(self.read_physical(pa, length) for pa, length in pieces)

    def read_physical(self, address: int, size: int) -> bytes:
        first, last = address // PAGE, (address + size - 1) // PAGE
        if not any(pfn in self._frames for pfn in range(first, last + 1)):
            return super().read_physical(address, size)
        parts = []
        while size:
            pfn, offset = divmod(address, PAGE)
            length = min(size, PAGE - offset)
            page = self._frames.get(pfn)
            if page is None:
                page = super().read_physical(pfn * PAGE, PAGE)
            parts.append(page[offset : offset + length])
            address, size = address + length, size - length
        return b"".join(parts)


class Holes(Overlay):
    """A dump's target that lacks some frames, as a filtered or truncated dump does."""

    def __init__(self, base: DrgnTarget, missing: Collection[int]):
        super().__init__(base, {})
        self._missing = missing
        self.touched: set[int] = set()

    def read_physical(self, address: int, size: int) -> bytes:
        for pfn in range(address // PAGE, (address + size - 1) // PAGE + 1):
            if pfn in self._missing:
                start = max(address, pfn * PAGE)
                raise Fault(start, size, "excluded", physical=True)
            self.touched.add(pfn)
        return super().read_physical(address, size)


class Bench:
    """A machine, its dump, and faults to lay over it."""

    def __init__(self, machine: Machine):
        self.machine = machine
        self._directory = tempfile.TemporaryDirectory()
        self.path = path = Path(self._directory.name)
        machine.write(path)
        target = open_dump(str(path / "vmcore"), symbols=[str(path / "vmlinux")])
        assert isinstance(target, DrgnTarget)
        self.target = target
        self._pages = _stored(machine.image())

    @property
    def structures(self) -> list[int]:
        """Frames that hold page tables and the kernel's data, not struct pages."""
        return sorted(self._pages)

    def healthy(self) -> Kernel:
        """The dump as it was written."""
        return Kernel(self.target)

    def faulty(
        self, names: Sequence[str], seed: int = 1
    ) -> tuple[Kernel, list[Planted]]:
        """The dump with faults; NotApplicable where one finds no place."""
        image = self.machine.image()
        planted = apply(image, names, seed)
        return self.over(image), planted

    def over(self, image: Image) -> Kernel:
        """The dump with what differs in an image of the same machine."""
        changed = {
            pfn: content
            for pfn, content in _stored(image).items()
            if self._pages.get(pfn) != content
        }
        return Kernel(Overlay(self.target, changed))


def _stored(image: Image) -> dict[int, bytes]:
    return {pfn: bytes(page) for pfn, page in image.memory._pages.items()}


def find(kernel: Kernel, quick: bool = False) -> tuple[Checker, list[Finding]]:
    """The findings of all rules, one for each cause."""
    checker = Checker(kernel, all_rules(), quick)
    return checker, list(group(checker.findings()))
